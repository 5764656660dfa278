"""The benchmark of off-policy evaluation, small and on simulated traffic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import off_policy as benchmark
from benchmarks.off_policy import FLOOR, Population
from router_ml.core.router import Router
from router_ml.datasets import simulate
from router_ml.errors import InputError
from router_ml.evaluation.off_policy.report import ROUTER


@pytest.fixture(scope="module")
def test_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("off-policy") / "test.parquet"
    simulate(500, random_state=3).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def population(artifact: Path, test_path: Path) -> Population:
    return Population.of(Router.load(artifact), test_path)


@pytest.fixture(scope="module")
def out(artifact: Path, test_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    options = {"router": artifact, "n_logs": 60, "n_estimated": 2, "n_refusals": 1}
    benchmark.run(test_path, test_path, folder, **options)
    return folder


def test_what_is_asked_is_seen(out: Path) -> None:
    found = json.loads((out / "off_policy.json").read_text())
    logged = [verdict for verdict in found["asked"] if not verdict["what"].startswith("estimated")]
    assert all(verdict["held"] for verdict in logged), logged
    assert len(logged) == 6
    router = next(r for r in found["estimates"]["logged"] if (r["policy"], r["reward"]) == (ROUTER, "quality"))
    assert (router["estimator"], abs(router["bias"]) < 0.01) == ("doubly_robust", True)


def test_the_page_says_what_was_asked_first(out: Path) -> None:
    page = (out / "off_policy.md").read_text()
    assert page.index("| logged: truth covered | at least 0.93 |") < page.index("| router | quality | doubly_robust |")
    assert "| logs refused, by length, no propensities | at least 1 | 1 | yes |" in page
    assert "## Propensities estimated, 2 logs" in page


def test_the_true_value_is_the_mean_of_the_table(population: Population) -> None:
    seen = population.seen
    assert population.truth("always nano", "quality") == pytest.approx(seen.quality[:, 0].mean())
    chosen = seen.cost_usd[np.arange(len(seen)), population.choice]
    assert population.truth(ROUTER, "cost_usd") == pytest.approx(chosen.mean())


def test_the_logging_policy_depends_on_the_prompt_and_tries_all(population: Population) -> None:
    chance = benchmark.random_policy(np.random.default_rng(0), population.seen, 3)
    np.testing.assert_allclose(chance.sum(axis=1), 1)
    assert chance.min() >= FLOOR
    assert chance.std(axis=0).min() > 0.05


def test_a_log_holds_what_the_table_says(population: Population) -> None:
    rng = np.random.default_rng(0)
    chance = benchmark.random_policy(rng, population.seen, 3)
    log, rows = benchmark.simulate_log(rng, population, chance, 5000)
    assert (log.tried.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(log.quality[log.tried], population.seen.quality[rows][log.tried])
    assert log.propensity is not None
    # Each tier's share is the mean of its chances, and 1 / chance of the tried adds up to the number of rows.
    np.testing.assert_allclose(log.tried.mean(axis=0), chance[rows].mean(axis=0), atol=0.03)
    np.testing.assert_allclose(np.nansum(1 / log.propensity, axis=0), 5000, rtol=0.15)


def test_figures_are_reproducible(population: Population) -> None:
    first, second = (
        benchmark.measure(population, n_logs=3, n_rows=300, estimated=False, random_state=1) for _ in range(2)
    )
    assert first.equals(second)


def test_partial_traffic_has_no_known_truth(artifact: Path, tmp_path: Path) -> None:
    simulate(50, random_state=0, logged=True).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(InputError, match="the truth isn't known"):
        Population.of(Router.load(artifact), tmp_path / "log.parquet")


def test_logs_too_small_to_answer_are_said_to_be(population: Population) -> None:
    with pytest.raises(InputError, match="2 logs of 30 rows was refused; give more rows"):
        benchmark.measure(population, n_logs=2, n_rows=30, estimated=False, random_state=0)
