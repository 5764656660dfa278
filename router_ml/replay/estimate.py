"""What a replay would cost: expected from the log's token counts, and at worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from router_ml.ladder import Ladder
from router_ml.replay.endpoints import Endpoint
from router_ml.replay.messages import chat_messages
from router_ml.replay.plan import Plan
from router_ml.replay.prices import Price, most_input_tokens
from router_ml.traffic.calls import calls_seconds, spoken
from router_ml.traffic.prices import token_counts

__all__ = ["Estimate", "TierEstimate", "estimate"]

_CHARS_PER_TOKEN = 4.0
"""English text's usual ratio (https://help.openai.com/en/articles/4936856)."""


@dataclass(frozen=True, slots=True)
class TierEstimate:
    """One tier's calls, the tokens expected of them, their cost in USD (expected, and at worst), and the seconds that they take."""

    tier: str
    n_calls: int
    input_tokens: int
    output_tokens: int
    expected_usd: float
    worst_usd: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a replay would cost.

    Attributes
    ----------
    n_prompts : int
    tiers : tuple of TierEstimate
        In ladder order.
    n_affordable : int
        Prompts, in the plan's order, whose expected cost stays within the budget; all of them without one.
    max_usd : float or None
    """

    n_prompts: int
    tiers: tuple[TierEstimate, ...]
    n_affordable: int
    max_usd: float | None

    @property
    def seconds(self) -> float:
        """How long the calls take, the tiers asked beside each other."""
        return max((t.seconds for t in self.tiers), default=0.0)

    @property
    def expected_usd(self) -> float:
        """Expected cost of all calls."""
        return sum(t.expected_usd for t in self.tiers)

    @property
    def worst_usd(self) -> float:
        """Cost of all calls if each answer were as long as it may be."""
        return sum(t.worst_usd for t in self.tiers)

    def summary(self) -> str:
        """The estimate in a few lines."""
        lines = [
            f"{t.tier}: {t.n_calls:,} calls, {t.input_tokens:,} tokens in, {t.output_tokens:,} out, "
            f"${t.expected_usd:,.4f} expected, ${t.worst_usd:,.4f} at worst"
            for t in self.tiers
        ]
        lines.append(
            f"In all: {self.n_prompts:,} prompts, ${self.expected_usd:,.4f} expected, ${self.worst_usd:,.4f} at worst"
        )
        lines.append(f"Takes about {spoken(self.seconds)}; through the Batch API (--batch) up to 24 hours")
        if self.max_usd is not None:
            lines.append(f"A budget of ${self.max_usd:,.2f} is expected to reach for {self.n_affordable:,} prompts")
        return "\n".join(lines)


def estimate(
    plan: Plan,
    traffic: pl.DataFrame,
    ladder: Ladder,
    endpoints: Sequence[Endpoint],
    prices: Sequence[Price],
    *,
    max_usd: float | None = None,
) -> Estimate:
    """Estimate a plan's cost; nothing is sent.

    Notes
    -----
    A prompt has the tokens that were logged for it with another model, else a quarter of its characters. A tier's answers are as long
    as those of it that the log holds; else as the log's answers in all; else as long as they may be.
    """
    texts = plan.prompts["prompt"]
    inputs = plan.prompts["input_tokens"].fill_null(texts.str.len_chars() / _CHARS_PER_TOKEN).to_numpy()
    most = np.array([most_input_tokens(chat_messages(p)) for p in texts], dtype=np.float64)
    per_prompt = np.zeros(len(inputs))
    tiers = []
    for i, (tier, endpoint, price) in enumerate(zip(ladder, endpoints, prices, strict=True)):
        asked = plan.missing[:, i]
        n = int(asked.sum())
        output = min(_mean_output(traffic, tier.model), float(endpoint.max_tokens))
        per_prompt += asked * (price.input_usd * inputs + price.usd(0, output))
        tiers.append(
            TierEstimate(
                tier.name,
                n,
                int(inputs[asked].sum()),
                round(n * output),
                float(price.input_usd * inputs[asked].sum() + n * price.usd(0, output)),
                float(price.input_usd * most[asked].sum() + n * price.usd(0, endpoint.max_tokens)),
                calls_seconds(n, output, endpoint.concurrency, endpoint.rpm),
            )
        )
    limit = np.inf if max_usd is None else max_usd
    n_affordable = int((np.cumsum(per_prompt) <= limit).sum())
    return Estimate(len(inputs), tuple(tiers), n_affordable, max_usd)


def _mean_output(traffic: pl.DataFrame, model: str) -> float:
    """Mean tokens of the logged answers, of this model or else of all; infinite where none is logged."""
    logged = traffic.filter(pl.col("output_tokens").is_not_null() | pl.col("response").is_not_null())
    for rows in (logged.filter(pl.col("model") == model), logged):
        if rows.height:
            return float(token_counts(rows)[:, 1].mean())
    return float("inf")
