"""A ladder that fits the traffic: its tiers, their prices and their order."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml.errors import LadderError
from router_ml.ladder import Ladder, Tier

__all__ = [
    "ResolvedLadder",
    "call_costs",
    "call_tokens",
    "dated_names",
    "estimate_prices",
    "list_price",
    "mean_cost",
    "mean_output_tokens",
    "resolve_ladder",
    "token_counts",
]

_DATE = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8}|\d{4})$")
_MTOK = 1_000_000
_PRICE_TOLERANCE = 0.1
"""Relative difference of mean cost up to which a looked-up price is taken to be what the log was charged at."""
_CHARS_PER_TOKEN = 4.0
"""English text's usual ratio, for logs that hold no token counts (https://help.openai.com/en/articles/4936856)."""
_ANSWER_TOKENS = 200.0
"""Tokens that each answer is taken to have where nothing tells of any: about a chat's. With the same for each tier, prices alone order them."""


@dataclass(frozen=True, slots=True)
class ResolvedLadder:
    """A ladder with prices, cheapest first, and what was done to get there (one sentence each).

    Attributes
    ----------
    notes : tuple of str
    warnings : tuple of str
        What isn't known of a tier's costs, and what is assumed instead.
    """

    ladder: Ladder
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


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

    Notes
    -----
    What a log lacks is never taken to be 0, see :func:`call_tokens`. Costs that are all 0 weren't logged where the tier has a price.
    """
    notes: list[str] = []
    seen = traffic["model"].unique().sort().to_list()
    if ladder is None:
        ladder = Ladder(tuple(Tier(name=m, model=m) for m in seen))
    lacking = [m for m in ladder.models if m not in seen]
    if lacking:
        raise LadderError(
            f"The traffic holds no answer of {lacking}, which the ladder names; it holds {seen}. "
            + (dated_names(lacking, seen) or "Rename or remove them.")
        )
    extra = [m for m in seen if m not in ladder.models]
    if extra:
        notes.append(f"Left out, since the ladder doesn't name them: {', '.join(extra)}.")
    if len(ladder) < 2:
        raise LadderError(f"There is one tier only ({ladder[0].name}); a router needs at least two to choose from.")
    warnings = []
    by_model = {t.model: traffic.filter(pl.col("model") == t.model) for t in ladder}
    tiers = []
    for tier in ladder:
        tier, note = _with_prices(tier, by_model[tier.model])
        notes += [note] if note else []
        tiers.append(tier)
    ladder = Ladder(tuple(tiers))
    elsewhere = mean_output_tokens(traffic, ladder)
    costs = []
    for tier in ladder:
        warnings += _warnings(tier, by_model[tier.model], elsewhere)
        costs.append(mean_cost(tier, by_model[tier.model], elsewhere))
    in_order = sorted(zip(costs, ladder, strict=True), key=lambda pair: pair[0])
    return ResolvedLadder(Ladder(tuple(t for _, t in in_order)), tuple(notes), tuple(warnings))


def dated_names(models: Sequence[str], seen: Sequence[str]) -> str:
    """Say what to do where the traffic has `models` under names with a date or a provider; empty where it hasn't.

    Examples
    --------
    >>> dated_names(["gpt-4.1"], ["gpt-4.1-mini-2025-04-14"])
    ''
    """
    pairs = [(m, s) for m in models for s in seen if s != m and _undated(s) == _undated(m)]
    if not pairs:
        return ""
    ours, theirs = pairs[0]
    return (
        f"The log has {ours} as {theirs}, the name by which its provider answered: import the log again with --model-from request, "
        "or write the log's names in tiers.yaml."
    )


def _undated(model: str) -> str:
    """A model's name without its provider (``openai/``) and its date (``-2025-04-14``, ``-20250414``, ``-0414``)."""
    return _DATE.sub("", model.rpartition("/")[2])


