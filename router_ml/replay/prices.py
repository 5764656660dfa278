"""What a call costs: settled from its tokens, and at worst, before it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from router_ml.errors import LadderError
from router_ml.ladder import Ladder
from router_ml.traffic.prices import list_price

__all__ = ["Price", "most_input_tokens", "tier_prices"]

_PER_REQUEST, _PER_MESSAGE = 64, 16
"""Tokens that a chat template may add: role markers around each message, and a default system line."""


@dataclass(frozen=True, slots=True)
class Price:
    """A tier's price: USD per input token, per output token, and per call."""

    input_usd: float
    output_usd: float
    request_usd: float

    def usd(self, input_tokens: float, output_tokens: float) -> float:
        """Cost of one call."""
        return self.input_usd * input_tokens + self.output_usd * output_tokens + self.request_usd

    def times(self, share: float) -> Price:
        """The same price, at a share of it."""
        return Price(self.input_usd * share, self.output_usd * share, self.request_usd * share)


def tier_prices(ladder: Ladder) -> tuple[Price, ...]:
    """Each tier's price, in ladder order: the ladder's, else the list price (``genai-prices``).

    Raises
    ------
    LadderError
        If neither is known: nothing is bought whose price isn't.
    """
    prices = []
    for tier in ladder:
        priced = tier if tier.priced else list_price(tier)
        if priced is None:
            raise LadderError(
                f"Tier {tier.name!r} has no price, and none is listed for {tier.model!r}. Give input_usd_per_mtok and "
                "output_usd_per_mtok in tiers.yaml (0 where calls are free)."
            )
        per_input, per_output, per_call = Ladder((priced,)).prices()[:, 0].tolist()
        prices.append(Price(per_input, per_output, per_call))
    return tuple(prices)


def most_input_tokens(messages: Sequence[Mapping[str, str]]) -> int:
    """A bound on the tokens that the messages can take: no token of a byte-level vocabulary is shorter than a byte."""
    return _PER_REQUEST + sum(_PER_MESSAGE + len(m["content"].encode()) for m in messages)
