"""Embeddings of the training prompts; a second run embeds only what is new."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pipelines import stage
from router_ml import workflow


def main() -> None:
    """Write the embeddings."""
    params = stage.start()["embed"]
    traffic = pl.read_parquet(stage.TRAIN)
    table = workflow.embed_table(traffic, params["encoder"], cache=Path(params["cache"]), progress=True)
    table.write_parquet(stage.EMBEDDINGS)


if __name__ == "__main__":
    main()
