"""Calibration: scores into probabilities that mean what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from router_ml.learning.graph import Graph
from router_ml.learning.targets import Scores, Targets, expit

__all__ = ["Calibration", "fit_offset", "fit_platt"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling of `meets` per tier, and of `quality` and tokens what makes their means right.

    Attributes
    ----------
    meets : array [2, T]
        Slope (>= 0) and intercept on the logit.
    quality : array [T]
        Added to the logit. There is no slope of each tier's own: it would undo the shrinkage that keeps differences
        between tiers honest.
    log_tokens : array [T]
        Added to the logarithm of the expected tokens.
    """

    meets: NDArray[np.float64]
    quality: NDArray[np.float64]
    log_tokens: NDArray[np.float64]

    @classmethod
    def fit(cls, scores: Scores, targets: Targets) -> Self:
        """Fit on out-of-fold scores, so that what is calibrated is the error on prompts not seen."""
        tiers = range(targets.n_tiers)
        meets = [fit_platt(scores.meets[:, t], targets.meets[:, t]) for t in tiers]
        quality = [fit_offset(scores.quality[:, t], targets.quality[:, t]) for t in tiers]
        factors = [_log_factor(scores.log_tokens[:, t], targets.output_tokens[:, t]) for t in tiers]
        return cls(np.array(meets).T, np.array(quality), np.array(factors))

    def apply(self, scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """``p_meets``, ``quality`` and ``output_tokens``, shape [n, T] each."""
        return (
            expit(scores.meets * self.meets[0] + self.meets[1]),
            expit(scores.quality + self.quality),
            np.exp(scores.log_tokens + self.log_tokens),
        )

    def to_graph(self, graph: Graph, scores: str) -> tuple[str, str, str]:
        """The same in a graph, from scores [n, 3 T]; gives the names of the three outputs."""
        n_tiers = len(self.quality)
        scale = np.concatenate([self.meets[0], np.ones(2 * n_tiers)])
        shift = np.concatenate([self.meets[1], self.quality, self.log_tokens])
        meets, quality, log_tokens = graph.split(graph.affine(scores, scale, shift), n_tiers, n_tiers, n_tiers)
        return graph.node("Sigmoid", meets), graph.node("Sigmoid", quality), graph.node("Exp", log_tokens)


def fit_platt(score: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept that minimise the log loss of ``expit(slope * score + intercept)`` against outcomes in [0, 1].

    The slope is held to be at least 0: scores that rank the wrong way round on prompts not seen say nothing, and the
    best that is left is the mean. One success and one failure at the mean score are added, so that a tier with few
    answers isn't promised 0 or 1.

    References
    ----------
    Platt: Probabilistic outputs for support vector machines (1999).
    """
    from scipy.optimize import minimize

    tried = ~np.isnan(y)
    if not tried.any():
        return 1.0, 0.0
    z = np.append(score[tried], [score[tried].mean()] * 2)
    target = np.append(y[tried], [0.0, 1.0])

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        u = line[0] * z + line[1]
        residual = expit(u) - target
        return float(np.mean(np.logaddexp(0, u) - target * u)), np.array([np.mean(residual * z), np.mean(residual)])

    result = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0.0, None), (None, None)])
    return float(result.x[0]), float(result.x[1])


def fit_offset(score: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """What to add to the scores so that the mean of their ``expit`` is the mean outcome; 0 where nothing was observed."""
    from scipy.optimize import brentq

    tried = ~np.isnan(y)
    if not tried.any():
        return 0.0
    z = score[tried]
    mean = np.clip(y[tried].mean(), 1 / (2 * len(z)), 1 - 1 / (2 * len(z)))
    bound = float(np.abs(z).max()) + 30.0
    return float(brentq(lambda offset: expit(z + offset).mean() - mean, -bound, bound))


def _log_factor(log_tokens: NDArray[np.float64], tokens: NDArray[np.float64]) -> float:
    logged = ~np.isnan(tokens)
    expected, seen = np.exp(log_tokens[logged]).sum(), tokens[logged].sum()
    return float(np.log(seen / expected)) if seen > 0 else 0.0
