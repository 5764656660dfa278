"""Novelty: 1 on average where it was fitted, more where prompts are unlike that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from router_ml.learning.graph import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.novelty import Novelty


def sample(n: int, seed: int = 0, d: int = 60) -> np.ndarray:
    """Rows with a few wide directions, as embeddings have."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) * np.geomspace(10, 0.1, d)).astype(np.float32)


@pytest.mark.parametrize(("n", "within"), [(2000, 0.1), (60, 0.6)])
def test_mean_on_new_prompts_of_the_same_kind_is_near_one(n: int, within: float) -> None:
    # With as many prompts as directions a half of them, which the scale is from, sees less than the whole.
    assert Novelty.fit(sample(n)).predict(sample(2000, seed=1)).mean() == pytest.approx(1, abs=within)


def test_prompts_far_off_score_higher_than_any_seen() -> None:
    X = sample(500)
    novelty = Novelty.fit(X)

    assert novelty.predict(X[:20] + 50 * X.std(axis=0)).min() > novelty.predict(X).max()


def test_step_along_a_narrow_direction_counts_more_than_one_along_a_wide_direction() -> None:
    X = sample(500)
    novelty, steps = Novelty.fit(X), X.mean(axis=0) + 5 * np.eye(60, dtype=np.float32)[[0, 59]]

    wide, narrow = novelty.predict(steps)
    assert narrow > 10 * wide


@pytest.mark.parametrize("n", [5, 40, 500])
def test_novelty_is_never_negative(n: int) -> None:
    X = sample(n)

    assert Novelty.fit(X).predict(np.vstack([X, sample(100, seed=1)])).min() >= -1e-9


def test_graph_gives_what_numpy_gives(run_graph: Callable[..., list[np.ndarray]]) -> None:
    novelty, X = Novelty.fit(sample(500)), sample(100, seed=1)

    def build(graph: Graph, x: InputNames) -> list[str]:
        return [novelty.to_graph(graph, x.features)]

    inputs = Inputs(X, [np.empty(0, np.int32)] * len(X))
    np.testing.assert_allclose(run_graph(build, inputs)[0], novelty.predict(X), rtol=1e-3)
