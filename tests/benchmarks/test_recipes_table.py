"""The benchmark: the contest on planted routers, and the whole run on simulated traffic."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import recipes_latency as benchmark_latency
from benchmarks import recipes_table as benchmark
from benchmarks.contest import Contest, Contestant, Rows, contest, split_rows
from benchmarks.recipes import Choice, Estimate
from benchmarks.recipes_report import spread, to_figure, to_markdown
from router_ml.datasets import TIERS_PATH, sample_ladder, simulate
from router_ml.errors import InputError
from router_ml.traffic.observations import Observations, observe

N, COST = 600, np.array([0.001, 0.002, 0.01])
P = np.array([[0.9, 0.9, 0.9], [0.1, 0.3, 0.9]])
"""Chance of a good answer on an easy prompt and on a hard one, by tier."""


@pytest.fixture(scope="module")
def observations() -> Observations:
    """Half of the prompts are easy; each hundredth text stands twice."""
    seen = observe(simulate(N, random_state=0), sample_ladder())
    texts = np.array([f"prompt {i - (i % 100 == 1)}" for i in range(N)], dtype=object)
    quality = (np.random.default_rng(0).random((N, 3)) < P[np.arange(N) % 2]).astype(float)
    alone = np.full(N, "")
    return dataclasses.replace(seen, prompt=texts, session_id=alone, quality=quality, cost_usd=np.tile(COST, (N, 1)))


def constant(quality: np.ndarray) -> Callable[[Rows, Rows, int], Estimate]:
    """A router that expects the given quality [N, T] of each prompt."""
    return lambda _train, test, _seed: Estimate(quality[test], np.tile(COST, (len(test), 1)))


@pytest.fixture(scope="module")
def entrants() -> list[Contestant]:
    rng = np.random.default_rng(1)
    knows, noise = P[np.arange(N) % 2], rng.random((N, 3))
    return [
        Contestant("planted", "ours", constant(knows)),
        Contestant("noise", "published", constant(noise)),
        Contestant("half noise", "published", constant(knows + 2 * noise)),
        Contestant("the same", "control", constant(knows)),
        Contestant(
            "cheapest", "published", lambda _train, test, _: Choice(np.zeros(len(test), dtype=np.intp)), swept=False
        ),
    ]


@pytest.fixture(scope="module")
def found(entrants: list[Contestant], observations: Observations) -> Contest:
    return contest(entrants, observations, n_seeds=2, n_resamples=60)


def strip_times(found: Contest) -> str:
    """As text, in which NaN equals NaN."""
    return repr([dataclasses.replace(line, fit_s=()) for line in (*found.frontiers, *found.points)])


def test_what_knows_the_difficulty_beats_the_best_recipe_significantly(found: Contest) -> None:
    against = found.frontier("planted").against_published
    assert found.best_published == "half noise"
    assert against is not None
    assert against.low > 0


def test_a_router_and_its_twin_differ_by_nothing(found: Contest) -> None:
    against = found.frontier("planted").against_control
    assert against is not None
    assert (against.estimate, against.low, against.high) == (0, 0, 0)


def test_intervals_contain_their_estimates(found: Contest) -> None:
    intervals = [
        interval
        for line in found.frontiers
        for interval in (line.cross_fitted, line.against_published, line.against_control)
        if interval is not None
    ]
    assert len(intervals) == 4 + 3 + 3
    assert all(i.low <= i.estimate <= i.high for i in intervals)


def test_the_best_recipe_is_not_compared_with_itself(found: Contest) -> None:
    assert found.frontier("half noise").against_published is None


def test_references_span_the_scale(found: Contest) -> None:
    zero, oracle = found.frontier("zero router"), found.frontier("oracle")
    assert (zero.gap_closed, oracle.gap_closed) == (0, 1)
    assert all(abs(m.cost_save_100) < 1e-9 for m in zero.metrics)  # it needs the best tier itself


def test_always_the_cheapest_lies_on_the_zero_router(found: Contest) -> None:
    (line,) = found.points
    np.testing.assert_allclose(line.above_zero, 0, atol=1e-12)


def test_the_same_contest_gives_the_same_figures(
    found: Contest, entrants: list[Contestant], observations: Observations
) -> None:
    again = contest(entrants, observations, n_seeds=2, n_resamples=60)
    assert strip_times(again) == strip_times(found)


def test_splits_decided_side_by_side_give_the_same_figures(
    found: Contest, entrants: list[Contestant], observations: Observations
) -> None:
    again = contest(entrants, observations, n_seeds=2, n_resamples=60, jobs=2)
    assert strip_times(again) == strip_times(found)


def test_no_text_is_on_both_sides(observations: Observations) -> None:
    split = split_rows(observations, 3)
    assert not set(observations.prompt[split.train]) & set(observations.prompt[split.test])
    assert len(split.train) + len(split.test) == N


def test_seeds_split_differently(observations: Observations) -> None:
    assert not np.array_equal(split_rows(observations, 0).test, split_rows(observations, 1).test)


def test_a_small_log_is_drawn_from_the_training_side_and_tested_on_the_same_prompts(observations: Observations) -> None:
    whole, small = split_rows(observations, 0), split_rows(observations, 0, small=50)
    assert len(small.train) == 50
    assert set(small.train) < set(whole.train)
    assert np.array_equal(small.test, whole.test)


def test_more_prompts_than_there_are_cannot_be_asked_for(observations: Observations) -> None:
    with pytest.raises(InputError, match="learn from"):
        split_rows(observations, 0, small=N)


def test_names_must_differ(entrants: list[Contestant], observations: Observations) -> None:
    with pytest.raises(InputError, match="different names"):
        contest([entrants[0], entrants[0]], observations)


def test_the_page_has_latencies_and_what_a_search_chose(found: Contest) -> None:
    searched = dataclasses.replace(found.frontier("planted"), chosen=("knn", "mlp", "knn"))
    lines = tuple(searched if line.name == "planted" else line for line in found.frontiers)
    page = to_markdown(dataclasses.replace(found, frontiers=lines), {"planted": 0.05}, facts=FACTS)
    row = next(line for line in page.splitlines() if line.startswith("| **planted**"))
    assert row.endswith("| 0.05 |")
    assert "planted chose knn on 2, mlp on 1 of 3 splits." in page


def test_the_figure_is_a_png_whatever_lies_far_below(found: Contest) -> None:
    assert found.frontier("noise").gap_closed < -0.15
    png = to_figure(found, {"planted": 0.05, "noise": 30.0, "half noise": 30.0}, name="made up")
    assert png.startswith(b"\x89PNG")


def test_labels_keep_their_distance_and_order() -> None:
    # The three low ones share the cost of moving apart; by hand: 0, 5 - 4, 5 - 8 pool to -2/3.
    np.testing.assert_allclose(spread(np.array([5.0, 0.0, 5.0, 20.0]), 4.0), [10 / 3, -2 / 3, 22 / 3, 20])


FACTS = {
    "name": "made up",
    "command": "python",
    "latency": "",
    "machine": "",
    "tiers": [{"name": str(t), "quality": q, "cost_usd": c} for t, (q, c) in enumerate(zip(P[1], COST, strict=True))],
}


# --- the whole run


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    halves = simulate(200, random_state=0).partition_by("prompt_id", maintain_order=True)
    paths = [folder / "train.parquet", folder / "test.parquet"]
    for path, half in zip(paths, (halves[:120], halves[120:]), strict=True):
        pl.concat(half).write_parquet(path)
    benchmark.run(
        paths,
        folder / "out",
        tiers=TIERS_PATH,
        learners="knn",
        recipes="Avengers-Pro,LLMRouter kNN",
        encoder_for_recipes="static",
        n_seeds=1,
        n_resamples=20,
        cascade=True,
        name="simulated",
    )
    return folder / "out"


def test_the_table_has_a_row_for_each(out: Path) -> None:
    page = (out / "benchmark.md").read_text()
    names = (
        "**ours: knn** |",
        "**ours: knn + cascade** |",
        "Avengers-Pro |",
        "LLMRouter kNN |",
        "zero router |",
        "oracle |",
        "random mix |",
    )
    assert all(f"\n| {name}" in page for name in names)


def test_the_figures_are_valid_json_with_latencies(out: Path) -> None:
    content = json.loads((out / "benchmark.json").read_text())
    assert len(content["latency_ms"]) == 3
    assert all(ms > 0 for ms in content["latency_ms"].values())
    assert content["n_train"][0] + content["n_test"][0] == 200
    assert [line["kind"] for line in content["frontiers"]] == ["ours", "ours", "published", "reference", "reference"]


def test_our_artifact_and_the_figure_are_there(out: Path) -> None:
    assert (out / "knn.onnx").exists()
    assert (out / "quality-latency.png").read_bytes().startswith(b"\x89PNG")


def test_default_stands_for_the_default_learner_once() -> None:
    default = benchmark.learner_names("default")
    assert benchmark.learner_names(f"default,{default[0]},knn") == [*default, "knn"]


@pytest.mark.parametrize("asked", [benchmark.learner_names, benchmark.recipe_names])
def test_an_unknown_name_says_what_there_is(asked: Callable[[str], object]) -> None:
    with pytest.raises(InputError, match="choose from"):
        asked("nothing of the kind")


def test_recipes_come_in_the_order_of_the_table() -> None:
    assert benchmark.recipe_names("logistic,CARROT kNN") == ["CARROT kNN", "logistic"]
    assert benchmark.recipe_names("none") == []


def test_latency_prompts_have_one_length() -> None:
    assert {len(p) for p in benchmark_latency.latency_prompts(["short", "long " * 200, " "])} == {
        4 * benchmark_latency.TOKENS
    }
