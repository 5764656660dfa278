"""Judge noise, carried into labels: a margin around the bar within which nothing is said."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_ml.errors import InputError

__all__ = ["Margin", "margin_from_labels", "margin_from_votes"]

_EPS = 1e-9
_NEAR = 0.25
_MIN_ROWS = 10
_GRID = 10


@dataclass(frozen=True, slots=True)
class Margin:
    """How far from the bar a judged quality has to be before a label rests on it.

    Attributes
    ----------
    width : float
        In the unit of quality, >= 0; qualities nearer to the bar than that leave it open whether they meet it.
    source : {"labels", "votes"}
        What it was estimated from.
    alpha : float
        The error rate that it was chosen for; what that means depends on the source.
    n : int
        Answers that it was estimated from.
    n_outside : int
        Of them, those outside of the margin.
    """

    width: float
    source: str
    alpha: float
    n: int
    n_outside: int

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def margin_from_labels(
    judge: ArrayLike, human: ArrayLike, *, bar: float, alpha: float = 0.1, delta: float = 0.1
) -> Margin:
    """The narrowest margin outside of which at most `alpha` of the answers are on the wrong side of the bar.

    That holds with probability 1 - `delta` over the drawing of the labelled sample, for answers from where it was
    drawn, if it was drawn at random and its answers are independent. People's labels are taken for the truth.

    Parameters
    ----------
    judge, human : array [n]
        Qualities in [0, 1] of the same answers, without NaN.
    bar : float
        The absolute bar.
    alpha, delta : float
        In (0, 1).

    Raises
    ------
    InputError
        If no margin can be shown to do that: the judge is too often wrong far from the bar too, or the sample is too
        small.

    Notes
    -----
    Up to ten margins, at deciles of the qualities' distance from the bar, are each tested by the exact binomial tail at
    `delta` over their number (Bonferroni); the narrowest that passes is taken.

    References
    ----------
    Angelopoulos, Bates, Candès, Jordan, Lei: Learn then Test (2021). Geifman, El-Yaniv: Selective classification for
    deep neural networks (NeurIPS 2017).
    """
    from scipy.stats import binom

    q, h = (np.asarray(a, dtype=np.float64) for a in (judge, human))
    _check(q, h, alpha, delta)
    distance = np.abs(q - bar)
    wrong = (q >= bar - _EPS) != (h >= bar - _EPS)
    # The grid rests on the judge's qualities alone, so that testing all of it costs a factor of its size and no more.
    grid = np.unique(np.quantile(distance, np.arange(_GRID) / _GRID, method="lower").round(9))
    level = delta / len(grid)
    counts = [(int(out.sum()), int(wrong[out].sum())) for out in (distance >= tried - _EPS for tried in grid)]
    passed = [i for i, (n, errors) in enumerate(counts) if binom.cdf(errors, n, alpha) <= level]
    if not passed:
        fewest = math.ceil(math.log(level) / math.log1p(-alpha))
        raise InputError(
            f"No margin around the bar {bar:g} can be shown to keep wrong labels to {alpha:g} with {len(q):,} labelled answers, of which {int(wrong.sum()):,} are on "
            f"the wrong side: outside of the margin there have to be {fewest:,} even without a fault. Label more, mend the judge, or allow a larger alpha."
        )
    # The first candidate leaves no answer open.
    width = 0.0 if passed[0] == 0 else float(grid[passed[0]])
    return Margin(width, "labels", alpha, len(q), counts[passed[0]][0])


def margin_from_votes(
    quality: ArrayLike, vote_sd: ArrayLike, n_votes: ArrayLike, *, bar: float, alpha: float = 0.1
) -> Margin:
    """A margin that random differences between votes cross at most with probability `alpha`.

    So an answer whose mean over infinitely many votes is on the one side of the bar gets a quality beyond the margin on
    the other with at most that probability. What all votes get wrong alike isn't seen; that takes people's labels.

    Parameters
    ----------
    quality : array [n]
        Means over votes.
    vote_sd : array [n]
        Standard deviation of each answer's votes; NaN where there are fewer than two.
    n_votes : array [n]
        At least 2 where `vote_sd` is known.
    bar : float
        The absolute bar.
    alpha : float
        In (0, 0.5).

    Raises
    ------
    InputError
        If fewer than ten answers have two votes or more.

    Notes
    -----
    The variance of a vote is pooled over the answers within 0.25 of the bar (over all, where fewer than ten are): one
    answer's votes are too few for it. The margin is the normal quantile times the largest standard error of a mean
    among the answers, so it holds for all of them. Votes are taken for independent, given the answer.
    """
    from scipy.stats import norm

    q, sd, n = (np.asarray(a, dtype=np.float64) for a in (quality, vote_sd, n_votes))
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha is {alpha!r}; it needs to be in (0, 0.5).")
    known = ~np.isnan(q) & ~np.isnan(sd) & (n >= 2)
    if known.sum() < _MIN_ROWS:
        raise InputError(
            f"{int(known.sum())} answers have two votes or more; it takes {_MIN_ROWS}. Set votes: 3 in judge.yaml, with a temperature, or label some answers."
        )
    q, sd, n = q[known], sd[known], n[known]
    near = np.abs(q - bar) <= _NEAR
    pooled = near if near.sum() >= _MIN_ROWS else np.ones(len(q), dtype=bool)
    degrees = n[pooled] - 1
    variance = float((degrees * sd[pooled] ** 2).sum() / degrees.sum())
    width = float(norm.ppf(1 - alpha) * math.sqrt(variance / n.min()))
    return Margin(width, "votes", alpha, int(pooled.sum()), int((np.abs(q - bar) >= width - _EPS).sum()))


def _check(judge: NDArray[np.float64], human: NDArray[np.float64], alpha: float, delta: float) -> None:
    if judge.shape != human.shape or judge.ndim != 1 or np.isnan(judge).any() or np.isnan(human).any():
        raise InputError(
            f"Judge and people gave {judge.shape} and {human.shape} qualities; give both, known, for the same answers."
        )
    for name, value in (("alpha", alpha), ("delta", delta)):
        if not 0 < value < 1:
            raise InputError(f"{name} is {value!r}; it needs to be in (0, 1).")
