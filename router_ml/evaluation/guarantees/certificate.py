"""Learn-then-test: which settings of a knob keep a loss under a limit, with a guarantee that holds for finite samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from router_ml.errors import InputError
from router_ml.evaluation.guarantees.losses import as_losses, check_open_unit
from router_ml.evaluation.guarantees.p_values import (
    BOLDEST_BET,
    betting_p_value,
    binomial_p_value,
    hoeffding_bentkus_p_value,
)
from router_ml.evaluation.guarantees.trinomial import trinomial_p_value
from router_ml.evaluation.inputs import FloatArray

__all__ = ["Certificate", "Method", "certify", "rows_needed"]

Method: TypeAlias = Literal["betting", "hoeffding-bentkus", "binomial", "trinomial"]
# The chance to certify that `rows_needed` reckons with.
_POWER = 0.8


@dataclass(frozen=True, eq=False)
class Certificate:
    """What `certify` found for one limit and one delta.

    Attributes
    ----------
    index : int or None
        The boldest certified setting; None where none is certified: send everything to the reference tier.
    limit, delta : float
        With probability at least 1 - delta, no certified setting has an expected loss above `limit`.
    method : str
    n : int
        Prompts it rests on.
    mean_loss : float or None
        Of the setting `index` on these prompts. Lower than what to expect: this setting was picked by it.
    certified : array [K] of bool
    p_values : array [K]
        Each setting's own. By "trinomial" those behind the first that fails aren't looked at, and stand as 1.
    rows_needed : float
        About how many more prompts it would take to certify something: 0 where something is, ``inf`` where the
        safest setting's observed loss isn't under the limit. See the function `rows_needed`.
    """

    index: int | None
    limit: float
    delta: float
    method: Method
    n: int
    mean_loss: float | None
    certified: NDArray[np.bool_]
    p_values: FloatArray
    rows_needed: float


def certify(
    losses: ArrayLike,
    limit: float,
    delta: float,
    *,
    method: Method = "betting",
    lowest: float = -1.0,
    random_state: int | np.random.Generator | None,
) -> Certificate:
    """Find the boldest setting whose expected loss is at most `limit`, with probability at least 1 - `delta`.

    Parameters
    ----------
    losses : array-like [n, K]
        The loss of each setting on each prompt, at most 1; settings from the safest to the boldest.
    limit : float
        The largest expected loss allowed, in (lowest, 1).
    delta : float
        The chance, over the draw of the prompts, that a certified setting breaks the limit; in (0, 1).
    method : {"betting", "hoeffding-bentkus", "binomial", "trinomial"}
        How p-values are computed. "betting" for any loss; "binomial" for violations, whose losses are 0 or 1; "trinomial" for quality
        losses where each answer is right or wrong, so that they are -1, 0 or 1.
        Choose before the losses are seen: the smaller of two p-values is none.
    lowest : float
        The smallest possible loss, by which "hoeffding-bentkus" rescales: -1 for a quality loss.
    random_state : int, Generator or None
        Shuffles the prompts for "betting"; see `betting_p_value`.

    Returns
    -------
    Certificate

    Raises
    ------
    InputError
        Losses, limit, delta or method out of range.

    Notes
    -----
    Fixed-sequence testing: from the safest on the settings are tested in order, each at level delta, until the
    first that fails. All true nulls together are rejected with probability at most delta, in whatever way the losses
    of the settings hang together, and without a monotone risk: a wrong order costs power, never the guarantee. So does
    a fine grid, since noise has more occasions to stop a sequence: 20 to 100 settings will do.

    Assumes that these prompts, and those that the guarantee is for, are independent draws of one distribution, and
    that the settings, their order and the reference tier were fixed without these prompts' answers: a router fitted on
    other prompts, and a grid from its predictions on those. Rows that hang together (prompts of a session) have to be
    made one before. Each certificate stands for itself; of ten of them at delta 0.05 one must be prepared that some fail.

    References
    ----------
    A. N. Angelopoulos, S. Bates, E. J. Candès, M. I. Jordan, L. Lei (2021), "Learn then test: calibrating predictive
    algorithms to achieve risk control", arXiv:2110.01052, section 2.3.

    Examples
    --------
    >>> import numpy as np
    >>> losses = np.repeat([[0.0, 0.0, 1.0]], 400, axis=0)
    >>> certify(losses, limit=0.02, delta=0.05, random_state=0).index
    1
    """
    table = as_losses(losses, lowest=lowest)
    check_open_unit("delta", delta)
    if not lowest < limit < 1:
        raise InputError(f"limit is {limit:g}; needed a number above {lowest:g} (the smallest loss) and below 1.")
    p_values = _p_values(table, limit, delta, method, lowest, random_state)
    certified = np.logical_and.accumulate(p_values <= delta)
    n = len(table)
    if not certified.any():
        # By its own mean, which luck may have put too low to be certified.
        needed = max(1.0, rows_needed(table[:, 0], limit, delta))
        return Certificate(None, limit, delta, method, n, None, certified, p_values, needed)
    index = int(np.flatnonzero(certified)[-1])
    return Certificate(index, limit, delta, method, n, float(table[:, index].mean()), certified, p_values, 0.0)


def rows_needed(losses: ArrayLike, limit: float, delta: float) -> float:
    """About how many more prompts give betting a chance of 80 % to certify the likeliest of these settings.

    Parameters
    ----------
    losses : array-like [n] or [n, K]
        Observed, at most 1.
    limit, delta : float
        See `certify`.

    Returns
    -------
    float
        A whole number >= 0; ``inf`` where no setting's observed loss is under the limit.

    Raises
    ------
    InputError
        Losses, limit or delta out of range.

    Notes
    -----
    The number at which a z-test would have that power, from the observed mean and variance, and at least the number
    that a bet of bounded size takes to multiply the capital by 1 / delta. Rough where the observed loss is close to the
    limit, and for the best of many settings too low.
    """
    table = as_losses(losses)
    check_open_unit("delta", delta)
    if not limit < 1:
        raise InputError(f"limit is {limit:g}; needed a number below 1, the largest possible loss.")
    gap = limit - table.mean(axis=0)
    # Beyond rounding: a loss of just the limit is not under it.
    under = gap > 1e-12
    if not under.any():
        return float("inf")
    gap, variance = gap[under], table.var(axis=0)[under]
    by_variance = (ndtri(1 - delta) + ndtri(_POWER)) ** 2 * variance / gap**2
    by_bet = -np.log(delta) / np.log1p(BOLDEST_BET / (1 - limit) * gap)
    return float(max(0, np.ceil(np.maximum(by_variance, by_bet).min()) - len(table)))


def _p_values(
    table: FloatArray,
    limit: float,
    level: float,
    method: Method,
    lowest: float,
    random_state: int | np.random.Generator | None,
) -> FloatArray:
    if method == "betting":
        return betting_p_value(table, limit, tuned_for=level, random_state=random_state)
    if method == "hoeffding-bentkus":
        scale = 1 - lowest
        means = np.clip((table.mean(axis=0) - lowest) / scale, 0.0, 1.0)
        return hoeffding_bentkus_p_value(means, len(table), (limit - lowest) / scale)
    if method == "binomial":
        return binomial_p_value(table, limit)
    if method == "trinomial":
        p_values = np.ones(table.shape[1])
        for k, losses in enumerate(table.T):
            p_values[k] = trinomial_p_value(losses, limit, tuned_for=level)
            if p_values[k] > level:
                break
        return p_values
    raise InputError(f"method is {method!r}; needed one of {list(get_args(Method))}.")
