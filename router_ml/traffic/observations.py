"""The traffic as arrays: one row a prompt, one column a tier, NaN where a tier was not tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml.ladder import Ladder
from router_ml.traffic.prices import call_costs, call_tokens, mean_output_tokens

__all__ = ["Observations", "observe", "slices"]


@dataclass(frozen=True, slots=True)
class Observations:
    """What was observed of n prompts and T tiers, in ladder order.

    Attributes
    ----------
    prompt_id, prompt : array [n] of str
        Sorted by `prompt_id`.
    session_id, source, category : array [n] of str
        Empty where not given. Prompts of one session stay together in every split (see `router_ml.traffic.split.keep_together`).
    quality, cost_usd, input_tokens, output_tokens, propensity : array [n, T]
        NaN where the tier was not tried, or the value not logged. Output tokens and costs that weren't logged are reckoned, see
        :func:`router_ml.traffic.prices.call_tokens`.
    response : array [n, T] of str or None
        None where not logged.
    """

    prompt_id: NDArray[np.str_]
    prompt: NDArray[np.object_]
    session_id: NDArray[np.str_]
    source: NDArray[np.str_]
    category: NDArray[np.str_]
    quality: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    input_tokens: NDArray[np.float64]
    output_tokens: NDArray[np.float64]
    propensity: NDArray[np.float64]
    response: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.prompt_id)

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Prompts on which each tier's quality and cost are known; shape [n]."""
        return np.asarray(~np.isnan(self.quality + self.cost_usd).any(axis=1))

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """The given prompts only."""
        return type(self)(*(getattr(self, f.name)[rows] for f in fields(self)))


def observe(traffic: pl.DataFrame, ladder: Ladder) -> Observations:
    """Arrange a validated traffic table by prompt and tier; rows of models outside the ladder are left out."""
    rows = traffic.filter(pl.col("model").is_in(ladder.models))
    elsewhere = mean_output_tokens(rows, ladder)
    told = []
    for tier in ladder:
        part = rows.filter(pl.col("model") == tier.model)
        output = pl.Series(call_tokens(tier, part, elsewhere)[:, 1]).fill_nan(None)
        cost = pl.Series(call_costs(tier, part, elsewhere))
        told.append(part.select("prompt_id", "model", cost=cost, n_output=output))
    rows = rows.join(pl.concat(told), on=["prompt_id", "model"], how="left", maintain_order="left")
    prompts = (
        rows.group_by("prompt_id", maintain_order=True)
        .agg(pl.col("prompt", "session_id", "source", "category").drop_nulls().first())
        .sort("prompt_id")
    )

    def wide(column: str) -> pl.DataFrame:
        table = rows.pivot("model", index="prompt_id", values=column, aggregate_function="first").sort("prompt_id")
        return table.select(pl.col(ladder.models))

    def by_tier(column: str) -> NDArray[np.float64]:
        return wide(column).cast(pl.Float64).to_numpy().astype(np.float64)

    def texts(column: str) -> NDArray[np.str_]:
        return np.array(prompts[column].fill_null("").to_list(), dtype=np.str_)

    return Observations(
        prompt_id=texts("prompt_id"),
        prompt=np.array(prompts["prompt"].to_list(), dtype=np.object_),
        session_id=texts("session_id"),
        source=texts("source"),
        category=texts("category"),
        quality=by_tier("quality"),
        cost_usd=by_tier("cost"),
        input_tokens=by_tier("input_tokens"),
        output_tokens=by_tier("n_output"),
        propensity=by_tier("propensity"),
        response=np.array(wide("response").rows(), dtype=np.object_).reshape(len(prompts), len(ladder)),
    )


def slices(observations: Observations) -> dict[str, Sequence[str]]:
    """The columns to report by that hold more than one value."""
    columns = {"source": observations.source, "category": observations.category}
    return {name: values.tolist() for name, values in columns.items() if len(set(values.tolist())) > 1}
