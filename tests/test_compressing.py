"""A fitted router, made smaller on traffic."""

from __future__ import annotations

from pathlib import Path

import pytest

from router_ml.core.router import Router
from router_ml.datasets import simulate
from router_ml.errors import InputError
from router_ml.workflow.compress import compress_router


def test_a_fitted_router_becomes_smaller_at_no_loss(artifact: Path, sample_path: Path, tmp_path: Path) -> None:
    result = compress_router(artifact, tmp_path / "small.onnx", [sample_path], weights="int8", prune=True)
    assert result.bytes_after < 0.7 * result.bytes_before
    assert result.aiq_loss == pytest.approx(0, abs=0.002)
    assert Router.load(tmp_path / "small.onnx").ladder == Router.load(artifact).ladder


def test_traffic_that_lacks_a_tier_still_gives_prompts(artifact: Path, tmp_path: Path) -> None:
    traffic = simulate(50, random_state=1)
    traffic.filter(traffic["model"] == traffic["model"][0]).write_parquet(tmp_path / "one.parquet")
    result = compress_router(artifact, tmp_path / "small.onnx", [tmp_path / "one.parquet"], weights="int8")
    assert result.n_prompts > 0
    assert result.aiq_loss is None


def test_without_traffic_simulated_prompts_are_compared_on(artifact: Path, tmp_path: Path) -> None:
    assert compress_router(artifact, tmp_path / "small.onnx", weights="int8").n_prompts > 100


def test_pruning_needs_traffic(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no traffic to prune to"):
        compress_router(artifact, tmp_path / "small.onnx", prune=True)


@pytest.mark.parametrize("fitted_on", [True, False])
def test_figures_on_the_training_traffic_are_warned_of(
    fitted_on: bool, artifact: Path, sample_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    simulate(50, random_state=1).write_parquet(tmp_path / "new.parquet")
    traffic = sample_path if fitted_on else tmp_path / "new.parquet"
    compress_router(artifact, tmp_path / "small.onnx", [traffic], weights="int8")
    assert ("THIS IS THE TRAFFIC THAT THE ROUTER WAS FITTED ON" in caplog.text) == fitted_on
