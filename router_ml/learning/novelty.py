"""Novelty: how unlike the training traffic a prompt is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from router_ml.learning.graph import Graph

__all__ = ["Novelty"]

_N_DIRECTIONS = 32
_N_FOLDS = 10
_MIN_VARIANCE = 1e-3
"""Of a direction, as a share of the mean one: below that is noise, or too few prompts to see any."""


@dataclass(frozen=True, slots=True)
class Novelty:
    """Mahalanobis distance within the directions along which the training prompts vary least.

    Squared, and divided by its mean on prompts that it wasn't fitted to, so that it is about 1 on traffic of the same kind.
    What training traffic has in common stands in its minor components, so that departing there is telling; one small
    product and a sum are all the cost.

    References
    ----------
    Shyu, Chen, Sarinnapakorn, Chang: A novel anomaly detection scheme based on principal component classifier (2003),
    the minor components' half of it.

    Attributes
    ----------
    weight : array [d, k]
    intercept : array [k]
        The squared norm of ``x @ weight + intercept`` is the novelty.
    """

    weight: NDArray[np.float64]
    intercept: NDArray[np.float64]

    @classmethod
    def fit(cls, X: NDArray[np.float32]) -> Self:
        """Fit to features [n, d]."""
        fold = np.arange(len(X)) % _N_FOLDS
        splits = [(X[fold != k], X[fold == k]) for k in range(min(_N_FOLDS, len(X)))] if len(X) > 1 else [(X, X)]
        held_out = np.concatenate([_squared_norm(there, *_whitening(here)) for here, there in splits])
        root = 1 / np.sqrt(max(float(held_out.mean()), 1e-9))
        weight, intercept = _whitening(X)
        return cls(weight * root, intercept * root)

    def predict(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Novelty of features [n, d]; shape [n], >= 0."""
        return _squared_norm(X, self.weight, self.intercept)

    def to_graph(self, graph: Graph, x: str) -> str:
        """The same in a graph; gives the name of the output [n]."""
        axis = graph.constant(np.array([1], dtype=np.int64))
        return graph.node("ReduceSumSquare", graph.linear(x, self.weight, self.intercept), axis, keepdims=0)


def _whitening(X: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight [d, k] and intercept [k] of the whitened minor components."""
    mean = X.mean(axis=0, dtype=np.float64)
    centred = X - mean
    variances, directions = np.linalg.eigh(centred.T @ centred / len(X))
    k = min(_N_DIRECTIONS, X.shape[1])
    floor = max(_MIN_VARIANCE * float(variances.mean()), 1e-12)
    weight = directions[:, :k] / np.sqrt(np.maximum(variances[:k], floor))
    return weight, -mean @ weight


def _squared_norm(
    X: NDArray[np.float32], weight: NDArray[np.float64], intercept: NDArray[np.float64]
) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = ((X @ weight + intercept) ** 2).sum(axis=1)
    return distance
