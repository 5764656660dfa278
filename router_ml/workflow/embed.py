"""Prompts, rendered and embedded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml.core.text import render
from router_ml.errors import InputError
from router_ml.learning.encoders import EmbeddingCache, Encoder, embed, load_encoder, parts_of
from router_ml.learning.inputs import Inputs, tokenize

__all__ = ["Embedded", "embed_prompts", "embed_table", "embedded_from_table"]

_EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Embedded:
    """Rendered prompts in the order they were given: each encoder's embeddings [n, d], ``n_chars`` [n], and n arrays of token ids."""

    by_encoder: tuple[NDArray[np.float32], ...]
    n_chars: NDArray[np.float64]
    tokens: Sequence[NDArray[np.integer]]

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Embedded:
        """The given prompts only."""
        tokens = [self.tokens[i] for i in np.arange(len(self.n_chars))[rows]]
        return Embedded(tuple(e[rows] for e in self.by_encoder), self.n_chars[rows], tokens)

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """The first encoder's."""
        return self.by_encoder[0]

    @property
    def inputs(self) -> Inputs:
        """What the learners are given."""
        return Inputs.of(self.by_encoder, self.n_chars, self.tokens)


def embed_prompts(
    prompts: Sequence[str], encoder: Encoder, *, cache: Path | None = None, progress: bool = False
) -> Embedded:
    """Render and embed prompts."""
    rendered = [render(p) for p in prompts]
    texts = [r.text for r in rendered]
    store = None if cache is None else EmbeddingCache(cache)
    vectors = tuple(embed(part, texts, store, progress=progress) for part in parts_of(encoder))
    n_chars = np.array([r.n_chars for r in rendered], dtype=np.float64)
    return Embedded(vectors, n_chars, tokenize(encoder, texts))


def embed_table(
    traffic: pl.DataFrame, encoder: str, *, cache: Path | None = None, progress: bool = False
) -> pl.DataFrame:
    """Embed a traffic table's prompts.

    Columns ``prompt_id``, ``n_chars``, ``embedding`` (a list of float32; of further encoders ``embedding_2``, ...), ``tokens`` (a
    list of int32), sorted by id.
    """
    prompts = (
        traffic.unique("prompt_id", keep="first", maintain_order=True).select("prompt_id", "prompt").sort("prompt_id")
    )
    embedded = embed_prompts(prompts["prompt"].to_list(), load_encoder(encoder), cache=cache, progress=progress)
    vectors = [
        pl.Series(name, values).cast(pl.List(pl.Float32))
        for name, values in zip(_columns(len(embedded.by_encoder)), embedded.by_encoder, strict=True)
    ]
    tokens = pl.Series("tokens", [ids.tolist() for ids in embedded.tokens], dtype=pl.List(pl.Int32))
    return prompts.select("prompt_id").with_columns(pl.Series("n_chars", embedded.n_chars), *vectors, tokens)


def embedded_from_table(table: pl.DataFrame, prompt_ids: NDArray[np.str_]) -> Embedded:
    """The rows of :func:`embed_table` for the given prompts, in their order."""
    rows = pl.DataFrame({"prompt_id": prompt_ids.tolist()}).join(
        table, on="prompt_id", how="left", maintain_order="left"
    )
    if rows["n_chars"].null_count():
        raise InputError(
            f"{rows['n_chars'].null_count()} prompts of the traffic aren't among the embeddings; embed them again."
        )
    tokens = [np.array(ids, dtype=np.int32) for ids in rows["tokens"]]
    n_encoders = sum(name.startswith(_EMBEDDING) for name in table.columns)
    vectors = tuple(np.array(rows[name].to_list(), dtype=np.float32) for name in _columns(n_encoders))
    return Embedded(vectors, rows["n_chars"].to_numpy(), tokens)


def _columns(n_encoders: int) -> list[str]:
    return [_EMBEDDING, *(f"{_EMBEDDING}_{k}" for k in range(2, n_encoders + 1))]
