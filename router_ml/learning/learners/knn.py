"""Nearest neighbours: what happened to the most similar prompts."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from router_ml.graph.builder import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.targets import Scores, Targets, logit

__all__ = ["KNNLearner"]

_PRIOR = 1.0
"""Weight, in neighbours, of the tier's overall mean: where no neighbour was answered by a tier, that mean is what is left."""


class KNNLearner(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Weighted means over the k most similar prompts by cosine; a tier's mean is over the neighbours that it answered.

    A neighbour's weight falls linearly with its similarity, to zero at the k-th. So the prediction is continuous in the
    query, and does not hang on which of two equally near prompts comes k-th. The length (the last feature) is left out.

    Parameters
    ----------
    k : int
        Number of neighbours, >= 2; no more than there are prompts are used.
    """

    k_grid = (16, 32, 64, 128, 256)

    def __init__(self, k: int = 64) -> None:
        self.k = k

    def tune(self, X: Inputs, targets: Targets, folds: NDArray[np.intp]) -> Self:
        """Choose k by the Brier score of `meets`."""
        known = ~np.isnan(targets.meets)
        untuned: Self = clone(self)
        if not known.any():
            return untuned
        losses = []
        for k in self.k_grid:
            p = np.zeros_like(targets.meets)
            for fold in np.unique(folds):
                learner = clone(self).set_params(k=k).fit(X[folds != fold], targets.take(folds != fold))
                p[folds == fold] = learner._means(X[folds == fold])[:, : targets.n_tiers]
            losses.append(np.mean((p[known] - targets.meets[known]) ** 2))
        tuned: Self = clone(self).set_params(k=self.k_grid[int(np.argmin(losses))])
        return tuned

    def fit(self, X: Inputs, targets: Targets) -> Self:
        """Keep the prompts and what happened to them."""
        values = np.hstack([targets.meets, targets.quality, targets.output_tokens])
        weight = np.where(np.isnan(values), 0, np.tile(targets.weight, 3))
        self.neighbours_ = _unit(X.features[:, :-1])
        self.tried_ = weight.astype(np.float32)
        self.values_ = (np.nan_to_num(values) * weight).astype(np.float32)
        self.prior_ = (self.values_.sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-9)).astype(np.float32)
        return self

    def predict(self, X: Inputs) -> Scores:
        """Scores for n prompts."""
        meets, quality, tokens = np.split(self._means(X).astype(np.float64), 3, axis=1)
        return Scores(logit(meets), logit(quality), np.log(np.maximum(tokens, 1)))

    def _means(self, X: Inputs, chunk: int = 1024) -> NDArray[np.float32]:
        return np.concatenate([self._chunk_means(X.features[i : i + chunk]) for i in range(0, max(len(X), 1), chunk)])

    def _chunk_means(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        similarity = _unit(X[:, :-1]) @ self.neighbours_.T
        k = min(self.k, len(self.neighbours_))
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        near = np.take_along_axis(similarity, nearest, axis=1)
        weight = near - near[:, -1:]
        # As a share of the nearest one's, so that the prior weighs the same near and far.
        weight = weight / np.maximum(weight[:, :1], np.float32(1e-6))
        total = np.einsum("nk,nkt->nt", weight, self.values_[nearest]) + np.float32(_PRIOR) * self.prior_
        count = np.einsum("nk,nkt->nt", weight, self.tried_[nearest]) + np.float32(_PRIOR)
        means: NDArray[np.float32] = total / count
        return means

    def to_graph(self, graph: Graph, x: InputNames) -> str:
        """The same steps, in float32."""
        d = self.neighbours_.shape[1]
        embedding = graph.node("Slice", x.features, *(graph.constant(np.array([v], dtype=np.int64)) for v in (0, d, 1)))
        similarity = graph.node("MatMul", graph.l2_normalize(embedding), graph.floats(self.neighbours_.T))
        k = min(self.k, len(self.neighbours_))
        near, nearest = graph.nodes(
            "TopK", similarity, graph.constant(np.array([k], dtype=np.int64)), n_outputs=2, axis=1
        )
        bounds = [graph.node("Gather", near, graph.constant(np.array([i], dtype=np.int64)), axis=1) for i in (0, k - 1)]
        spread = graph.node("Max", graph.node("Sub", *bounds), graph.floats(1e-6))
        weight = graph.node("Div", graph.node("Sub", near, bounds[1]), spread)
        weight = graph.node("Unsqueeze", weight, graph.constant(np.array([1], dtype=np.int64)))

        def weighted(table: NDArray[np.float32], prior: NDArray[np.float32]) -> str:
            rows = graph.node("Gather", graph.floats(table), nearest, axis=0)
            total = graph.node(
                "Squeeze", graph.node("MatMul", weight, rows), graph.constant(np.array([1], dtype=np.int64))
            )
            return graph.node("Add", total, graph.floats(prior))

        total = weighted(self.values_, _PRIOR * self.prior_)
        count = weighted(self.tried_, np.full_like(self.prior_, _PRIOR))
        n_tiers = self.values_.shape[1] // 3
        shares, tokens = graph.split(graph.node("Div", total, count), 2 * n_tiers, n_tiers)
        p = graph.node("Clip", shares, graph.floats(1e-6), graph.floats(1 - 1e-6))
        logits = graph.node("Log", graph.node("Div", p, graph.node("Sub", graph.floats(1), p)))
        log_tokens = graph.node("Log", graph.node("Max", tokens, graph.floats(1)))
        return graph.node("Concat", logits, log_tokens, axis=1)


def _unit(X: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12)
    return unit
