"""A ladder that fits the traffic: its tiers, their prices and their order."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml.errors import LadderError
from router_ml.ladder import Ladder, Tier

__all__ = ["ResolvedLadder", "estimate_prices", "list_price", "resolve_ladder"]

_MTOK = 1_000_000
_PRICE_TOLERANCE = 0.1
"""Relative difference of mean cost up to which a looked-up price is taken to be what the log was charged at."""
_CHARS_PER_TOKEN = 4.0
"""English text's usual ratio, for logs that hold no token counts (https://help.openai.com/en/articles/4936856)."""


@dataclass(frozen=True, slots=True)
class ResolvedLadder:
    """A ladder with prices, cheapest first, and what was done to get there (one sentence each)."""

    ladder: Ladder
    notes: tuple[str, ...]


def resolve_ladder(traffic: pl.DataFrame, ladder: Ladder | None = None) -> ResolvedLadder:
    """Fit a ladder to the traffic.

    Without a ladder the tiers are the models of the traffic. Prices that aren't given are looked up (``genai-prices``);
    where that knows none, or the log's costs contradict it by more than 10 %, they are estimated from the logged costs.
    The tiers come out ordered by mean cost.

    Parameters
    ----------
    traffic : DataFrame
        A validated traffic table.
    ladder : Ladder, optional
        The tiers to use; models of the traffic that it doesn't name are left out, with a note.

    Raises
    ------
    LadderError
        If the ladder names a model that the traffic lacks, fewer than two tiers remain, or a tier has neither a price
        nor logged costs.
    """
    notes: list[str] = []
    seen = traffic["model"].unique().sort().to_list()
    if ladder is None:
        ladder = Ladder(tuple(Tier(name=m, model=m) for m in seen))
    lacking = [m for m in ladder.models if m not in seen]
    if lacking:
        raise LadderError(
            f"The traffic holds no answer of {lacking}, which the ladder names; it holds {seen}. Rename or remove them."
        )
    extra = [m for m in seen if m not in ladder.models]
    if extra:
        notes.append(f"Left out, since the ladder doesn't name them: {', '.join(extra)}.")
    if len(ladder) < 2:
        raise LadderError(f"There is one tier only ({ladder[0].name}); a router needs at least two to choose from.")
    priced = []
    for tier in ladder:
        rows = traffic.filter(pl.col("model") == tier.model)
        tier, note = _with_prices(tier, rows)
        notes += [note] if note else []
        priced.append((mean_cost(tier, rows), tier))
    return ResolvedLadder(Ladder(tuple(t for _, t in sorted(priced, key=lambda p: p[0]))), tuple(notes))


def mean_cost(tier: Tier, rows: pl.DataFrame) -> float:
    """Mean cost in USD of a tier's calls, logged or else computed."""
    return float(np.mean(call_costs(tier, rows)))


def call_costs(tier: Tier, rows: pl.DataFrame) -> NDArray[np.float64]:
    """Cost in USD of each of a tier's calls: what was logged, else prices times tokens; shape [n]."""
    tokens = token_counts(rows)
    computed = Ladder((tier,)).cost_usd(tokens[:, :1], tokens[:, 1:])[:, 0]
    logged = rows["cost_usd"].to_numpy()
    return np.where(np.isnan(logged), computed, logged)


def token_counts(rows: pl.DataFrame) -> NDArray[np.float64]:
    """Input and output tokens of each call, shape [n, 2]: what was logged, else a quarter of the characters, else 0."""
    by_length = [
        pl.coalesce(pl.col(tokens).cast(pl.Float64), pl.col(text).str.len_chars() / _CHARS_PER_TOKEN, 0.0).alias(tokens)
        for tokens, text in (("input_tokens", "prompt"), ("output_tokens", "response"))
    ]
    return rows.select(by_length).to_numpy().astype(np.float64)


def _with_prices(tier: Tier, rows: pl.DataFrame) -> tuple[Tier, str | None]:
    if tier.priced:
        return tier, None
    logged = rows.filter(pl.col("cost_usd").is_not_null())
    listed = list_price(tier)
    if listed is not None:
        if logged.is_empty():
            return listed, f"{tier.name}: no logged cost; list price (genai-prices)."
        tokens = token_counts(logged)
        expected = Ladder((listed,)).cost_usd(tokens[:, :1], tokens[:, 1:]).sum()
        paid = float(logged["cost_usd"].sum())
        if abs(expected - paid) <= _PRICE_TOLERANCE * paid:
            return listed, f"{tier.name}: list price (genai-prices), which agrees with the logged costs."
    if logged.is_empty():
        raise LadderError(
            f"Tier {tier.name!r} has no price: none is given, none is known for the model {tier.model!r}, and the traffic logs no "
            "cost for it. Give input_usd_per_mtok and output_usd_per_mtok in tiers.yaml."
        )
    estimated = estimate_prices(token_counts(logged), logged["cost_usd"].to_numpy())
    tier = dataclasses.replace(
        tier,
        input_usd_per_mtok=float(estimated[0] * _MTOK),
        output_usd_per_mtok=float(estimated[1] * _MTOK),
        request_usd=float(estimated[2]),
        context_window=tier.context_window or (listed.context_window if listed else None),
        price_source="estimated",
    )
    why = "the list price contradicts them" if listed else "no list price is known"
    return tier, (
        f"{tier.name}: prices estimated from {logged.height:,} logged costs ({why}): ${tier.input_usd_per_mtok:.4g} in, "
        f"${tier.output_usd_per_mtok:.4g} out per million tokens"
        + (f", ${tier.request_usd:.3g} a call." if tier.request_usd else ".")
    )


def list_price(tier: Tier) -> Tier | None:
    """The tier with the prices and context window that ``genai-prices`` lists for its model, or None if it lists none."""
    import genai_prices

    try:
        # A thousand tokens, since some prices rise with the length of the request.
        price = genai_prices.calc_price(genai_prices.Usage(input_tokens=1000, output_tokens=1000), tier.model)
    except LookupError:
        return None
    if price.input_price is None or price.output_price is None:
        return None
    return dataclasses.replace(
        tier,
        input_usd_per_mtok=float(price.input_price) * 1000,
        output_usd_per_mtok=float(price.output_price) * 1000,
        context_window=tier.context_window or price.model.context_window,
        price_source="genai-prices",
    )


def estimate_prices(tokens: NDArray[np.float64], cost_usd: NDArray[np.float64]) -> NDArray[np.float64]:
    """Non-negative least squares of logged costs on logged tokens.

    Parameters
    ----------
    tokens : array [n, 2]
        Input and output tokens of each call.
    cost_usd : array [n]
        What each call cost.

    Returns
    -------
    array [3]
        USD per input token, per output token, and per call. The last is 0 unless no call has tokens to be charged by.

    References
    ----------
    Lawson, Hanson: Solving Least Squares Problems (1974), ch. 23; ``scipy.optimize.nnls``.
    """
    from scipy.optimize import nnls

    scale = tokens.mean(axis=0)
    used = scale > 0
    if not used.any() or cost_usd.sum() == 0:
        return np.array([0.0, 0.0, cost_usd.mean()])
    weights, _ = nnls(tokens[:, used] / scale[used], cost_usd / cost_usd.mean())
    prices = np.zeros(3)
    prices[:2][used] = weights * cost_usd.mean() / scale[used]
    return prices
