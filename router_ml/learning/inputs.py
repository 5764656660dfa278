"""What a model is given of each prompt: dense features, and the tokens of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_ml.core.text import Rendered, render
from router_ml.core.tokenize import TextTokenizer
from router_ml.learning.encoders import Encoder, ExportableEncoder

__all__ = ["InputNames", "Inputs", "encode_inputs", "tokenize"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is known of n prompts.

    Attributes
    ----------
    features : array [n, d + 1]
        The embedding, and last ``log(1 + length in characters)``: a mean of token vectors loses the length, and costs
        depend on it.
    tokens : sequence of n arrays of int
        Token ids of each text, as the core will read them; empty arrays where the encoder has no tokenizer of its own.
    """

    features: NDArray[np.float32]
    tokens: Sequence[NDArray[np.integer]]

    @classmethod
    def of(
        cls,
        embeddings: NDArray[np.float32],
        n_chars: NDArray[np.float64],
        tokens: Sequence[NDArray[np.integer]],
    ) -> Inputs:
        """From embeddings [n, d], lengths in characters [n] and tokens."""
        return cls(np.column_stack([embeddings, np.log1p(n_chars)]).astype(np.float32), tokens)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Inputs:
        """The given prompts only."""
        return Inputs(self.features[rows], [self.tokens[i] for i in np.arange(len(self))[rows]])


class InputNames(NamedTuple):
    """Names of the same in a graph: ``features`` [n, d + 1], ``input_ids`` [n, L], ``token_weights`` [n, 1, L]."""

    features: str
    input_ids: str
    token_weights: str


def encode_inputs(encoder: Encoder, prompts: Sequence[str]) -> Inputs:
    """Render, embed and tokenize prompts."""
    rendered: list[Rendered] = [render(p) for p in prompts]
    texts = [r.text for r in rendered]
    n_chars = np.array([r.n_chars for r in rendered], dtype=np.float64)
    return Inputs.of(encoder.encode(texts), n_chars, tokenize(encoder, texts))


def tokenize(encoder: Encoder, texts: Sequence[str]) -> list[NDArray[np.integer]]:
    """Token ids of rendered texts as the core will read them; empty where the encoder has no tokenizer of its own."""
    if not isinstance(encoder, ExportableEncoder):
        return [np.empty(0, dtype=np.int64) for _ in texts]
    spec = encoder.tokenizer_spec()
    tokenizer = TextTokenizer(spec.json, max_tokens=spec.max_tokens, add_special_tokens=spec.add_special_tokens)
    return [ids.astype(np.int32) for ids in tokenizer.encode_batch(texts)]
