"""The calibration of all that a model says, tier by tier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from router_ml.graph.builder import Graph
from router_ml.learning.calibration.curves import Curve, choose_curve
from router_ml.learning.targets import Scores, Targets, expit

__all__ = ["Calibration", "fit_offset"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A curve of each tier's own for `meets`, and of `quality` and tokens what makes their means right.

    Attributes
    ----------
    meets : array [2, T]
        Slope (>= 0) and intercept on the logit.
    quality : array [T]
        Added to the logit. There is no slope of each tier's own: it would undo the shrinkage that keeps differences
        between tiers honest.
    log_tokens : array [T]
        Added to the logarithm of the expected tokens.
    bend : array [T]
        Of the curves of `meets`; 0 but for beta calibration.
    steps : array [3, T, K]
        Start, width and rise of the pieces of the curves of `meets`; a rise of 0 fills up where a tier has fewer than K.
    methods : array [T] of str
        Which kind of curve was chosen: ``platt``, ``temperature``, ``beta`` or ``isotonic``.
    """

    meets: NDArray[np.float64]
    quality: NDArray[np.float64]
    log_tokens: NDArray[np.float64]
    bend: NDArray[np.float64]
    steps: NDArray[np.float64]
    methods: NDArray[np.str_]

    @classmethod
    def fit(cls, scores: Scores, targets: Targets) -> Self:
        """Fit on out-of-fold scores, so that what is calibrated is the error on prompts not seen; cells count by their weight."""
        tiers = range(targets.n_tiers)
        weight = targets.weight
        chosen = [_choose(scores.meets[:, t], targets.meets[:, t], weight[:, t]) for t in tiers]
        curves = [curve for _, curve in chosen]
        quality = [fit_offset(scores.quality[:, t], targets.quality[:, t], weight[:, t]) for t in tiers]
        factors = [_log_factor(scores.log_tokens[:, t], targets.output_tokens[:, t], weight[:, t]) for t in tiers]
        return cls(
            np.array([[c.slope for c in curves], [c.intercept for c in curves]]),
            np.array(quality),
            np.array(factors),
            np.array([c.bend for c in curves]),
            _stacked(curves),
            np.array([name for name, _ in chosen]),
        )

    def apply(self, scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """``p_meets``, ``quality`` and ``output_tokens``, shape [n, T] each."""
        pieces = zip(*self.meets, self.bend, self.steps.transpose(1, 0, 2), strict=True)
        logits = [Curve(*piece)(score) for piece, score in zip(pieces, scores.meets.T, strict=True)]
        return (
            expit(np.column_stack(logits)),
            expit(scores.quality + self.quality),
            np.exp(scores.log_tokens + self.log_tokens),
        )

    def to_graph(self, graph: Graph, scores: str) -> tuple[str, str, str]:
        """The same in a graph, from scores [n, 3 T]; gives the names of the three outputs.

        Lines are part of the product before them, and so is what bends and steps start from: what is left of these is a node that bends
        or cuts, and a product that adds up. (With nodes for each part of the formula, curves took a third of a short prompt's time.)
        """
        n_tiers = len(self.quality)
        slope, intercept = self.meets
        start, width, rise = self.steps
        steps, bends = rise > 0, bool(self.bend.any())
        scale = np.concatenate([slope, np.ones(2 * n_tiers)])
        shift = np.concatenate([intercept, self.quality, self.log_tokens])
        if not steps.any() and not bends:
            lines = graph.affine(scores, scale, shift)
            meets, quality, log_tokens = graph.split(lines, n_tiers, n_tiers, n_tiers)
        else:
            of_tier = np.nonzero(steps)[0]
            score = np.eye(3 * n_tiers)[:, :n_tiers]
            columns = np.hstack([np.diag(scale), score, score[:, of_tier] / width[steps]])
            offsets = np.concatenate([shift, np.zeros(n_tiers), -start[steps] / width[steps]])
            sizes = [n_tiers] * 4 + [len(of_tier)]
            meets, quality, log_tokens, bent, share = graph.split(graph.linear(scores, columns, offsets), *sizes)
            if steps.any():
                share = graph.node("Clip", share, graph.floats(0), graph.floats(1))
                rises = rise[steps][:, None] * (of_tier[:, None] == np.arange(n_tiers))
                meets = graph.node("Gemm", share, graph.floats(rises), meets)
            if bends:
                meets = graph.node("Gemm", graph.node("Softplus", bent), graph.floats(np.diag(self.bend)), meets)
        return graph.node("Sigmoid", meets), graph.node("Sigmoid", quality), graph.node("Exp", log_tokens)


def fit_offset(score: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """What to add to the scores so that the mean of their ``expit`` is the mean outcome; 0 where nothing was observed."""
    from scipy.optimize import brentq

    tried = ~np.isnan(y)
    share = weight[tried] / max(weight[tried].sum(), 1e-9)
    if not share.any():
        return 0.0
    z = score[tried]
    mean = np.clip(share @ y[tried], 1 / (2 * len(z)), 1 - 1 / (2 * len(z)))
    bound = float(np.abs(z).max()) + 30.0
    return float(brentq(lambda offset: share @ expit(z + offset) - mean, -bound, bound))


def _choose(score: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[str, Curve]:
    tried = ~np.isnan(y) & (weight > 0)
    return choose_curve(score[tried], y[tried], weight[tried]) if tried.any() else ("platt", Curve.line(1.0, 0.0))


def _stacked(curves: list[Curve]) -> NDArray[np.float64]:
    """Their steps, filled up to equal numbers; shape [3, T, K]."""
    n_steps = max(c.steps.shape[1] for c in curves)
    stacked = np.zeros((3, len(curves), n_steps))
    stacked[1] = 1.0
    for t, curve in enumerate(curves):
        stacked[:, t, : curve.steps.shape[1]] = curve.steps
    return stacked


def _log_factor(log_tokens: NDArray[np.float64], tokens: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    logged = ~np.isnan(tokens)
    expected = weight[logged] @ np.exp(log_tokens[logged])
    seen = weight[logged] @ tokens[logged]
    return float(np.log(seen / expected)) if seen > 0 else 0.0
