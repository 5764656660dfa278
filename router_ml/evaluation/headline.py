"""The verdict in words: whether the router beats blind mixing of single tiers, by how much, and what to do where it doesn't."""

from __future__ import annotations

import math
from collections.abc import Sequence

from router_ml.core.menu import OperatingPoint
from router_ml.evaluation.bootstrap import BootstrapResult, Interval
from router_ml.evaluation.metrics import FrontierMetrics
from router_ml.evaluation.tradeoff import Outcomes, blind_mix

__all__ = ["advice", "is_better", "verdict"]

# A saving below this is rounding.
_ROUNDING = 1e-9
# The quality that a blind mix may lose where no default says how much.
_LOST_TO_A_MIX = 0.01


def is_better(router: str, plain: FrontierMetrics, intervals: BootstrapResult) -> bool:
    """Whether a router beats the zero router: it closes some of the gap, and its paired interval lies above 0."""
    gained = intervals.difference(router).aiq
    return plain.gap_closed > 0 and gained.excludes_zero and gained.low > 0


def verdict(router: str, plain: FrontierMetrics, intervals: BootstrapResult, best_tier: str) -> str:
    """Say in one or two sentences how far the whole frontier lies above single tiers; "NO BETTER" first where `is_better` doesn't hold.

    Parameters
    ----------
    router : str
        Name of the policy in `intervals`.
    plain : FrontierMetrics
        Its figures on all prompts.
    intervals : BootstrapResult
    best_tier : str
        Name of the best single tier.
    """
    gained = intervals.difference(router)
    own = intervals.routers[router]
    if not is_better(router, plain, intervals):
        height = f"AIQ {own.aiq.estimate:.4f} against {intervals.zero_aiq.estimate:.4f}"
        if math.isnan(gained.gap_closed.estimate):
            return (
                f"NO BETTER than the zero router: on these prompts even the oracle gains nothing over it ({height}). "
                "Sending every call to single tiers is as good as any routing."
            )
        mixing = "does better" if gained.aiq.high < 0 and gained.aiq.excludes_zero else "may do as well"
        return (
            f"NO BETTER than the zero router: the router closes {_percent(gained.gap_closed)} of the gap between the "
            f"zero router and the oracle ({height}). Mixing single tiers without looking at the prompt {mixing}."
        )
    closed = f"The router closes {_percent(gained.gap_closed)} of the gap between the zero router and the oracle"
    return f"{closed}{_saving(own.cost_save_100, own.cost_save_95, best_tier)}"


def advice(
    router: str,
    intervals: BootstrapResult,
    outcomes: Outcomes,
    tiers: Sequence[str],
    default: OperatingPoint | None = None,
) -> tuple[str, ...]:
    """Say what to do where a router isn't shown to be better: what a blind mix and single tiers cost and lose, and what would tell more.

    Parameters
    ----------
    router : str
        Name of the policy in `intervals`.
    intervals : BootstrapResult
    outcomes : Outcomes
        What was observed.
    tiers : sequence of T str
    default : OperatingPoint, optional
        The default, as measured on these prompts.
    """
    reference = tiers[outcomes.reference]
    usd = 1000 * outcomes.cost_usd.mean(axis=0)
    lost = 100 * (outcomes.quality[:, outcomes.reference].mean() - outcomes.quality.mean(axis=0))
    found = []
    at = None if default is None else default.expected
    routes = at is not None and max(at.share) < 1
    if at is not None and routes:
        drop = max(at.quality_drop, 0.0)
        if at.mix_quality_drop is not None:
            found.append(
                f"At the same cost a blind mix of single tiers loses {100 * at.mix_quality_drop + 0.0:.1f} points, the default "
                f"{100 * at.quality_drop + 0.0:.1f}: these prompts can't tell them apart over the whole range of costs."
            )
    else:
        drop = _LOST_TO_A_MIX
    mix = blind_mix(outcomes, drop)
    if mix.cheap != mix.costly and mix.share > 0:
        spent = 1000 * mix.cost_usd
        saved = 100 * (1 - spent / usd[outcomes.reference])
        found.append(
            f"Without a router: a random {100 * mix.share:.0f} % of the requests to {tiers[mix.cheap]} and the others to {tiers[mix.costly]} "
            f"{_spent(spent, saved)} for {100 * mix.quality_drop:.1f} points; always {reference} costs {_usd(usd[outcomes.reference])}."
        )
    singles = [
        f"always {name} {_spent(usd[t], 100 * (1 - usd[t] / usd[outcomes.reference]))} for {lost[t]:.1f} points"
        for t, name in enumerate(tiers)
        if t != outcomes.reference and usd[t] < usd[outcomes.reference]
    ]
    if singles:
        found.append(f"For comparison: {'; '.join(singles)}.")
    if routes:
        found.append(_more_prompts(intervals.difference(router).aiq, len(outcomes)))
    return tuple(found)


def _spent(usd: float, saved: float) -> str:
    return f"saves {saved:.0f} % ({_usd(usd)} per 1,000)"


def _usd(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.3g}"


def _more_prompts(gained: Interval, n: int) -> str:
    """Say how many prompts to evaluate on would tell a gain of this size from none, at this noise per prompt."""
    below = gained.estimate - gained.low
    if not gained.estimate > 0 or not math.isfinite(below):
        return "More prompts of this kind are unlikely to show it to be better: nothing was gained on these."
    # The interval narrows with the root of n: so many prompts bring its lower end up to 0.
    more = max(n * ((below / gained.estimate) ** 2 - 1), 1.0)
    return f"About {math.ceil(more):,} more judged prompts to evaluate on might show the router to be better, if the gain seen on these is real."


def _saving(at_100: Interval, at_95: Interval, best_tier: str) -> str:
    if at_100.estimate > _ROUNDING and math.isfinite(at_100.low):
        return f", and matches the best single tier ({best_tier}) at {_percent(at_100)} less cost."
    if at_100.estimate > _ROUNDING:
        reached = f"; it reaches the quality of the best single tier ({best_tier}), though not in every resample"
    elif at_100.estimate <= _ROUNDING:
        reached = f"; it saves nothing at the quality of the best single tier ({best_tier})"
    else:
        reached = f"; it doesn't reach the quality of the best single tier ({best_tier})"
    if at_95.estimate > _ROUNDING:
        return f"{reached}. At 95 % of that quality it costs {_percent(at_95)} less."
    return f"{reached}."


def _percent(interval: Interval) -> str:
    """The estimate with its interval, whose lower end is not defined where too many resamples don't reach it."""
    high = f"{100 * interval.high:.1f} %"
    ends = f"up to {high}" if math.isnan(interval.low) else f"{100 * interval.low:.1f} % to {high}"
    return f"{100 * interval.estimate:.1f} % (95 % interval {ends})"
