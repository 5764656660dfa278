"""What off-policy evaluation finds, as values and as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from router_ml.errors import TrafficError
from router_ml.evaluation.off_policy.diagnostics import MAX_UNSUPPORTED, MIN_EFFECTIVE_N, Overlap
from router_ml.evaluation.off_policy.intervals import Estimate
from router_ml.evaluation.report import table_text, wrapped
from router_ml.evaluation.tables import Table

__all__ = ["ROUTER", "Estimates", "Gain", "OffPolicyEvaluation", "PolicyValue"]

ROUTER = "router"
"""What the policy under evaluation is called among the constant ones."""

_MISSING = "-"
_PER_1000 = "USD/1,000 calls"


@dataclass(frozen=True, slots=True)
class Estimates:
    """One mean reward by each estimator; `doubly_robust` is the one that is quoted."""

    doubly_robust: Estimate
    snips: Estimate
    ips: Estimate
    direct: Estimate


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """What a policy would have had on the logged prompts.

    Attributes
    ----------
    name : str
    overlap : Overlap
        How much of the policy the log has seen, and why it can't answer where it can't.
    quality, cost_usd : Estimates or None
        Means a prompt; None where the log can't answer.
    """

    name: str
    overlap: Overlap
    quality: Estimates | None
    cost_usd: Estimates | None


@dataclass(frozen=True, slots=True)
class Gain:
    """The router less another policy, on the same prompts: ``quality`` and ``cost_usd``, doubly robust."""

    against: str
    quality: Estimate
    cost_usd: Estimate


@dataclass(frozen=True, slots=True)
class OffPolicyEvaluation:
    """A router judged on a log with one model per prompt.

    Attributes
    ----------
    tiers : tuple of T str
        In ladder order.
    setting : str
        The policy and knob under evaluation.
    share : tuple of T floats
        Share of the prompts that the router sends to each tier.
    n_prompts : int
    level : float
        Of the intervals.
    propensities : str
        ``"logged"`` or ``"estimated"``.
    router : PolicyValue
        Without figures where the log can't answer for it (`refusal`).
    constants : tuple of T PolicyValue
        Always the same tier.
    gain : Gain or None
        Against the constant policy of the best estimated quality; None where the log can't answer for any, or not for the router.
    notes : tuple of str
        What these figures rest on.
    """

    tiers: tuple[str, ...]
    setting: str
    share: tuple[float, ...]
    n_prompts: int
    level: float
    propensities: str
    router: PolicyValue
    constants: tuple[PolicyValue, ...]
    gain: Gain | None
    notes: tuple[str, ...]

    @property
    def refusal(self) -> str | None:
        """Why the log can't answer for the router, and what to do; None where it can."""
        if self.router.overlap.answerable:
            return None
        return (
            f"This log can't answer for the router ({self.setting}): {'; '.join(self.router.overlap.problems)}. Log with exploration "
            "(router-ml explore says how much and where), judge a setting nearer to what was logged (evaluate --off-policy takes a "
            "decision's options, such as --threshold, --lam or --policy reference), or replay prompts."
        )

    def require_router(self) -> Self:
        """Itself, where the log can answer for the router; raises TrafficError where it can't."""
        if self.refusal is not None:
            raise TrafficError(self.refusal)
        return self

    @property
    def headline(self) -> str:
        """The finding in a sentence or two."""
        if self.refusal is not None:
            known = [c.name for c in self.constants if c.overlap.answerable]
            return f"{self.refusal} It can answer for {', '.join(known) if known else 'no single tier either'}."
        quality, cost = _quoted(self.router)
        value = (
            f"quality {_number(quality.value)} ({self._interval(quality, _number)}) at "
            f"{_usd_per_1000(cost.value)} {_PER_1000}"
        )
        if self.gain is None:
            return (
                f"The router would have had {value}; this log can't answer for any single tier, so there is nothing to "
                "compare it with."
            )
        gained, best = self.gain.quality, self.gain.against
        if gained.low > 0:
            verdict = f"The router is BETTER than {best}"
        elif gained.high < 0:
            verdict = f"The router is WORSE than {best}"
        else:
            verdict = f"This log can't tell the router's quality from that of {best}, the best single tier that it can answer for"
        return (
            f"{verdict}: {value}; the difference in quality is {gained.value:+.4f} "
            f"({self._interval(gained, '{:+.4f}'.format)}), at {self._saving(self.gain)}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; null where a figure isn't defined."""
        values: dict[str, Any] = _plain({"headline": self.headline, **asdict(self)})
        return values

    def to_text(self) -> str:
        """Aligned tables, the headline first; ends in a newline."""
        parts = [
            wrapped(self.headline),
            *(table_text(t) for t in (self._values(), self._by_estimator(), self._overlap())),
        ]
        refused = [
            f"The log can't answer for {p.name}: {'; '.join(p.overlap.problems)}."
            for p in self.constants
            if not p.overlap.answerable
        ]
        parts += [wrapped(line) for line in (*refused, *self.notes)]
        return "\n\n".join(parts) + "\n"

    def _values(self) -> Table:
        interval = f"{100 * self.level:g} % interval"
        rows = []
        for policy in (self.router, *self.constants):
            if policy.quality is None or policy.cost_usd is None:
                rows.append((policy.name, *[_MISSING] * 4))
                continue
            quality, cost = policy.quality.doubly_robust, policy.cost_usd.doubly_robust
            rows.append(
                (
                    policy.name,
                    _number(quality.value),
                    _ends(quality, _number),
                    _usd_per_1000(cost.value),
                    _ends(cost, _usd_per_1000),
                )
            )
        if self.gain is not None:
            quality, cost = self.gain.quality, self.gain.cost_usd
            figures = (f"{quality.value:+.4f}", _ends(quality, "{:+.4f}".format))
            spent = (_usd_per_1000(cost.value), _ends(cost, _usd_per_1000))
            rows.append((f"{ROUTER} minus {self.gain.against}", *figures, *spent))
        calls = ", ".join(f"{name} {100 * part:.0f} %" for name, part in zip(self.tiers, self.share, strict=True))
        note = (
            f"Doubly robust, over {self.n_prompts:,} logged prompts. The router: {self.setting}; its calls: {calls}. The "
            "difference is paired by prompt, so that it is known better than its two sides. Intervals end where the truth must: a "
            "quality lies between 0 and 1. The estimates themselves, right on average, may lie outside."
        )
        columns = ("policy", "quality", interval, _PER_1000, interval)
        return Table("What each policy would have had", columns, tuple(rows), note=note)

    def _by_estimator(self) -> Table:
        rows = []
        for policy in (self.router, *self.constants):
            found = policy.quality
            if found is None:
                rows.append((policy.name, *[_MISSING] * 5))
                continue
            weighted = ((_number(e.value), _ends(e, _number)) for e in (found.snips, found.ips))
            rows.append((policy.name, *(cell for pair in weighted for cell in pair), _number(found.direct.value)))
        interval = f"{100 * self.level:g} % interval"
        note = (
            "SNIPS and IPS rest on the propensities alone, the direct method on the router's own predictions alone (its "
            "interval would say nothing about their errors). Where the former lie far from the doubly robust figure, doubt the "
            "propensities; where the latter does, the predictions."
        )
        columns = ("policy", "SNIPS", interval, "IPS", interval, "direct")
        return Table("Quality by other estimators", columns, tuple(rows), note=note)

    def _overlap(self) -> Table:
        rows = tuple(
            (
                policy.name,
                f"{policy.overlap.effective_n:,.0f}",
                f"{policy.overlap.largest_weight:.1f}",
                f"{policy.overlap.mean_weight:.3f}",
                f"{100 * policy.overlap.unsupported:.1f} %",
                "yes" if policy.overlap.answerable else "NO",
            )
            for policy in (self.router, *self.constants)
        )
        note = (
            f"Propensities: {self.propensities}. Effective rows: what the log is worth in prompts of the policy's own; at "
            f"least {MIN_EFFECTIVE_N:g} will do. The mean weight is about 1 where the propensities are right. Unsupported: share of the "
            f"policy on tiers hardly ever tried on such prompts; at most {100 * MAX_UNSUPPORTED:g} % will do."
        )
        columns = ("policy", "effective rows", "largest weight", "mean weight", "unsupported", "can answer")
        return Table("What the log has seen", columns, rows, left=(0, 5), note=note)

    def _saving(self, gain: Gain) -> str:
        """What the router costs less than the policy that it is compared with, in percent of that one's cost."""
        other = _quoted(self.router)[1].value - gain.cost_usd.value
        if not other > 0:
            return f"{_usd_per_1000(gain.cost_usd.value)} {_PER_1000} more"
        saved = -100 * gain.cost_usd.value / other
        return f"{abs(saved):.1f} % {'less' if saved >= 0 else 'more'} cost"

    def _interval(self, estimate: Estimate, show: Callable[[float], str]) -> str:
        return f"{100 * self.level:g} % interval {_ends(estimate, show)}"


def _quoted(policy: PolicyValue) -> tuple[Estimate, Estimate]:
    if policy.quality is None or policy.cost_usd is None:
        raise ValueError(f"The log can't answer for {policy.name}.")
    return policy.quality.doubly_robust, policy.cost_usd.doubly_robust


def _number(value: float) -> str:
    return f"{value:.4f}"


def _usd_per_1000(value: float) -> str:
    return f"{1000 * value:.4g}"


def _ends(estimate: Estimate, show: Callable[[float], str]) -> str:
    return f"{show(estimate.low)} to {show(estimate.high)}"


def _plain(value: Any) -> Any:
    """JSON has no NaN and no tuples."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
