"""The outcome: the logged rows and the replayed ones, as one traffic table."""

from __future__ import annotations

import polars as pl

from router_ml.ladder import Ladder
from router_ml.replay.journal import Journal, prompt_hash
from router_ml.traffic.schema import SCHEMA

__all__ = ["replayed_table"]

_ROWS = pl.Schema(
    {
        "hash": pl.Binary(),
        "model": pl.String(),
        "response": pl.String(),
        "input_tokens": pl.Int64(),
        "output_tokens": pl.Int64(),
        "cost_usd": pl.Float64(),
        "latency_ms": pl.Float64(),
        "created_at": pl.Float64(),
    }
)


def replayed_table(traffic: pl.DataFrame, ladder: Ladder, journal: Journal) -> pl.DataFrame:
    """Add the journal's answers to the traffic; sorted by (prompt_id, model).

    A new row has the prompt's first `prompt_id`, session, source and category. Its quality is null (not judged yet), and so is its
    propensity (no logging policy chose it). It replaces a logged row of the same prompt and model that holds neither response nor quality.
    Answers to prompts that this traffic lacks are left out.
    """
    prompts = traffic.group_by("prompt", maintain_order=True).agg(
        pl.col("prompt_id").first(), pl.col("session_id", "source", "category").drop_nulls().first()
    )
    hashes = pl.Series("hash", [prompt_hash(p) for p in prompts["prompt"]], dtype=pl.Binary)
    chunks = [pl.DataFrame(rows, schema=_ROWS, orient="row") for rows in journal.answered(ladder.models)]
    answers = pl.concat([pl.DataFrame(schema=_ROWS), *chunks])
    new = answers.join(prompts.with_columns(hashes), on="hash", how="inner").with_columns(
        (pl.col("created_at") * 1e6).cast(pl.Int64).cast(pl.Datetime("us", "UTC")),
        quality=pl.lit(None, pl.Float64),
        propensity=pl.lit(None, pl.Float64),
    )
    pair = ["prompt_id", "model"]
    told = traffic.filter(pl.col("response").is_not_null() | pl.col("quality").is_not_null())
    new = new.select(*SCHEMA).join(told, on=pair, how="anti")
    kept = traffic.select(*SCHEMA).join(new, on=pair, how="anti")
    return pl.concat([kept, new]).sort(pair)
