"""The benchmarks of promises and of partial logs, small."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from pipelines import benchmark_guarantees, benchmark_partial, benchmark_signals
from router_ml import workflow
from router_ml.core.router import Router
from router_ml.learning.promising import CalibrationSet
from router_ml.traffic.sample import TIERS_PATH, sample_ladder, simulate


def population(n: int = 800) -> CalibrationSet:
    """A cheap and a dear tier, and a router that knows its chances."""
    rng = np.random.default_rng(0)
    chance = np.column_stack([rng.random(n), np.full(n, 0.95)])
    met = (rng.random(chance.shape) < chance).astype(float)
    cost = np.tile([0.1, 1.0], (n, 1))
    return CalibrationSet(chance, chance, cost, np.zeros(n, dtype=bool), met, met, cost, 1.0, "", {})


@pytest.mark.parametrize("replace", [False, True])
def test_promises_are_kept_over_resplits(replace: bool) -> None:
    knobs = np.linspace(0, 1, 15)
    rows = benchmark_guarantees.measure(population(), "value", knobs, 1, resplits=40, random_state=0, replace=replace)
    assert all(row.holds for row in rows)
    assert max(row.saving for row in rows) > 0.1


def test_a_broken_promise_is_seen() -> None:
    row = benchmark_guarantees.Kept("loss", 0.02, 0.05, 1.0, 0.3, 0.1, 0.5, 0.4)
    assert "broken more often" in benchmark_guarantees.to_markdown([row], "x")


@pytest.mark.parametrize("kind", benchmark_partial.KINDS)
def test_thinning_keeps_one_answer_with_the_chance_that_it_had(kind: str) -> None:
    full = simulate(1500, random_state=0)
    log = benchmark_partial.thin(full, kind, random_state=0)
    assert log.height == full["prompt_id"].n_unique()
    # Each tier's inverse propensities add up to all prompts.
    sums = log.group_by("model").agg((1 / pl.col("propensity")).sum().alias("n"))["n"]
    assert sums.to_numpy() == pytest.approx(np.full(3, 1500), rel=0.15)


def test_the_interval_of_a_mean_over_logs_is_students() -> None:
    mean, low, high = benchmark_partial.mean_interval([0.1, 0.2, 0.3])
    assert (mean, low, high) == pytest.approx((0.2, 0.2 - 4.3027 * 0.1 / 3**0.5, 0.2 + 4.3027 * 0.1 / 3**0.5), rel=1e-3)
    assert np.isnan(benchmark_partial.mean_interval([0.1])[1])


def test_both_benchmarks_run_from_the_command_line(tmp_path: Path) -> None:
    split = workflow.split_traffic(simulate(500, random_state=0), sample_ladder(), test_share=0.5, random_state=0)
    for name in ("train", "test"):
        getattr(split, name).write_parquet(tmp_path / f"{name}.parquet")
    files = [str(tmp_path / "train.parquet"), str(tmp_path / "test.parquet")]
    partial = CliRunner().invoke(
        benchmark_partial.main,
        [
            *files,
            "--tiers",
            str(TIERS_PATH),
            "--bar",
            "0.8",
            "--learner",
            "constant",
            "--draws",
            "1",
            "--out",
            str(tmp_path / "p"),
        ],
    )
    assert partial.exit_code == 0, partial.output
    options = workflow.FitOptions(learner="logistic", n_folds=2)
    workflow.fit(files[:1], tmp_path / "r.onnx", ladder=sample_ladder(), options=options, track=False)
    promises = CliRunner().invoke(
        benchmark_guarantees.main,
        [*files, "--router", str(tmp_path / "r.onnx"), "--resplits", "10", "--out", str(tmp_path / "g")],
    )
    assert promises.exception is None or isinstance(promises.exception, SystemExit)
    kept = json.loads((tmp_path / "g" / "guarantees.json").read_text())
    assert {row["kind"] for row in kept} == {"loss", "violation"}
    assert (tmp_path / "g" / "guarantees.md").read_text().startswith("# Promises of r.onnx")
    signals = CliRunner().invoke(
        benchmark_signals.main,
        [
            files[1],
            "--router",
            str(tmp_path / "r.onnx"),
            "--other",
            files[0],
            "--train",
            files[0],
            "--learner",
            "logistic",
            "--repeats",
            "1",
            "--out",
            str(tmp_path / "s"),
        ],
    )
    assert signals.exit_code == 0, signals.output
    assert "| without noise |" in (tmp_path / "s" / "signals.md").read_text()
    # The training prompts are no more novel than the test prompts.
    assert (
        benchmark_signals.novelty_rows(Router.load(tmp_path / "r.onnx"), Path(files[1]), (files[0],))[1]["auroc"] < 0.6
    )
