"""Policies: how predictions become a tier. Each is a frozen value, and :class:`Rule` applies one.

Evaluation, promises, off-policy estimates and the router decide by :class:`Rule`. One query without hard limits is decided in
plain floats by ``router_ml.core.decide``; tests replay the same decisions through both.

A policy scores or filters the tiers of each prompt by what is predicted of them. :class:`Rule` puts it behind novelty: a request
unlike the training traffic goes to the reference tier. Hard limits (`router_ml.core.limits`) come before both, as `allowed`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from router_ml.core.checks import is_finite
from router_ml.errors import InputError

__all__ = [
    "POLICIES",
    "Policy",
    "Reference",
    "Rule",
    "Shortfall",
    "Single",
    "Threshold",
    "Utility",
    "choose_by_threshold",
    "choose_by_utility",
    "choose_single",
    "policy_from_dict",
    "policy_to_dict",
]


@dataclass(frozen=True, slots=True)
class Shortfall:
    """The cheapest tier that will do: a more expensive one is taken only where it is expected to be better by more than its price is worth.

    A tier is chosen if no other is better by more than `epsilon` points of quality for each call to the reference tier that it
    costs more. So against the reference tier a request's expected shortfall is at most `epsilon` times what it saves, in calls to the
    reference tier, and on average over requests at most `epsilon` times the share of cost saved.

    Parameters
    ----------
    epsilon : float
        Points of expected quality (0.01: one point) that a saving of one average call to the reference tier is worth; >= 0. At 0
        the tier of best expected quality is taken.

    Notes
    -----
    It is :class:`Utility` in units that do not depend on prices: ``epsilon = quality_per_usd * reference_cost_usd``. Rules that look
    at the shortfall alone, or at `p_meets` alone, have frontiers near those of single tiers (docs/decisions.md).
    """

    epsilon: float
    kind: ClassVar[str] = "shortfall"
    reason: ClassVar[str] = "will_do"

    def __post_init__(self) -> None:
        if not is_finite(self.epsilon) or self.epsilon < 0:
            raise InputError(
                f"'epsilon' is {self.epsilon!r}; Shortfall needs points of quality >= 0 for each reference call saved, such as 0.1."
            )
        object.__setattr__(self, "epsilon", float(self.epsilon))  # JSON knows no numpy

    @property
    def parameter(self) -> float:
        """`epsilon`."""
        return self.epsilon

    def describe(self) -> str:
        """Say what the policy does, with its parameter, in a few words."""
        return f"the cheapest tier that will do; a saved call to the reference tier is worth {100 * self.epsilon:.3g} points"


@dataclass(frozen=True, slots=True)
class Threshold:
    """The cheapest tier whose `p_meets` reaches the threshold; where none does, the tier with the highest `p_meets`.

    Parameters
    ----------
    p_meets : float
        In [0, 1]; 0 always takes the cheapest allowed tier.
    """

    p_meets: float
    kind: ClassVar[str] = "threshold"
    reason: ClassVar[str] = "meets_bar"

    def __post_init__(self) -> None:
        if not is_finite(self.p_meets) or not 0 <= self.p_meets <= 1:
            raise InputError(f"The threshold is {self.p_meets!r}; it needs to be a probability in [0, 1].")
        object.__setattr__(self, "p_meets", float(self.p_meets))  # JSON knows no numpy

    @property
    def parameter(self) -> float:
        """`p_meets`."""
        return self.p_meets

    def describe(self) -> str:
        """Say what the policy does, with its parameter, in a few words."""
        return f"the cheapest tier whose p_meets reaches {self.p_meets:.3g}"


@dataclass(frozen=True, slots=True)
class Utility:
    """The tier of largest ``quality - quality_per_usd * cost_usd``; ties go to the cheaper.

    Parameters
    ----------
    quality_per_usd : float
        The quality that one US dollar is worth, >= 0.
    """

    quality_per_usd: float
    kind: ClassVar[str] = "utility"
    reason: ClassVar[str] = "best_utility"

    def __post_init__(self) -> None:
        if not is_finite(self.quality_per_usd) or self.quality_per_usd < 0:
            raise InputError(
                f"'lam' is {self.quality_per_usd!r}; Utility needs a number >= 0: the quality that one US dollar is worth."
            )
        object.__setattr__(self, "quality_per_usd", float(self.quality_per_usd))  # JSON knows no numpy

    @property
    def parameter(self) -> float:
        """`quality_per_usd`."""
        return self.quality_per_usd

    def describe(self) -> str:
        """Say what the policy does, with its parameter, in a few words."""
        return f"largest quality - {self.quality_per_usd:.4g} x USD"


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference tier for every request; where it may not take one, the tier of best expected quality."""

    kind: ClassVar[str] = "reference"
    reason: ClassVar[str] = "reference"
    parameter: ClassVar[float] = 0.0

    def describe(self) -> str:
        """Say what the policy does, with its parameter, in a few words."""
        return "always the reference tier"


