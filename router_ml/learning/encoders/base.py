"""The protocol that encoders keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from router_ml.graph.builder import Graph

__all__ = ["Encoder", "ExportableEncoder", "TokenizerSpec"]


class Encoder(Protocol):
    """Turns rendered texts into vectors.

    Attributes
    ----------
    name : str
        What the user calls it.
    fingerprint : str
        Hash of all that its vectors depend on: weights, tokenizer, pooling. Embeddings are cached under it.
    """

    name: str
    fingerprint: str

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts; shape [n, d]."""
        ...


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """How the core has to tokenize for an encoder's graph; the fields are those of the artifact's metadata.

    `inputs` are the graph's, as an encoder names them that is the artifact's only or first one.
    """

    json: str
    inputs: tuple[str, ...]
    pad_id: int
    max_tokens: int | None
    add_special_tokens: bool


@runtime_checkable
class ExportableEncoder(Encoder, Protocol):
    """An encoder that can be part of the artifact."""

    def tokenizer_spec(self) -> TokenizerSpec:
        """The tokenizer that the artifact holds."""
        ...

    def to_graph(self, graph: Graph, suffix: str = "") -> str:
        """Add the encoder to a graph that has the inputs of the spec, their names followed by `suffix`; returns the name of the embedding [n, d]."""
        ...
