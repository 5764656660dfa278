"""What the core answers: a decision for a query, predictions for many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Decision", "Policy", "Prediction"]

Policy = Literal["bar", "value", "reference"]


class Decision(NamedTuple):
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
        ``"bar"``, ``"value"`` or ``"reference"``.
    knob : float
        The threshold, or `lam`, that was used; the reference tier's index.
    reason : str
        ``"meets_bar"``: the cheapest tier that reaches the threshold; ``"none_meets_bar"``: none reaches it, so the
        likeliest; ``"best_value"``: the best quality for its cost; ``"reference"``: the reference tier, or where that may not take
        the query, the one of best expected quality; ``"novel"``: the same, since the query is unlike the training traffic;
        ``"only_tier"``: no other tier may take the query; ``"probe"``: asked first for what its answer tells
        (:meth:`router_ml.core.router.Router.triage`).
    novelty : float
        How unlike the training traffic the query is; about 1 on that traffic itself.
    """

    tier: str
    model: str
    p_meets: float
    quality: float
    cost_usd: float
    policy: str
    knob: float
    reason: str
    novelty: float

    @property
    def explanation(self) -> str:
        """The reason as a sentence."""
        match self.reason:
            case "meets_bar":
                return (
                    f"{self.tier} is the cheapest tier whose answer is likely enough to meet the bar "
                    f"({self.p_meets:.0%}, threshold {self.knob:.0%})."
                )
            case "none_meets_bar":
                return (
                    f"No tier reaches the threshold of {self.knob:.0%}; {self.tier} comes nearest ({self.p_meets:.0%})."
                )
            case "best_value":
                return f"{self.tier} has the best expected quality ({self.quality:.2f}) for its cost (${self.cost_usd:.6f})."
            case "reference":
                return f"{self.tier} is the reference tier, or the best that may stand in for it."
            case "novel":
                return (
                    f"The query is unlike the training traffic (novelty {self.novelty:.2g}), so it goes to {self.tier}: the reference tier, "
                    "or the best that may stand in for it."
                )
            case "probe":
                return f"{self.tier} is asked first, for what its answer tells; then another may be."
            case _:
                return f"{self.tier} is the only tier that may take this query."


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
