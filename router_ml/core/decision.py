"""What the core answers: a decision for a query, predictions for many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from router_ml.core.policy import Rule, Threshold

__all__ = ["Decision", "Estimates", "Prediction"]

_NEARLY = 0.005


class Estimates(NamedTuple):
    """What a decision rests on, of each tier in ladder order.

    Attributes
    ----------
    rule : Rule
    p_meets, quality, cost_usd : sequence of T float
        As predicted for the query.
    allowed : sequence of T bool, or None
        Tiers that may take the query; None: all.
    """

    rule: Rule
    p_meets: Sequence[float]
    quality: Sequence[float]
    cost_usd: Sequence[float]
    allowed: Sequence[bool] | None


class _Fields(NamedTuple):
    tier: str
    model: str
    p_meets: float
    quality: float
    cost_usd: float
    policy: str
    parameter: float
    reason: str
    novelty: float


class Decision(_Fields):
    """Which tier a query goes to, and why.

    Attributes
    ----------
    tier, model : str
        The chosen tier and the model behind it.
    p_meets : float
        Calibrated probability that its answer meets the bar.
    quality : float
        Expected quality of its answer, in [0, 1].
    cost_usd : float
        Expected cost of the call.
    policy : str
        The policy's `kind` (`router_ml.core.policy`): ``"shortfall"``, ``"threshold"``, ``"utility"``, ``"reference"`` or ``"single"``.
    parameter : float
        Its parameter: epsilon, the threshold, the quality that one US dollar is worth; 0 for policies without one.
    reason : str
        ``"will_do"``: the cheapest tier that will do; ``"meets_bar"``: the cheapest tier that reaches the threshold;
        ``"none_meets_bar"``: none reaches it, so the likeliest; ``"best_utility"``: the best quality for its cost; ``"reference"``,
        ``"single"``: the policy's one tier, or where that may not take the query, the one of best expected quality; ``"novel"``: the
        reference tier, since the query is unlike the training traffic; ``"only_tier"``: no other tier may take the query; ``"probe"``:
        asked first for what its answer tells (:meth:`router_ml.core.router.Router.triage`).
    novelty : float
        How unlike the training traffic the query is; about 1 on that traffic itself.

    Notes
    -----
    `estimates` is no part of the tuple: two decisions that differ in it alone are equal.
    """

    _basis: Estimates | tuple[Callable[..., Estimates], *tuple[Any, ...]] | None = None

    @classmethod
    def of(cls, values: tuple[Any, ...], basis: Estimates | tuple[Callable[..., Estimates], *tuple[Any, ...]]) -> Self:
        """Make a decision of its fields, in order, and of what it rests on, or of a function and arguments that give that when asked."""
        decision = tuple.__new__(cls, values)
        decision._basis = basis
        return decision

    @property
    def estimates(self) -> Estimates | None:
        """What is predicted of every tier; None for a decision that was made of its fields alone."""
        if isinstance(self._basis, tuple) and not isinstance(self._basis, Estimates):
            make, *arguments = self._basis
            self._basis = make(*arguments)
        return self._basis

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle holds beside the fields."""
        return {"_basis": self.estimates}

    def _replace(self, **changes: Any) -> Self:
        """A copy with other fields and the same estimates."""
        changed = super()._replace(**changes)
        changed._basis = self._basis
        return changed

    @property
    def explanation(self) -> str:
        """The reason in one or two sentences, beside the tier that would be taken otherwise."""
        return explain(self)

    def _asdict(self) -> dict[str, Any]:
        """The fields and the explanation, as plain JSON values."""
        return {**super()._asdict(), "explanation": self.explanation}

    def __repr__(self) -> str:
        """The fields and the explanation, floats with three digits."""
        values = (f"{n}={v:.3g}" if isinstance(v, float) else f"{n}={v!r}" for n, v in self._asdict().items())
        return f"Decision({', '.join(values)})"