def mean_cost(tier: Tier, rows: pl.DataFrame, elsewhere: float = np.nan) -> float:
    """Mean cost in USD of a tier's calls, logged or else computed; NaN where it isn't known."""
    return float(np.mean(call_costs(tier, rows, elsewhere)))


def call_costs(tier: Tier, rows: pl.DataFrame, elsewhere: float = np.nan) -> NDArray[np.float64]:
    """Cost in USD of each of a tier's calls: what was logged, else prices times tokens; shape [n].

    An answer of unknown length is taken to be as long as the tier's others; where nothing tells of these, the cost is NaN.
    """
    tokens = call_tokens(tier, rows, elsewhere)
    known = ~np.isnan(tokens[:, 1])
    if known.any():
        tokens[~known, 1] = tokens[known, 1].mean()
    elif tier.output_usd_per_mtok == 0:
        tokens[:, 1] = 0.0
    computed = Ladder((tier,)).cost_usd(tokens[:, :1], tokens[:, 1:])[:, 0]
    logged = logged_costs(tier, rows)
    return np.where(np.isnan(logged), computed, logged)


def logged_costs(tier: Tier, rows: pl.DataFrame) -> NDArray[np.float64]:
    """Logged cost in USD of each call, NaN where there is none: all of them, where each is 0 though the tier has a price."""
    logged = rows["cost_usd"].to_numpy().astype(np.float64)
    return np.full_like(logged, np.nan) if _charges(tier) and not np.nansum(logged) > 0 else logged


def call_tokens(tier: Tier, rows: pl.DataFrame, elsewhere: float = np.nan) -> NDArray[np.float64]:
    """Input and output tokens of each of a tier's calls, shape [n, 2].

    What was logged, else a quarter of the characters. Where the length of none of the tier's answers is known, the output that the
    logged costs pay for at the tier's prices; where these tell nothing either, `elsewhere`: the mean of other tiers.
    """
    tokens = token_counts(rows)
    if np.isnan(tokens[:, 1]).all():
        paid_for = _paid_for(tier, tokens[:, 0], logged_costs(tier, rows))
        tokens[:, 1] = paid_for if np.nansum(paid_for) > 0 else elsewhere
    return tokens


def mean_output_tokens(traffic: pl.DataFrame, ladder: Ladder) -> float:
    """Mean output tokens over the calls of a ladder's tiers whose length can be told; where there is none, 200."""
    rows = [(tier, traffic.filter(pl.col("model") == tier.model)) for tier in ladder]
    output = np.concatenate([call_tokens(tier, part)[:, 1] for tier, part in rows])
    return float(np.nanmean(output)) if not np.isnan(output).all() else _ANSWER_TOKENS


def token_counts(rows: pl.DataFrame) -> NDArray[np.float64]:
    """Input and output tokens of each call, shape [n, 2]: what was logged, else a quarter of the characters, else NaN."""
    by_length = [
        pl.coalesce(pl.col(tokens).cast(pl.Float64), pl.col(text).str.len_chars() / _CHARS_PER_TOKEN).alias(tokens)
        for tokens, text in (("input_tokens", "prompt"), ("output_tokens", "response"))
    ]
    return rows.select(by_length).to_numpy().astype(np.float64, copy=True)


def _charges(tier: Tier) -> bool:
    return bool(tier.input_usd_per_mtok or tier.output_usd_per_mtok or tier.request_usd)


def _paid_for(tier: Tier, n_input: NDArray[np.float64], cost_usd: NDArray[np.float64]) -> NDArray[np.float64]:
    """Output tokens that a call's cost leaves room for beside its input; NaN where the tier has no price for them."""
    if not tier.output_usd_per_mtok:
        return np.full_like(cost_usd, np.nan)
    others = n_input * (tier.input_usd_per_mtok or 0.0) / _MTOK + tier.request_usd
    return np.maximum((cost_usd - others) * _MTOK / tier.output_usd_per_mtok, 0.0)


