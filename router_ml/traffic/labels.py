"""Labels: for each prompt, the cheapest tier that met the bar, or what is known of it."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml.errors import InputError
from router_ml.ladder import Ladder

__all__ = ["NONE", "Bar", "count_labels", "label", "meets", "reference_tier"]

NONE = "none"
"""The label of a prompt that no tier met the bar on."""

_EPS = 1e-9
"""Slack of comparisons with the bar, so that 0.95 x 0.8 is met by 0.76."""


@dataclass(frozen=True, slots=True)
class Bar:
    """The quality that an answer has to reach.

    Parameters
    ----------
    value : float
        In (0, 1]. Absolute: ``quality >= value``; relative: ``quality >= value x the reference tier's`` on the same prompt.
    kind : {"absolute", "relative"}
    reference : str or None
        For a relative bar, the reference tier's name; None: the tier with the best mean quality.
    margin : float
        A quality nearer to the bar than this leaves it open whether it meets it: what a judge's noise is worth, >= 0. Of a relative
        bar both sides are judged, and their errors taken for independent, so that the margin grows by ``sqrt(1 + value ** 2)``; the
        reference tier itself stays known.
    """

    value: float
    kind: str = "absolute"
    reference: str | None = None
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("absolute", "relative"):
            raise InputError(f"The bar's kind is {self.kind!r}; choose 'absolute' or 'relative'.")
        if not 0 < self.value <= 1:
            raise InputError(f"The bar is {self.value!r}; it needs to be a quality in (0, 1].")
        if not 0 <= self.margin < 1:
            raise InputError(f"The bar's margin is {self.margin!r}; it needs to be a quality in [0, 1).")
        if self.reference is not None and self.kind == "absolute":
            raise InputError("Only a relative bar has a reference tier; give the bar as e.g. '0.95x'.")

    @property
    def width(self) -> float:
        """How near to the bar is too near to tell."""
        return self.margin if self.kind == "absolute" else self.margin * math.sqrt(1 + self.value**2)

    @classmethod
    def parse(cls, text: str, reference: str | None = None) -> Self:
        """Read ``"0.8"`` (absolute) or ``"0.95x"`` (relative to the reference tier).

        >>> Bar.parse("0.95x")
        Bar(value=0.95, kind='relative', reference=None, margin=0.0)
        """
        match = re.fullmatch(r"\s*(\d*\.?\d+)\s*(x?)\s*", str(text))
        if match is None:
            raise InputError(
                f"The bar is {text!r}; give a quality such as 0.8, or a share of the reference tier's such as 0.95x."
            )
        return cls(float(match[1]), "relative" if match[2] else "absolute", reference)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def reference_tier(quality: NDArray[np.float64], ladder: Ladder, bar: Bar) -> int:
    """Index of the bar's reference tier: the one named, else the one with the best mean quality (ties: the cheaper)."""
    if bar.reference is not None:
        return ladder.index(bar.reference)
    tried = ~np.isnan(quality)
    means = np.where(tried, quality, 0).sum(axis=0) / np.maximum(tried.sum(axis=0), 1)
    return int(np.where(tried.any(axis=0), means, -1).argmax())


def meets(quality: NDArray[np.float64], ladder: Ladder, bar: Bar) -> NDArray[np.float64]:
    """Whether each answer met the bar: 1, 0, or NaN where that isn't known; shape [n, T].

    With a relative bar nothing is known of a prompt that the reference tier didn't answer; with a margin nothing of an answer that is
    too near to the bar.
    """
    needed: NDArray[np.float64] | float = bar.value
    judged = np.ones(quality.shape[1], dtype=bool)
    if bar.kind == "relative":
        reference = reference_tier(quality, ladder, bar)
        needed = bar.value * quality[:, [reference]]
        judged[reference] = False
    near = (np.abs(quality - needed) < bar.width - _EPS) & judged
    met = (quality >= needed - _EPS).astype(np.float64)
    met[np.isnan(quality - needed) | near] = np.nan
    return met


