"""The verdict in words: whether the router beats blind mixing of single tiers, by how much, and what to do where it doesn't."""

from __future__ import annotations

import math
from collections.abc import Sequence

from router_ml.evaluation.bootstrap import BootstrapResult, Interval
from router_ml.evaluation.metrics import FrontierMetrics
from router_ml.evaluation.tradeoff import Outcomes, blind_mix

__all__ = ["advice", "is_better", "verdict"]

# A saving below this is rounding.
_ROUNDING = 1e-9


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
        verdict = "does better" if gained.aiq.high < 0 and gained.aiq.excludes_zero else "does as well"
        return (
            f"NO BETTER than the zero router: the router closes {_percent(gained.gap_closed)} of the gap between the "
            f"zero router and the oracle ({height}). Mixing single tiers without looking at the prompt {verdict}."
        )
    closed = f"The router closes {_percent(gained.gap_closed)} of the gap between the zero router and the oracle"
    return f"{closed}{_saving(own.cost_save_100, own.cost_save_95, best_tier)}"


def advice(
    router: str, intervals: BootstrapResult, outcomes: Outcomes, tiers: Sequence[str], drop: float
) -> tuple[str, ...]:
    """Say what to do where a router is no better: what single tiers and a blind mix cost and lose, and whether more prompts may help.

    Parameters
    ----------
    router : str
        Name of the policy in `intervals`.
    intervals : BootstrapResult
    outcomes : Outcomes
        What was observed.
    tiers : sequence of T str
    drop : float
        The quality that the default may lose.
    """
    reference = tiers[outcomes.reference]
    usd = 1000 * outcomes.cost_usd.mean(axis=0)
    lost = 100 * (outcomes.quality[:, outcomes.reference].mean() - outcomes.quality.mean(axis=0))
    saved = 100 * (1 - usd / usd[outcomes.reference])
    singles = [
        f"always {name} {_spent(usd[t], saved[t])} for {lost[t]:.1f} points"
        for t, name in enumerate(tiers)
        if t != outcomes.reference and saved[t] > 0
    ]
    found = []
    if singles:
        found.append(
            f"What to do instead of routing (always {reference} costs {_usd(usd[outcomes.reference])} per 1,000): {'; '.join(singles)}."
        )
    mix = blind_mix(outcomes, drop)
    if mix.cheap != mix.dear and mix.share > 0:
        spent = 1000 * mix.cost_usd
        found.append(
            f"Or a blind mix: a random {100 * mix.share:.0f} % of the requests to {tiers[mix.cheap]} and the others to {tiers[mix.dear]} "
            f"{_spent(spent, 100 * (1 - spent / usd[outcomes.reference]))} for {100 * mix.quality_drop:.1f} points."
        )
    found.append(_more_prompts(intervals.difference(router).aiq, len(outcomes)))
    return tuple(found)


def _spent(usd: float, saved: float) -> str:
    return f"saves {saved:.0f} % ({_usd(usd)} per 1,000)"


def _usd(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.3g}"


def _more_prompts(gained: Interval, n: int) -> str:
    """Say how many prompts would tell a gain of this size from none, at this noise per prompt."""
    below = gained.estimate - gained.low
    if not gained.estimate > 0 or not math.isfinite(below):
        return "More prompts of this kind are unlikely to change it: nothing was gained on these."
    # The interval narrows with the root of n: so many prompts bring its lower end up to 0.
    more = max(n * ((below / gained.estimate) ** 2 - 1), 1.0)
    return f"About {math.ceil(more):,} more judged prompts might change it, if the gain seen on these is real."


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
