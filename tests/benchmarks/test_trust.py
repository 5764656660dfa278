"""The benchmarks of signals, promises and partial logs, small, and what they ask."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from benchmarks import guarantees as benchmark_guarantees
from benchmarks import partial as benchmark_partial
from benchmarks import signals as benchmark_signals
from benchmarks.verdicts import Verdict, to_lines
from router_ml import workflow
from router_ml.core.policy import Reference, Rule, Utility
from router_ml.core.router import Router
from router_ml.datasets import TIERS_PATH, sample_ladder, simulate
from router_ml.evaluation.calibration import debiased_squared_error
from router_ml.evaluation.guarantees.promises import CalibrationSet
from router_ml.evaluation.tradeoff import Expectations
from router_ml.traffic.labels import Bar


def population(n: int = 800) -> CalibrationSet:
    """A cheap and a dear tier, and a router that knows its chances."""
    rng = np.random.default_rng(0)
    chance = np.column_stack([rng.random(n), np.full(n, 0.95)])
    met = (rng.random(chance.shape) < chance).astype(float)
    cost = np.tile([0.1, 1.0], (n, 1))
    expected = Expectations(chance, chance, cost, np.zeros(n))
    return CalibrationSet(expected, met, met, cost, bound=1.0, note="", slices={})


@pytest.mark.parametrize(
    ("verdict", "held"),
    [
        (Verdict("a", 0.03, "at most", 0.03), True),
        (Verdict("a", 0.031, "at most", 0.03), False),
        (Verdict("a", 0.6, "at least", 0.6), True),
        (Verdict("a", 0.59, "at least", 0.6), False),
        (Verdict("a", math.nan, "at most", 0.03), False),
        (Verdict("a", math.nan, "at least", 0.6), False),
    ],
)
def test_a_verdict_says_what_was_asked_seen_and_held(verdict: Verdict, held: bool) -> None:
    assert verdict.to_dict()["held"] is held
    assert to_lines([verdict])[-1].endswith("| yes |" if held else "| NO |")


@pytest.mark.parametrize("replace", [False, True])
def test_promises_are_kept_over_resplits(replace: bool) -> None:
    rule = Rule(Reference(), ("mini", "full"), 1, reference_cost_usd=1.0)
    policies = [Utility(price) for price in np.linspace(0, 1, 15)]
    rows = benchmark_guarantees.measure(population(), policies, rule, resplits=40, random_state=0, replace=replace)
    assert all(row.holds for row in rows)
    assert max(row.saving for row in rows) > 0.1


def test_a_broken_promise_is_seen() -> None:
    kept = benchmark_guarantees.Kept("loss", 0.02, 0.05, 1.0, broken=0.1, allowed=0.1, saving=0.2, hindsight=0.4)
    broken = dataclasses.replace(kept, broken=0.3)
    assert [v.held for v in benchmark_guarantees.verdicts([kept], None)] == [True]
    assert [v.held for v in benchmark_guarantees.verdicts([kept, broken], None)] == [False]


def test_a_vacuous_promise_is_seen_where_savings_are_asked() -> None:
    row = benchmark_guarantees.Kept("loss", 0.02, 0.05, 1.0, broken=0.0, allowed=0.1, saving=0.2, hindsight=0.4)
    elsewhere = [dataclasses.replace(row, limit=0.01, saving=0.0), dataclasses.replace(row, kind="violation", saving=0)]
    kept, saved = benchmark_guarantees.verdicts([row, *elsewhere], 0.5)
    assert (kept.held, saved.held, saved.seen) == (True, True, 0.5)
    assert not benchmark_guarantees.verdicts([row], 0.51)[1].held
    assert not benchmark_guarantees.verdicts([dataclasses.replace(row, hindsight=0.0)], 0.5)[1].held


def row_of_tier(ece: float, n: int = 501, **figures: float) -> dict[str, Any]:
    return {"tier": "nano", "n": n, "ece": ece, **figures}


@pytest.mark.parametrize(
    ("calibration", "crossfitted", "held"),
    [
        (row_of_tier(0.029, floor_high=0.02), None, [True]),
        (row_of_tier(0.031, floor_high=0.02), None, [False]),
        (row_of_tier(0.039, floor_high=0.04), None, [True]),  # noise alone may show 0.04
        (row_of_tier(0.041, floor_high=0.04), None, [False]),
        (row_of_tier(0.039, floor_high=0.04), row_of_tier(0.031), [False]),  # the cross-fitted ECE has no such excuse
        (row_of_tier(0.041, floor_high=0.04), row_of_tier(0.029), [True]),
        (row_of_tier(0.5, n=500, floor_high=0.04), None, []),
    ],
)
def test_an_ece_is_judged_with_rows_enough(
    calibration: dict[str, Any], crossfitted: dict[str, Any] | None, held: list[bool]
) -> None:
    found = benchmark_signals.ece_verdicts([calibration], [] if crossfitted is None else [crossfitted])
    assert [v.held for v in found] == held


@pytest.mark.parametrize(("away", "auroc", "held"), [(0.05, 0.95, [True, True]), (0.051, 0.949, [False, False])])
def test_novelty_is_judged_by_what_it_tells_apart_and_what_it_sends_away(
    away: float, auroc: float, held: list[bool]
) -> None:
    rows = [
        {"traffic": "own", "n": 9, "auroc": None, "above": away},
        {"traffic": "other", "n": 9, "auroc": auroc, "above": 1.0},
    ]
    assert [v.held for v in benchmark_signals.novelty_verdicts(rows)] == held


@pytest.mark.parametrize(
    ("full", "given", "estimated", "held"),
    [(0.1, 0.085, 0.075, [True, True]), (0.1, 0.08, 0.07, [False, False]), (0.0, 0.1, 0.1, [False, False])],
)
def test_partial_logs_are_judged_by_their_share(full: float, given: float, estimated: float, held: list[bool]) -> None:
    least = {"given": 0.849, "estimated": 0.749}
    found = benchmark_partial.verdicts(full, {"given": given, "estimated": estimated}, least)
    assert [v.held for v in found] == held


@pytest.mark.slow
def test_probabilities_mean_what_they_say_and_bent_ones_are_seen(tmp_path: Path) -> None:
    simulate(2000, random_state=0).write_parquet(tmp_path / "train.parquet")
    simulate(6000, random_state=1).write_parquet(tmp_path / "test.parquet")
    options = workflow.FitOptions(learner="logistic", n_folds=2)
    files = [tmp_path / "train.parquet"]
    workflow.fit(files, tmp_path / "r.onnx", ladder=sample_ladder(), options=options, track=False)
    p, met = benchmark_signals.held_out(Router.load(tmp_path / "r.onnx"), tmp_path / "test.parquet")
    for shown, held in ((p, True), (p**2, False)):
        rows = benchmark_signals.calibration_rows(("nano", "mini", "full"), shown, met)
        assert [v.held for v in benchmark_signals.ece_verdicts(rows, [])] == [held] * 3
        # Less the noise of 6,000 prompts: 0, 0.02 and 0 as it is; 0.16, 0.12 and 0.14 bent.
        squares = [debiased_squared_error(shown[:, t], met[:, t]).estimate for t in range(3)]
        assert [square <= 0.03**2 for square in squares] == [held] * 3


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


def topics(n: int, *, random_state: int) -> pl.DataFrame:
    """Prompts in the words of one of six topics, from easy to hard; three tiers, the small one far behind on hard ones."""
    rng = np.random.default_rng(random_state)
    words = [[a + b for b in ("lor", "mit", "sen", "pax", "dun", "vek")] for a in ("ba", "ce", "di", "fo", "gu", "ky")]
    chance = np.array(
        [[0.9, 0.9, 0.95], [0.8, 0.9, 0.9], [0.3, 0.9, 0.95], [0.2, 0.8, 0.9], [0.1, 0.3, 0.9], [0.1, 0.2, 0.85]]
    )
    rows = []
    for number in range(n):
        topic = int(rng.integers(len(words)))
        prompt = " ".join([*rng.choice(words[topic], int(rng.integers(5, 15))), str(number)])
        met = (rng.random(3) < chance[topic]).astype(float)
        rows += [
            (prompt, model, quality, cost_usd, str(topic))
            for model, quality, cost_usd in zip(("s", "m", "l"), met, (0.001, 0.004, 0.02), strict=True)
        ]
    return pl.DataFrame(rows, schema=["prompt", "model", "quality", "cost_usd", "category"], orient="row")


@pytest.mark.slow
def test_one_tier_a_prompt_teaches_most_of_what_all_do(tmp_path: Path) -> None:
    for name, n, random_state in (("train", 600, 0), ("test", 1500, 1)):
        topics(n, random_state=random_state).write_parquet(tmp_path / f"{name}.parquet")
    traffic = workflow.read_traffic([tmp_path / "train.parquet"]).traffic
    log = benchmark_partial.thin(traffic, "category", random_state=0)
    options = workflow.FitOptions(learner="logistic", bar=Bar(1.0), n_folds=2)
    full, given, estimated = (
        benchmark_partial.gap_closed(table, tmp_path / "test.parquet", tmp_path, None, options)[0]
        for table in (traffic, log, log.drop("propensity"))
    )
    assert full > 0.3
    assert min(benchmark_partial.share(given, full), benchmark_partial.share(estimated, full)) >= 0.75


@pytest.mark.slow
def test_the_benchmarks_fail_where_something_asked_is_not_seen(tmp_path: Path) -> None:
    split = workflow.split_traffic(simulate(500, random_state=0), sample_ladder(), test_share=0.5, random_state=0)
    for name in ("train", "test"):
        getattr(split, name).write_parquet(tmp_path / f"{name}.parquet")
    train, test, router = (str(tmp_path / name) for name in ("train.parquet", "test.parquet", "r.onnx"))
    options = workflow.FitOptions(learner="logistic", n_folds=2)
    workflow.fit([train], router, ladder=sample_ladder(), options=options, track=False)

    def run(benchmark: Any, name: str, *arguments: str) -> tuple[int, dict[str, bool], str]:
        done = CliRunner().invoke(benchmark.main, [*arguments, "--out", str(tmp_path)])
        found = json.loads((tmp_path / f"{name}.json").read_text())
        return done.exit_code, {v["what"]: v["held"] for v in found["asked"]}, done.stdout

    # A constant learns the same little from either log.
    constant = ("--tiers", str(TIERS_PATH), "--bar", "0.8", "--learner", "constant", "--draws", "1")
    code, asked, page = run(benchmark_partial, "partial", train, test, *constant, "--least-estimated", "1.5")
    assert (code, list(asked.values())) == (1, [True, False])
    assert "propensities given | at least 0.85 |" in page
    # No promise saves all that hindsight does.
    promises = (train, test, "--router", router, "--resplits", "10")
    code, asked, _ = run(benchmark_guarantees, "guarantees", *promises)
    assert (code, asked) == (0, {"broken promises of 12": True})
    code, asked, _ = run(benchmark_guarantees, "guarantees", *promises, "--least-saving", "1")
    assert (code, list(asked.values())) == (1, [True, False, False])
    # The training prompts are no more novel than the test prompts.
    signals = (test, "--router", router, "--train", train, "--learner", "constant", "--repeats", "1")
    code, asked, page = run(benchmark_signals, "signals", *signals, "--other", train)
    assert (code, asked["AUROC of novelty, train.parquet"]) == (1, False)
    assert "| without noise |" in page
