"""Regression trees as arrays: read from scikit-learn's gradient boosting, run in numpy, written as one ONNX node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_ml.learning.graph import Graph

__all__ = ["Trees"]

_MARGIN = 0.01
"""How far a threshold may move, in standard deviations: little beside a quantile's own error, much beside a float32's."""


@dataclass(frozen=True, slots=True)
class Trees:
    """Binary trees of m nodes in all, tree after tree, each tree's root first.

    Attributes
    ----------
    feature, threshold : array [m]
        A row goes left where ``x[feature] <= threshold``.
    left, right : array [m] of int
        Places of the children among all m nodes; a leaf is its own child.
    value : array [m]
        What a leaf says; of no meaning elsewhere.
    root : array [n_trees] of int
        Places of the roots.

    Notes
    -----
    Thresholds are rounded down to float32. No float32 lies between a threshold and what it is rounded to, so float32 features
    take the branches that they took before, here and in a graph. Features that are computed anew differ in their last bits:
    :meth:`with_margins`.
    """

    feature: NDArray[np.intp]
    threshold: NDArray[np.float32]
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    value: NDArray[np.float32]
    root: NDArray[np.intp]

    @classmethod
    def none(cls) -> Self:
        """One tree of one leaf that says 0."""
        place, number = np.zeros(1, dtype=np.intp), np.zeros(1, dtype=np.float32)
        return cls(place, number, place, place, number, place)

    @classmethod
    def of(cls, model: Any) -> Self:
        """The trees of a fitted ``HistGradientBoosting`` model of one output, without its baseline."""
        trees = [of_iteration[0].nodes for of_iteration in model._predictors]
        root = _starts([len(t) for t in trees])
        nodes, shift = np.concatenate(trees), np.repeat(root, [len(t) for t in trees])
        place, is_leaf = np.arange(len(nodes)), nodes["is_leaf"].astype(bool)
        exact = np.where(is_leaf, 0.0, nodes["num_threshold"])
        threshold = exact.astype(np.float32)
        return cls(
            np.where(is_leaf, 0, nodes["feature_idx"]),
            np.where(threshold > exact, np.nextafter(threshold, np.float32(-np.inf)), threshold),
            np.where(is_leaf, place, nodes["left"] + shift),
            np.where(is_leaf, place, nodes["right"] + shift),
            nodes["value"].astype(np.float32),
            root,
        )

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """All trees of the parts, in order."""
        starts = _starts([len(p.value) for p in parts])
        moved = [(p.left + s, p.right + s, p.root + s) for p, s in zip(parts, starts, strict=True)]
        left, right, root = (np.concatenate(c) for c in zip(*moved, strict=True))
        feature, threshold, value = (
            np.concatenate([getattr(p, name) for p in parts]) for name in ("feature", "threshold", "value")
        )
        return cls(feature, threshold, left, right, value, root)

    def with_margins(self, X: NDArray[np.float32]) -> Self:
        """The same trees with each threshold moved to where the rows of X [n, d] leave the widest gap near it.

        A graph computes features that differ from ours in their last bits, and where a threshold parts two values that are as near
        as that, it takes the other branch. Thresholds move by a hundredth of the feature's standard deviation at the most.
        """
        threshold = self.threshold.copy()
        branches = np.flatnonzero(self.left != np.arange(len(self.left)))
        for feature in np.unique(self.feature[branches]):
            values = np.sort(X[:, feature].astype(np.float64))
            # Of a column that is constant but for such bits, as near is further than all there is of it.
            near = max(_MARGIN * values.std(), 1e-5 * np.abs(values).max())
            for branch in branches[self.feature[branches] == feature]:
                t = float(self.threshold[branch])
                first, end = np.searchsorted(values, [t - near, t + near])
                points = np.array([t - near, *values[first:end], t + near])
                widest = int(np.argmax(np.diff(points)))
                threshold[branch] = points[widest : widest + 2].mean()
        return replace(self, threshold=threshold)

    def leaves(self, X: NDArray[np.float32], trees: slice = slice(None)) -> NDArray[np.float64]:
        """What each of the given trees says of each row of X [n, d]; shape [n, n_trees]."""
        root = self.root[trees]
        at, rows = np.broadcast_to(root, (len(X), len(root))), np.arange(len(X))[:, None]
        while True:
            below = np.where(X[rows, self.feature[at]] <= self.threshold[at], self.left[at], self.right[at])
            if np.array_equal(below, at):
                return self.value[at].astype(np.float64)
            at = below

    def to_graph(self, graph: Graph, x: str, base: NDArray[np.float64], adds_to: NDArray[np.bool_]) -> str:
        """Add sums of trees to a graph: ``base`` [m] and, for each of the m sums, the trees that ``adds_to`` [n_trees, m] names.

        References
        ----------
        https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleRegressor.html
        """
        place = np.arange(len(self.value))
        tree = np.searchsorted(self.root, place, side="right") - 1
        within = place - self.root[tree]
        is_leaf = self.left == place
        leaf, of_sum = np.nonzero(is_leaf[:, None] & adds_to[tree])
        return graph.node(
            "TreeEnsembleRegressor",
            x,
            domain="ai.onnx.ml",
            n_targets=len(base),
            aggregate_function="SUM",
            post_transform="NONE",
            base_values=base.tolist(),
            nodes_treeids=tree.tolist(),
            nodes_nodeids=within.tolist(),
            nodes_modes=np.where(is_leaf, "LEAF", "BRANCH_LEQ").tolist(),
            nodes_featureids=self.feature.tolist(),
            nodes_values=self.threshold.tolist(),
            nodes_truenodeids=np.where(is_leaf, 0, within[self.left]).tolist(),
            nodes_falsenodeids=np.where(is_leaf, 0, within[self.right]).tolist(),
            target_treeids=tree[leaf].tolist(),
            target_nodeids=within[leaf].tolist(),
            target_ids=of_sum.tolist(),
            target_weights=self.value[leaf].tolist(),
        )


def _starts(sizes: Sequence[int]) -> NDArray[np.intp]:
    return np.cumsum([0, *sizes[:-1]], dtype=np.intp)
