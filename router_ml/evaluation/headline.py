"""The report's first sentence: is the router any better than the zero router, and what does it save."""

from __future__ import annotations

import math

from router_ml.evaluation.bootstrap import BootstrapResult, Interval
from router_ml.evaluation.metrics import FrontierMetrics

__all__ = ["headline", "is_better"]

# A saving below this is rounding.
_ROUNDING = 1e-9


def is_better(router: str, plain: FrontierMetrics, intervals: BootstrapResult) -> bool:
    """Whether a router beats the zero router: it closes some of the gap, and its paired interval lies above 0."""
    gained = intervals.difference(router).aiq
    return plain.gap_closed > 0 and gained.excludes_zero and gained.low > 0


def headline(router: str, plain: FrontierMetrics, intervals: BootstrapResult, best_tier: str) -> str:
    """One or two sentences with figures; begins with "NO BETTER" where `is_better` doesn't hold.

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
