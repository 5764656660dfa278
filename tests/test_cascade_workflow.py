"""From responses in the traffic to a cascade in the report."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from router_ml.cli import main
from router_ml.core.router import Router
from router_ml.datasets import TIERS_PATH, simulate
from router_ml.workflow import evaluate_router


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Router:
    folder = tmp_path_factory.mktemp("cascade")
    simulate(300, random_state=0).write_parquet(folder / "traffic.parquet")
    arguments = [folder / "traffic.parquet", "--tiers", TIERS_PATH, "--learner", "logistic", "--cascade", "--no-track"]
    done = CliRunner().invoke(main, ["-q", "fit", *map(str, arguments), "--out", str(folder / "router.onnx")])
    assert done.exit_code == 0, done.output
    return Router.load(folder / "router.onnx")


@pytest.mark.parametrize(("n_lacking", "is_evaluated"), [(0, True), (5, True), (40, False)])
def test_a_few_prompts_without_a_response_are_left_out(
    router: Router, tmp_path: Path, n_lacking: int, is_evaluated: bool
) -> None:
    traffic = simulate(150, random_state=1)
    lacking = traffic["prompt_id"].unique(maintain_order=True)[:n_lacking]
    response = pl.when(pl.col("prompt_id").is_in(lacking.implode())).then(None).otherwise(pl.col("response"))
    traffic.with_columns(response.alias("response")).write_parquet(tmp_path / "held-out.parquet")

    assert (
        evaluate_router(router, [tmp_path / "held-out.parquet"], n_resamples=10).cascade is not None
    ) == is_evaluated
