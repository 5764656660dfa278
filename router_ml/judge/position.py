"""How far a pairwise judge goes by position."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from router_ml.judge.shares import Share, share

__all__ = ["PositionBias", "position_bias"]

_TURNED = {"first": "second", "second": "first", "tie": "tie"}


@dataclass(frozen=True, slots=True)
class PositionBias:
    """Position bias over pairs of verdicts on the same two answers in both orders.

    Attributes
    ----------
    flips : Share
        Of all pairs, those whose verdict isn't the same in both orders.
    first : Share
        Of verdicts that name a winner, those that name the answer that stood first; 0.5 without bias.
    """

    flips: Share
    first: Share

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def position_bias(ordered: Iterable[tuple[str, str]]) -> PositionBias:
    """Position bias of verdicts, each (with A first, with B first) one of ``"first"``, ``"second"``, ``"tie"``.

    Notes
    -----
    A judge that wavers flips too, without favouring a position: compare the second share with 0.5. The two verdicts of
    a pair aren't independent, which the intervals leave out of account.

    References
    ----------
    Zheng et al.: Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena (NeurIPS 2023), section 3.3.
    """
    pairs = list(ordered)
    flips = sum(_TURNED[a] != b for a, b in pairs)
    named = [v for pair in pairs for v in pair if v != "tie"]
    return PositionBias(share(flips, len(pairs)), share(named.count("first"), len(named)))