def explain(decision: Decision) -> str:
    """Say why a query goes to its tier, and what the nearest other tier would have been expected to give."""
    name, known = decision.tier, decision.estimates
    other = None if known is None else _other(decision, known)
    beside = "" if known is None or other is None else f" {_beside(known, other, known.rule.tiers.index(name))}."
    match decision.reason:
        case "will_do" | "best_utility" if known is not None and other is not None:
            return _weighed(decision, known, other)
        case "will_do" | "best_utility":
            return f"{name} has the best expected quality ({decision.quality:.2f}) for its cost (${decision.cost_usd:.6f})."
        case "meets_bar":
            return (
                f"{name} is the cheapest tier whose answer is likely enough to meet the bar "
                f"({_percent(decision.p_meets)}, threshold {_percent(decision.parameter)}).{beside}"
            )
        case "none_meets_bar":
            return (
                f"No tier reaches the threshold of {_percent(decision.parameter)}; {name} comes nearest "
                f"({_percent(decision.p_meets)}).{beside}"
            )
        case "reference":
            return f"{name} was taken because the policy is always the reference tier, or the best that may stand in for it.{beside}"
        case "single":
            return (
                f"{name} was taken because the policy is always one tier, or the best that may stand in for it.{beside}"
            )
        case "novel":
            return (
                f"{name} was taken because the query is unlike the training traffic (novelty {decision.novelty:.2f}): such queries go to "
                f"the reference tier, or the best that may stand in for it.{beside}"
            )
        case "probe":
            return f"{name} is asked first, for what its answer tells; then another may be.{beside}"
        case "only_tier":
            return f"{name} is the only tier that may take this query."
        case _:
            does = "" if known is None else f": {known.rule.policy.describe()}"
            return f"{name} was taken by the policy {decision.policy}{does}.{beside}"


def _other(decision: Decision, known: Estimates) -> int | None:
    """The tier to compare with: of the cheaper ones the best by the policy, else of all others the reference tier or the best."""
    rule = known.rule
    chosen = rule.tiers.index(decision.tier)
    others = [t for t in range(len(rule.tiers)) if t != chosen and (known.allowed is None or known.allowed[t])]
    if not others:
        return None
    cheaper = [t for t in others if known.cost_usd[t] < known.cost_usd[chosen]]
    if not cheaper and rule.reference in others:
        return rule.reference
    price = rule.quality_per_usd or 0.0
    score = (
        known.p_meets
        if isinstance(rule.policy, Threshold)
        else [q - price * c for q, c in zip(known.quality, known.cost_usd, strict=True)]
    )
    return max(cheaper or others, key=lambda t: score[t])


def _weighed(decision: Decision, known: Estimates, other: int) -> str:
    """Explain a choice that weighed quality against cost."""
    name, chosen = decision.tier, known.rule.tiers.index(decision.tier)
    beside = _beside(known, other, chosen)
    better = 100 * (known.quality[chosen] - known.quality[other])
    worth = 100 * (known.rule.quality_per_usd or 0.0) * abs(known.cost_usd[chosen] - known.cost_usd[other])
    if known.cost_usd[other] < known.cost_usd[chosen]:
        return (
            f"{beside}; {name} was taken because it is expected to be {better:.1f} points better, and its extra cost is worth "
            f"{worth:.1f} points."
        )
    rival = known.rule.tiers[other]
    loses = f"is expected to lose {-better:.1f} points of quality against {rival}, and its saving is worth {worth:.1f} points"
    if better >= 0:
        loses = f"is expected to lose nothing against {rival}"
    return f"{name} will do: it would meet the bar with {_percent(decision.p_meets)} and {loses}. {beside}."


def _beside(known: Estimates, other: int, chosen: int) -> str:
    """Say what the other tier is expected to give, and how its cost compares."""
    name, p, cost, own = known.rule.tiers[other], known.p_meets[other], known.cost_usd[other], known.cost_usd[chosen]
    if cost <= 0 or own <= 0 or cost == own:
        price = f"costs ${cost:.6f}"
    else:
        ratio = max(cost, own) / min(cost, own)
        price = f"costs {ratio:.{0 if ratio >= 9.95 else 1}f} times {'less' if cost < own else 'more'}"
    return f"{name} would meet the bar with {_percent(p)} and {price}"


def _percent(share: float) -> str:
    """A probability; one that isn't certain isn't called so."""
    if 0 < share < _NEARLY:
        return "under 1 %"
    return "over 99 %" if 1 - _NEARLY < share < 1 else f"{100 * share:.0f} %"


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's outputs for n prompts and T tiers in ladder order.

    Attributes
    ----------
    p_meets, quality, output_tokens, cost_usd : array [n, T]
        Probability of meeting the bar, expected quality, expected tokens of the answer, expected cost in USD.
    novelty : array [n]
        How unlike the training traffic the prompt is; about 1 on that traffic itself.
    input_tokens : array [n, T]
        Expected tokens of the prompt, by which limits are checked: of a text that isn't ASCII at least one for four bytes in UTF-8.
    """

    p_meets: NDArray[np.float32]
    quality: NDArray[np.float32]
    output_tokens: NDArray[np.float32]
    cost_usd: NDArray[np.float64]
    novelty: NDArray[np.float32]
    input_tokens: NDArray[np.float64]

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The parts, one after the other."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def take(self, rows: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """The given prompts only."""
        return type(self)(*(getattr(self, f.name)[rows] for f in fields(self)))