def _warnings(tier: Tier, rows: pl.DataFrame, elsewhere: float) -> list[str]:
    """What isn't known of a tier's costs, and what is assumed."""
    found = []
    logged = rows["cost_usd"]
    if _charges(tier) and logged.count() and not logged.sum() > 0:
        found.append(
            f"{tier.name}: each logged cost_usd is 0, though the tier has a price ({tier.price_source}); the price is used. A tier that "
            "is free needs prices of 0 in tiers.yaml."
        )
    if not np.isnan(token_counts(rows)[:, 1]).all():
        return found
    text = f"{tier.name}: neither output_tokens nor response is logged"
    told = call_tokens(tier, rows)[:, 1]
    if not np.isnan(told).all():
        found.append(
            f"{text}, so its prices can't be checked against the logged costs; these pay for {np.nanmean(told):,.0f} output tokens a "
            "call at its prices, which is taken to be the length of its answers."
        )
    else:
        found.append(
            f"{text}; its answers are assumed to be as long as the other tiers', {elsewhere:,.0f} tokens on the mean (where none "
            f"tells, {_ANSWER_TOKENS:,.0f}), and so is what they cost. Add one of these columns."
        )
    if rows["input_tokens"].count() == 0:
        found[-1] += " No input_tokens are logged either: a quarter of the prompt's characters is taken."
    return found


def _with_prices(tier: Tier, rows: pl.DataFrame) -> tuple[Tier, str | None]:
    if tier.priced:
        return tier, None
    logged = rows.filter(pl.col("cost_usd").is_not_null())
    listed = list_price(tier)
    # Only calls whose length is known can contradict a price, or tell one.
    told = logged.filter(pl.col("output_tokens").is_not_null() | pl.col("response").is_not_null())
    if listed is not None:
        if logged.is_empty():
            return listed, f"{tier.name}: no logged cost; list price (genai-prices)."
        paid = float(told["cost_usd"].sum())
        if _charges(listed) and not logged["cost_usd"].sum() > 0:
            return listed, f"{tier.name}: list price (genai-prices)."
        paid_for = _paid_for(listed, token_counts(logged)[:, 0], logged["cost_usd"].to_numpy())
        if told.is_empty() and np.nansum(paid_for) > 0:
            return listed, f"{tier.name}: list price (genai-prices)."
        tokens = token_counts(told)
        expected = Ladder((listed,)).cost_usd(tokens[:, :1], tokens[:, 1:]).sum()
        if told.height and abs(expected - paid) <= _PRICE_TOLERANCE * paid:
            return listed, f"{tier.name}: list price (genai-prices), which agrees with the logged costs."
    if logged.is_empty():
        raise LadderError(
            f"Tier {tier.name!r} has no price: none is given, none is known for the model {tier.model!r}, and the traffic logs no "
            "cost for it. Give input_usd_per_mtok and output_usd_per_mtok in tiers.yaml."
        )
    if told.is_empty():
        per_call = float(logged["cost_usd"].to_numpy().mean())
        estimated = np.array([0.0, 0.0, per_call])
    else:
        estimated = estimate_prices(token_counts(told), told["cost_usd"].to_numpy())
    tier = dataclasses.replace(
        tier,
        input_usd_per_mtok=float(estimated[0] * _MTOK),
        output_usd_per_mtok=float(estimated[1] * _MTOK),
        request_usd=float(estimated[2]),
        context_window=tier.context_window or (listed.context_window if listed else None),
        price_source="estimated",
    )
    why = "the list price contradicts them" if listed else "no list price is known"
    if told.is_empty():
        why += ", and no output_tokens or responses are logged, so each call is charged the mean"
    return tier, (
        f"{tier.name}: prices estimated from {(told if told.height else logged).height:,} logged costs ({why}): "
        f"${tier.input_usd_per_mtok:.4g} in, ${tier.output_usd_per_mtok:.4g} out per million tokens"
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
