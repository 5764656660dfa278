"""What is learned and what is predicted, as arrays with one row a prompt and one column a tier."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Outputs", "Scores", "Targets", "expit", "logit"]

_P_MIN = 1e-6
"""Probabilities are kept this far from 0 and 1, where their logit would leave float32's useful range."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What was observed, shape [n, T] each, NaN where a tier was not tried: it is masked out, never filled in.

    Attributes
    ----------
    meets : array of 0 or 1
    quality : array in [0, 1]
    output_tokens, cost_usd : array >= 0
    weight : array >= 0
        How much a cell counts, about 1 on average: more where the logging policy seldom tried the tier on such prompts. 1 where
        not given; that of a cell not tried is never looked at.
    """

    meets: NDArray[np.float64]
    quality: NDArray[np.float64]
    output_tokens: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    weight: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))

    def __post_init__(self) -> None:
        if self.weight.size == 0:
            object.__setattr__(self, "weight", np.ones_like(self.meets))

    @property
    def n_tiers(self) -> int:
        """Number of tiers."""
        return int(self.meets.shape[1])

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Prompts on which each tier's quality and cost are known; shape [n]."""
        return np.asarray(~np.isnan(self.quality + self.cost_usd).any(axis=1))

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """The given prompts only."""
        return type(self)(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Scores:
    """A learner's raw predictions, before calibration; shape [n, T] each.

    Attributes
    ----------
    meets : array
        Logit of the probability to meet the bar.
    quality : array
        Logit of the expected quality.
    log_tokens : array
        Natural logarithm of the expected output tokens.
    """

    meets: NDArray[np.float64]
    quality: NDArray[np.float64]
    log_tokens: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outputs:
    """A fitted model's predictions: ``p_meets``, ``quality``, ``output_tokens`` [n, T] and ``novelty`` [n]."""

    p_meets: NDArray[np.float64]
    quality: NDArray[np.float64]
    output_tokens: NDArray[np.float64]
    novelty: NDArray[np.float64]


def expit(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """The logistic function."""
    from scipy.special import expit as scipy_expit

    result: NDArray[np.float64] = scipy_expit(np.asarray(x, dtype=np.float64))
    return result


def logit(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Inverse of :func:`expit`, bounded."""
    p = np.clip(np.asarray(p, dtype=np.float64), _P_MIN, 1 - _P_MIN)
    return np.log(p / (1 - p))