@dataclass(frozen=True, slots=True)
class Single:
    """One tier for every request; where it may not take one, the tier of best expected quality.

    Parameters
    ----------
    tier : str
        Its name.
    """

    tier: str
    kind: ClassVar[str] = "single"
    reason: ClassVar[str] = "single"
    parameter: ClassVar[float] = 0.0

    def describe(self) -> str:
        """Say what the policy does, with its parameter, in a few words."""
        return f"always {self.tier}"


Policy = Shortfall | Threshold | Utility | Reference | Single
_LARGEST_PRICE = 1e150
"""In quality per USD: from here on only cost counts, and an infinite price would make a free tier's utility undefined."""
POLICIES: Mapping[str, type[Policy]] = {p.kind: p for p in (Shortfall, Threshold, Utility, Reference, Single)}
"""Every policy by its `kind`."""


def policy_to_dict(policy: Policy) -> dict[str, Any]:
    """As plain JSON values: the kind and the fields."""
    return {"kind": policy.kind, **{f.name: getattr(policy, f.name) for f in fields(policy)}}


def policy_from_dict(values: Mapping[str, Any]) -> Policy:
    """Read what :func:`policy_to_dict` wrote; raises InputError, KeyError or TypeError for anything else."""
    fields = dict(values)
    return POLICIES[fields.pop("kind")](**fields)


