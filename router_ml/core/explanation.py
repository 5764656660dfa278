"""Why a query goes where it goes: what is expected of each tier, which of them may take it, and what it resembles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from router_ml.core.decision import Decision
from router_ml.core.neighbours import Neighbour

__all__ = ["Explanation", "TierView"]


class TierView(NamedTuple):
    """What is known of one tier for the query.

    Attributes
    ----------
    tier, model : str
    p_meets, quality, output_tokens, cost_usd : float
        As in `Prediction`.
    why_not : str or None
        Why it may not take the query; None where it may.
    """

    tier: str
    model: str
    p_meets: float
    quality: float
    output_tokens: float
    cost_usd: float
    why_not: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with all that it rests on.

    Attributes
    ----------
    decision : Decision or None
        None where no tier may take the query.
    tiers : tuple of TierView
        In ladder order.
    novelty : float
    novelty_threshold : float or None
        Above it the query goes to the reference tier.
    neighbours : tuple of Neighbour
        The most similar training prompts; empty where the artifact holds none (``fit --neighbours``).
    """

    decision: Decision | None
    tiers: tuple[TierView, ...]
    novelty: float
    novelty_threshold: float | None
    neighbours: tuple[Neighbour, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "novelty": self.novelty,
            "novelty_threshold": self.novelty_threshold,
            "decision": None if self.decision is None else self.decision._asdict(),
            "tiers": [t._asdict() for t in self.tiers],
            "neighbours": [n._asdict() for n in self.neighbours],
        }

    def to_text(self) -> str:
        """As lines for a terminal."""
        width = max(len(t.tier) for t in self.tiers)
        lines = ["No tier may take this query." if self.decision is None else self.decision.explanation]
        lines += [
            f"  {t.tier:<{width}}  p_meets {t.p_meets:.2f}  quality {t.quality:.2f}  ${t.cost_usd:.6f}"
            + (f"  may not: {t.why_not}" if t.why_not else "")
            for t in self.tiers
        ]
        limit = "" if self.novelty_threshold is None else f", to the reference tier above {self.novelty_threshold:.2f}"
        lines.append(f"Novelty {self.novelty:.2f}{limit}")
        for n in self.neighbours:
            outcomes = ", ".join(f"{tier} {quality:.2f}" for tier, quality in n.quality.items())
            lines.append(f"  like {n.prompt_id} ({n.similarity:.2f}): {outcomes}")
        return "\n".join(lines)
