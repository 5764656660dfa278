"""Trees as arrays: they say what scikit-learn's say, and take the same branches where a threshold is no float32."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from router_ml.learning.graph import Graph
from router_ml.learning.trees import Trees


def neighbours() -> tuple[np.ndarray, np.ndarray]:
    """One feature of two adjacent float32 values, whose midpoint no float32 is, and a target that tells them apart."""
    low = np.float32(0.1)
    X = np.repeat([low, np.nextafter(low, np.float32(1))], 50)[:, None]
    return X, np.repeat([0.0, 1.0], 50)


def boosted(X: np.ndarray, y: np.ndarray, n_trees: int = 7) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(max_iter=n_trees, max_leaf_nodes=6, early_stopping=False).fit(X, y)


def test_trees_sum_to_what_scikit_learn_predicts() -> None:
    X = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    y = X[:, 0] * X[:, 1] + np.abs(X[:, 2])
    model = boosted(X, y)

    assert Trees.of(model).leaves(X).sum(axis=1) + y.mean() == pytest.approx(model.predict(X), abs=1e-6)


def test_values_that_only_a_double_lies_between_are_told_apart() -> None:
    X, y = neighbours()
    model = boosted(X, y)
    trees = Trees.of(model)

    assert float(model._predictors[0][0].nodes[0]["num_threshold"]) not in X.astype(np.float64)
    assert set(trees.threshold[trees.left != np.arange(len(trees.left))]) == {X[0, 0]}
    assert trees.leaves(X).sum(axis=1) + y.mean() == pytest.approx(model.predict(X), abs=1e-6)


def test_margins_keep_values_that_differ_in_their_last_bits_on_one_side() -> None:
    # Two groups of values, one at 0.1 and one at 0.5, each scattered over the last bits; the target follows the bits.
    rng = np.random.default_rng(0)
    groups = np.repeat([0.1, 0.5], 100)
    X = (groups + 1e-7 * rng.normal(size=200)).astype(np.float32)[:, None]
    trees = Trees.of(boosted(X, groups + (X[:, 0] > groups)))
    again = (groups + 1e-7 * rng.normal(size=200)).astype(np.float32)[:, None]

    assert np.abs(trees.leaves(X) - trees.leaves(again)).max() > 0
    assert np.array_equal(trees.with_margins(X).leaves(X), trees.with_margins(X).leaves(again))


def test_margins_move_thresholds_by_little() -> None:
    X = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    trees = Trees.of(boosted(X, X[:, 0]))
    moved = trees.with_margins(X)

    assert 0 < np.abs(moved.threshold - trees.threshold).max() < 0.011 * X.std(axis=0).max()
    assert (moved.leaves(X) == trees.leaves(X)).mean() > 0.97


def test_joined_trees_say_what_each_part_says() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2)).astype(np.float32)
    parts = [Trees.of(boosted(X, X[:, 0], 3)), Trees.none(), Trees.of(boosted(X, X[:, 1], 4))]

    assert np.array_equal(Trees.join(parts).leaves(X), np.hstack([p.leaves(X) for p in parts]))
    assert np.array_equal(Trees.join(parts).leaves(X, slice(4, 8)), parts[2].leaves(X))


def test_graph_imports_the_domain_that_it_uses_and_no_other() -> None:
    def imported(with_trees: bool) -> dict[str, int]:
        graph = Graph()
        x = graph.input("x", np.float32, ["n", 1])
        y = Trees.none().to_graph(graph, x, np.zeros(1), np.ones((1, 1), bool)) if with_trees else graph.node("Exp", x)
        graph.output(y, "y", ["n", 1])
        return {o.domain: o.version for o in graph.model().opset_import}

    assert imported(False) == {"": 20}
    assert imported(True) == {"": 20, "ai.onnx.ml": 3}