@dataclass(frozen=True, slots=True)
class Rule:
    """How one artifact decides under one policy: novelty first, then the policy.

    Parameters
    ----------
    policy : Policy
    tiers : tuple of T str
        Names in ladder order.
    reference : int
        Index of the reference tier.
    reference_cost_usd : float
        Mean cost of a call to the reference tier in USD on the training traffic, > 0: the unit of :class:`Shortfall`.
    novelty_threshold : float
        Requests of a greater novelty go to the reference tier; infinite: none does.

    Raises
    ------
    InputError
        If the policy names a tier that is none of `tiers`.
    """

    policy: Policy
    tiers: tuple[str, ...]
    reference: int
    reference_cost_usd: float
    novelty_threshold: float = math.inf

    def __post_init__(self) -> None:
        if isinstance(self.policy, Single) and self.policy.tier not in self.tiers:
            raise InputError(f"No tier is called {self.policy.tier!r}; the tiers are {', '.join(self.tiers)}.")

    @property
    def quality_per_usd(self) -> float | None:
        """The price of quality of a policy that weighs it against cost; None for the others."""
        if isinstance(self.policy, Shortfall):
            return min(self.policy.epsilon / self.reference_cost_usd, _LARGEST_PRICE)
        return min(self.policy.quality_per_usd, _LARGEST_PRICE) if isinstance(self.policy, Utility) else None

    @property
    def single(self) -> int | None:
        """The index of the one tier that the policy takes for everything; None for policies that look at the request."""
        if isinstance(self.policy, Single):
            return self.tiers.index(self.policy.tier)
        return self.reference if isinstance(self.policy, Reference) else None

    def is_novel(self, novelty: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether each of n requests is unlike the training traffic; shape [n]."""
        # In double precision, as for a single request.
        return np.asarray(novelty > np.float64(self.novelty_threshold))

    def choose(
        self,
        p_meets: NDArray[np.floating],
        quality: NDArray[np.floating],
        cost_usd: NDArray[np.floating],
        novelty: NDArray[np.floating],
        allowed: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.intp]:
        """Return the index of the tier for each of n requests.

        Parameters
        ----------
        p_meets, quality, cost_usd : array [n, T]
            As predicted, in ladder order.
        novelty : array [n]
        allowed : array [T] or [n, T] of bool, optional
            Tiers that hard limits leave, at least one a request; all where not given.

        Returns
        -------
        array [n] of int
        """
        single = self.single
        if single is not None:
            chosen = choose_single(quality, single, allowed)
        elif isinstance(self.policy, Threshold):
            chosen = choose_by_threshold(p_meets, self.policy.p_meets, allowed)
        else:
            chosen = choose_by_utility(quality, cost_usd, self.quality_per_usd or 0.0, allowed)
        novel = self.is_novel(novelty)
        return np.where(novel, choose_single(quality, self.reference, allowed), chosen) if novel.any() else chosen


def choose_single(
    quality: NDArray[np.floating], tier: int, allowed: NDArray[np.bool_] | None = None
) -> NDArray[np.intp]:
    """Return `tier` for each of n requests; where it isn't allowed, the allowed tier of best expected quality."""
    chosen = np.full(len(quality), tier, dtype=np.intp)
    if allowed is None:
        return chosen
    mask = np.broadcast_to(allowed, quality.shape)
    return np.where(mask[:, tier], chosen, np.where(mask, quality, -np.inf).argmax(axis=1))


def choose_by_threshold(
    p_meets: NDArray[np.floating], threshold: float, allowed: NDArray[np.bool_] | None = None
) -> NDArray[np.intp]:
    """Return the cheapest tier whose `p_meets` reaches the threshold; where none does, the tier with the highest `p_meets`.

    Parameters
    ----------
    p_meets : array [n, T]
        Calibrated probabilities in [0, 1], tiers in ladder order (cheapest first).
    threshold : float
        0 always takes the cheapest allowed tier; above 1 always the one with the highest `p_meets`.
    allowed : array [T] or [n, T] of bool, optional
        Tiers that may be chosen; at least one a request.

    Returns
    -------
    array [n] of int
        Index of the chosen tier; ties go to the cheaper.
    """
    if allowed is not None:
        p_meets = np.where(allowed, p_meets, -1.0)
    # In double precision, so that a threshold isn't rounded to the outputs' single one.
    reaches = p_meets >= np.float64(threshold)
    first = reaches.argmax(axis=1)
    # argmax of an all-False row is 0: tell it apart from "tier 0 reaches".
    return np.asarray(np.where(reaches[np.arange(len(first)), first], first, p_meets.argmax(axis=1)))


def choose_by_utility(
    quality: NDArray[np.floating],
    cost_usd: NDArray[np.floating],
    quality_per_usd: float,
    allowed: NDArray[np.bool_] | None = None,
) -> NDArray[np.intp]:
    """Return the tier of largest ``quality - quality_per_usd * cost_usd``; ties go to the cheaper.

    Parameters
    ----------
    quality : array [n, T]
        Expected quality in [0, 1].
    cost_usd : array [n, T]
        Expected cost of the call in USD.
    quality_per_usd : float
        Quality that one US dollar is worth, >= 0.
    allowed : array [T] or [n, T] of bool, optional
        Tiers that may be chosen; at least one a request.

    Returns
    -------
    array [n] of int
        Index of the chosen tier.
    """
    utility = quality - quality_per_usd * cost_usd
    # A tier without a price has no utility; where no allowed tier has one, the cheapest allowed is taken.
    usable = ~np.isnan(utility) if allowed is None else ~np.isnan(utility) & allowed
    if allowed is not None and not usable.any(axis=1).all():
        stuck = ~usable.any(axis=1, keepdims=True)
        usable = np.where(stuck, np.broadcast_to(allowed, utility.shape), usable)
        utility = np.where(stuck, 0.0, utility)
    return np.asarray(np.where(usable, utility, -np.inf).argmax(axis=1))
