"""Prompts that say the same: equal but for case and white space, or nearly so.

By default nothing is dropped: how often a thing is asked is part of the traffic. But prompts that nearly repeat each other
on both sides of the split make a router look better than it is, so each prompt gets the group that it belongs to, and a
split can keep groups together. Dropping is a choice, and keeps one row of a model per group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml.core.text import HEAD_CHARS, MAX_CHARS, TAIL_CHARS
from router_ml.errors import InputError
from router_ml.traffic.cleaning.minhash import signatures, similar_pairs

__all__ = ["GROUP", "THRESHOLD", "Duplicates", "drop_duplicates", "find_duplicates", "normalized"]

GROUP = "duplicate_group"
"""The column that holds a prompt's group: the smallest prompt id in it."""

THRESHOLD = 0.8
"""Jaccard similarity of shingles from which two prompts are near duplicates."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Which prompts repeat others.

    Attributes
    ----------
    groups : DataFrame
        Columns ``prompt_id`` and `GROUP`: one row a prompt, sorted.
    n_prompts, n_exact, n_near : int
        Prompts; those that equal another but for case and white space; those beyond, that are near duplicates. Of each
        group one prompt is in neither of the last two.
    """

    groups: pl.DataFrame
    n_prompts: int
    n_exact: int
    n_near: int

    @property
    def largest(self) -> int:
        """Prompts in the largest group; 0 where there are no prompts."""
        if self.groups.is_empty():
            return 0
        return int(self.groups.group_by(GROUP).len()["len"].max())  # type: ignore[arg-type]


def normalized(text: pl.Expr) -> pl.Expr:
    """The text by which prompts are compared: NFKC, lower case, single spaces.

    Digits stay: "17 * 24" and "18 * 25" are two questions with two answers.
    """
    return text.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def find_duplicates(
    traffic: pl.DataFrame | pl.LazyFrame, *, threshold: float | None = THRESHOLD, random_state: int = 0
) -> Duplicates:
    """Group the prompts that say the same.

    Parameters
    ----------
    traffic : DataFrame or LazyFrame
        With ``prompt_id`` and ``prompt``; the rows' order doesn't matter.
    threshold : float or None
        Jaccard similarity of five-character shingles, in (0, 1], from which prompts are near duplicates; None: only those
        that are equal but for case and white space.
    random_state : int
        Seed of the hash functions.

    Raises
    ------
    InputError
        If the threshold is outside its range.
    MissingExtraError
        If a threshold is given and ``rensa`` isn't installed.

    Notes
    -----
    Groups are joined through their members, so a group's ends may be less alike than the threshold. Similarity is
    estimated, with a standard error of 0.035 at 0.8. A long prompt is compared by its head and tail, which are what a router
    sees of it. Shingles that more than 5 % of the prompts share, and more than 50, don't count: they are a system prompt or a
    template, and all that have it would be one group.

    Of 100,000 prompts of 700 characters (or 2,000) the search took 40 s (133 s) and 0.4 GB (1.1 GB) on one busy core.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise InputError(
            f"threshold: got {threshold}, needed a similarity in (0, 1], or None for exact duplicates only."
        )
    prompts = (
        traffic.lazy()
        .group_by("prompt_id")
        .agg(pl.col("prompt").min())
        .with_columns(text=normalized(pl.col("prompt")))
        .select("prompt_id", "text")
        .sort("prompt_id")
        .collect()
    )
    texts = prompts["text"].unique().sort()
    places = prompts["text"].replace_strict(texts, pl.arange(len(texts), eager=True), return_dtype=pl.Int64)
    exact = places.to_numpy().astype(np.intp)
    near = np.arange(len(texts)) if threshold is None else _near_groups(texts, threshold, random_state)
    members = prompts.select("prompt_id").with_columns(group=pl.Series(near[exact]))
    groups = members.select("prompt_id", pl.col("prompt_id").min().over("group").alias(GROUP))
    n_groups = len(np.unique(near))
    return Duplicates(groups, n_prompts=len(prompts), n_exact=len(prompts) - len(texts), n_near=len(texts) - n_groups)


def drop_duplicates(traffic: pl.DataFrame, duplicates: Duplicates) -> pl.DataFrame:
    """Keep one row of each model per group.

    It is the row of the prompt that most models of the group answered; of those the newest, then the one with the smallest
    id. So a prompt that all models answered stays whole, and a model that only another one of the group was sent to
    keeps its answer.

    Parameters
    ----------
    traffic : DataFrame
        A validated table.
    duplicates : Duplicates
        Of its prompts.

    Returns
    -------
    DataFrame
        Rows of `traffic`, in its order and columns.
    """
    newest = pl.col("created_at").max().over("prompt_id")
    ranked = (
        traffic.with_row_index("_row")
        .join(duplicates.groups, on="prompt_id", how="left", maintain_order="left")
        .with_columns(_models=pl.col("model").n_unique().over("prompt_id"), _newest=newest)
        .sort("_models", "_newest", "prompt_id", descending=[True, True, False], nulls_last=True)
        .unique([GROUP, "model"], keep="first", maintain_order=True)
    )
    return ranked.sort("_row").select(traffic.columns)


def _near_groups(texts: pl.Series, threshold: float, random_state: int) -> NDArray[np.intp]:
    """Number the groups of near duplicates among distinct texts; shape [n]."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(texts)
    bounded = (text if len(text) <= MAX_CHARS else text[:HEAD_CHARS] + text[-TAIL_CHARS:] for text in texts)
    signed = signatures(list(bounded), random_state=random_state)
    pairs = [np.stack(pair) for pair in similar_pairs(signed, threshold=threshold)]
    left, right = np.concatenate([np.empty((2, 0), dtype=np.intp), *pairs], axis=1)
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(n, n))
    groups: NDArray[np.intp] = connected_components(graph, directed=False)[1].astype(np.intp)
    return groups