def label(traffic: pl.LazyFrame, ladder: Ladder, bar: Bar) -> pl.LazyFrame:
    """Label each prompt, lazily.

    Parameters
    ----------
    traffic : LazyFrame
        A validated traffic table.
    ladder : Ladder
        Tiers in order of mean cost.
    bar : Bar
        What an answer has to reach.

    Returns
    -------
    LazyFrame
        One row a judged prompt, sorted by ``prompt_id``; ``source``, ``category``; ``n_tried``: tiers known to meet the bar or
        not; ``label``: the cheapest tier that met the bar, ``"none"``, or null where tiers that might have were not
        tried; ``label_low`` and ``label_high``: the interval that the label lies in, both equal to it where it is known.
    """
    position = pl.col("model").replace_strict(
        dict(zip(ladder.models, range(len(ladder)), strict=True)), return_dtype=pl.Int64
    )
    rows = traffic.filter(pl.col("model").is_in(ladder.models) & pl.col("quality").is_not_null()).with_columns(
        position.alias("tier")
    )
    if bar.kind == "relative":
        reference = _reference(rows, ladder, bar)
        rows = rows.join(reference.with_columns(is_reference=pl.lit(True)), on="tier", how="left")
        best = rows.filter("is_reference").select("prompt_id", needed=bar.value * pl.col("quality"))
        rows = rows.join(best, on="prompt_id", how="left")
    else:
        rows = rows.with_columns(needed=pl.lit(bar.value), is_reference=pl.lit(None, pl.Boolean))
    n_tiers = len(ladder)
    near = ((pl.col("quality") - pl.col("needed")).abs() < bar.width - _EPS) & pl.col("is_reference").is_null()
    met = pl.when(~near).then(pl.col("quality") >= pl.col("needed") - _EPS)
    per_prompt = (
        rows.with_columns(met=met)
        .group_by("prompt_id")
        .agg(
            pl.col("source", "category").drop_nulls().first(),
            n_tried=pl.col("met").count(),
            high=pl.col("tier").filter(pl.col("met")).min().fill_null(n_tiers),
            failed=pl.col("tier").filter(~pl.col("met")),
        )
    )
    # The cheapest tier that isn't known to fail, up to the first that is known to meet the bar.
    low = (
        pl.concat_list(pl.int_ranges(0, n_tiers).alias("all"))
        .list.set_difference("failed")
        .list.min()
        .fill_null(n_tiers)
    )
    names = [*ladder.names, NONE]
    named = dict(enumerate(names))
    return (
        per_prompt.with_columns(low=pl.min_horizontal(low, "high"))
        .with_columns(
            label_low=pl.col("low").replace_strict(named, return_dtype=pl.String),
            label_high=pl.col("high").replace_strict(named, return_dtype=pl.String),
        )
        .with_columns(label=pl.when(pl.col("low") == pl.col("high")).then("label_low"))
        .select("prompt_id", "source", "category", "n_tried", "label", "label_low", "label_high")
        .sort("prompt_id")
    )


def _reference(rows: pl.LazyFrame, ladder: Ladder, bar: Bar) -> pl.LazyFrame:
    if bar.reference is not None:
        return pl.LazyFrame({"tier": [ladder.index(bar.reference)]}, schema={"tier": pl.Int64})
    means = rows.group_by("tier").agg(pl.col("quality").mean())
    return means.sort("quality", "tier", descending=[True, False]).head(1).select("tier")


def count_labels(labels: pl.DataFrame, ladder: Ladder, by: str | None = None) -> pl.DataFrame:
    """Count the labels, in ladder order, for all prompts or per value of a column.

    Returns
    -------
    DataFrame
        Columns `by` (where given), ``label`` (``low..high`` where it is an interval) and ``n``.
    """
    names = [*ladder.names, NONE]
    order = {name: i for i, name in enumerate(names)}
    shown = pl.coalesce("label", pl.format("{}..{}", "label_low", "label_high"))
    keys = ([pl.col(by).fill_null("")] if by else []) + [shown.alias("label")]
    counts = labels.group_by(keys, maintain_order=True).agg(n=pl.len())
    rank = pl.col("label").replace_strict(order, default=len(order), return_dtype=pl.Int64)
    return counts.sort([*([by] if by else []), rank, "label"])
