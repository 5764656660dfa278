"""RouteLLM's figures for two tiers: how much of the strong tier's gain a share of strong calls recovers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from router_ml.errors import InputError
from router_ml.evaluation.inputs import FloatArray, as_vector

__all__ = ["TwoTier", "two_tier_metrics"]


@dataclass(frozen=True, eq=False)
class TwoTier:
    """PGR at every cut-off, and the figures read off it.

    Attributes
    ----------
    strong_share : array [n + 1]
        Share of calls that go to the strong tier: 0, 1/n, ..., 1.
    pgr : array [n + 1]
        Performance gap recovered at that share; 0 at the first, 1 at the last.
    apgr : float
        Mean of PGR over the share (a random router: 0.5 in expectation).
    cpt_50, cpt_80 : float
        Least share of strong calls with PGR >= 50 % and >= 80 %.
    """

    strong_share: FloatArray
    pgr: FloatArray
    apgr: float
    cpt_50: float
    cpt_80: float


def two_tier_metrics(score: ArrayLike, q_weak: ArrayLike, q_strong: ArrayLike) -> TwoTier:
    """PGR, APGR and CPT of a score, exactly, over all n + 1 cut-offs.

    Parameters
    ----------
    score : array-like [n]
        The higher, the more a prompt needs the strong tier.
    q_weak, q_strong : array-like [n]
        Quality of both tiers' answers.

    Returns
    -------
    TwoTier
        With NaN in `pgr` and all figures where the strong tier isn't better on average: there is no gap.

    Raises
    ------
    InputError
        Vectors of different lengths, empty, or with NaN.

    Notes
    -----
    With r(k) the mean quality when the k prompts of highest score go to the strong tier:

    - PGR(k) = (r(k) - r(0)) / (r(n) - r(0))
    - APGR = the integral of PGR over the strong share from 0 to 1, by the trapezoid rule on the n + 1 cut-offs
    - CPT(x) = min {k / n : PGR(k) >= x}

    Prompts of equal score go to the strong tier in random order: PGR is the expectation over that order, so that the
    order of the rows doesn't matter.

    References
    ----------
    I. Ong et al. (2024), "RouteLLM: Learning to Route LLMs with Preference Data", arXiv:2406.18665, section 3.
    """
    s = as_vector("score", score)
    weak = as_vector("q_weak", q_weak, size=s.size)
    strong = as_vector("q_strong", q_strong, size=s.size)
    for name, vector in (("score", s), ("q_weak", weak), ("q_strong", strong)):
        if np.isnan(vector).any():
            raise InputError(f"{name} holds NaN; needed a value for every prompt. Keep the prompts that have both.")
    share = np.arange(s.size + 1) / s.size
    gain = strong - weak
    if not gain.sum() > 0:
        nan = float("nan")
        return TwoTier(share, np.full(s.size + 1, nan), nan, nan, nan)
    _, group, size = np.unique(-s, return_inverse=True, return_counts=True)
    expected = (np.bincount(group, weights=gain) / size).repeat(size)
    pgr = np.concatenate(([0.0], expected.cumsum() / gain.sum()))
    pgr[-1] = 1.0
    apgr = float(np.trapezoid(pgr, share))
    return TwoTier(share, pgr, apgr, _least_share(share, pgr, 0.5), _least_share(share, pgr, 0.8))


def _least_share(share: FloatArray, pgr: FloatArray, level: float) -> float:
    # The slack keeps a level that is reached exactly on paper from being missed by rounding.
    return float(share[np.argmax(pgr >= level - 1e-12)])
