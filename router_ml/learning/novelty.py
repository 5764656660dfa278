"""Novelty: how unlike the training traffic a prompt is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from router_ml.learning.graph import Graph

__all__ = ["Novelty"]

_MAX_COMPONENTS = 32
_MIN_NOISE = 0.01


@dataclass(frozen=True, slots=True)
class Novelty:
    """Mahalanobis distance under probabilistic PCA: a Gaussian with a few directions of its own variance and noise elsewhere.

    Squared, and divided by its mean on the training prompts, so that it is 1 on average there. One small product.

    References
    ----------
    Tipping, Bishop: Probabilistic principal component analysis (1999), doi:10.1111/1467-9868.00196.

    Attributes
    ----------
    mean : array [d]
    whiten : array [d, k]
        Projects a centred row so that what its squared norm takes off the distance in noise units is right.
    noise : float
        Variance of the noise.
    scale : float
        Mean squared distance of the training prompts.
    """

    mean: NDArray[np.float64]
    whiten: NDArray[np.float64]
    noise: float
    scale: float

    @classmethod
    def fit(cls, X: NDArray[np.float32]) -> Self:
        """Fit to features [n, d]."""
        mean = X.mean(axis=0, dtype=np.float64)
        centred = X - mean
        values, vectors = np.linalg.eigh(centred.T @ centred / max(len(X), 1))
        k = min(_MAX_COMPONENTS, len(X) - 1, X.shape[1] - 1)
        values, vectors = values[::-1].clip(min=0), vectors[:, ::-1]
        # A floor, for where there are fewer prompts than directions and no noise can be seen.
        noise = float(max(values[k:].mean(), _MIN_NOISE * values.mean(), 1e-9))
        # |x|^2 / noise - sum_k z_k^2 (1 / noise - 1 / value_k), the Woodbury form of the Gaussian's precision.
        taken = np.sqrt(1 / noise - 1 / np.maximum(values[:k], noise))
        whiten = vectors[:, :k] * taken
        raw = (centred**2).sum(axis=1) / noise - ((centred @ whiten) ** 2).sum(axis=1)
        return cls(mean, whiten, noise, float(max(raw.mean(), 1e-9)))

    def predict(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Novelty of features [n, d]; shape [n], >= 0."""
        centred = X - self.mean
        distance: NDArray[np.float64] = (centred**2).sum(axis=1) / self.noise - ((centred @ self.whiten) ** 2).sum(
            axis=1
        )
        return distance / self.scale

    def to_graph(self, graph: Graph, x: str) -> str:
        """The same in a graph; gives the name of the output [n]."""
        centred = graph.node("Sub", x, graph.floats(self.mean))
        root = 1 / np.sqrt(self.scale)
        whole = graph.node("Mul", centred, graph.floats(root / np.sqrt(self.noise)))
        taken = graph.node("MatMul", centred, graph.floats(self.whiten * root))
        axis = graph.constant(np.array([1], dtype=np.int64))
        return graph.node("Sub", *(graph.node("ReduceSumSquare", v, axis, keepdims=0) for v in (whole, taken)))
