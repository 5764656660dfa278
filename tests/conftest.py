"""What all tests share: the real traffic where it is at hand, simulated traffic, and a router fitted on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import polars as pl

# One BLAS thread in each worker (and in what it starts): more of them fight over the cores, and take ten times as long.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real traffic: $ROUTER_ML_DATA, or shared/data beside the repository."""
    folder = Path(os.environ.get("ROUTER_ML_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not any(folder.glob("*.parquet")):
        pytest.skip(f"The real traffic isn't at {folder}; set ROUTER_ML_DATA to its folder to run this test.")
    return folder


@pytest.fixture(scope="session")
def sample_traffic() -> pl.DataFrame:
    """Simulated traffic of 600 prompts, each answered by three tiers."""
    from router_ml.datasets import simulate

    return simulate(600, random_state=0)


@pytest.fixture(scope="session")
def sample_path(sample_traffic: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sample_traffic` as a Parquet file."""
    path = tmp_path_factory.mktemp("sample") / "traffic.parquet"
    sample_traffic.write_parquet(path)
    return path


@pytest.fixture(scope="session")
def artifact(sample_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router fitted on `sample_traffic`; read it only."""
    from router_ml.datasets import sample_ladder
    from router_ml.workflow import FitOptions, fit

    path = tmp_path_factory.mktemp("artifact") / "router.onnx"
    fit([sample_path], path, ladder=sample_ladder(), options=FitOptions(learner="logistic", n_folds=2), track=False)
    return path
