"""What a model is given of each prompt: dense features, and the tokens of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_ml.core.text import Rendered, render
from router_ml.core.tokenize import TextTokenizer
from router_ml.learning.encoders import Encoder, ExportableEncoder, parts_of

__all__ = ["InputNames", "Inputs", "encode_inputs", "tokenize"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is known of n prompts.

    Attributes
    ----------
    features : array [n, d + 1]
        The embedding, by several encoders one after the other, and last ``log(1 + length in characters)``: a mean of token vectors loses the length, and costs
        depend on it.
    tokens : sequence of n arrays of int
        Token ids of each text, as the core will read them; empty arrays where the encoder has no tokenizer of its own.
    widths : tuple of int
        Widths of the encoders' embeddings; empty where there is one encoder.
    """

    features: NDArray[np.float32]
    tokens: Sequence[NDArray[np.integer]]
    widths: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        embeddings: Sequence[NDArray[np.float32]],
        n_chars: NDArray[np.float64],
        tokens: Sequence[NDArray[np.integer]],
    ) -> Inputs:
        """From each encoder's embeddings [n, d], lengths in characters [n] and tokens."""
        features = np.column_stack([*embeddings, np.log1p(n_chars)]).astype(np.float32)
        return cls(features, tokens, tuple(e.shape[1] for e in embeddings) if len(embeddings) > 1 else ())

    @property
    def n_encoders(self) -> int:
        """How many encoders the features come from."""
        return max(1, len(self.widths))

    def of_encoder(self, index: int) -> Inputs:
        """The same prompts by one of the encoders alone."""
        if self.n_encoders == 1:
            return self
        end = sum(self.widths[: index + 1])
        columns = [*range(end - self.widths[index], end), -1]
        return Inputs(self.features[:, columns], self.tokens)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Inputs:
        """The given prompts only."""
        return Inputs(self.features[rows], [self.tokens[i] for i in np.arange(len(self))[rows]], self.widths)


class InputNames(NamedTuple):
    """Names of the same in a graph: ``features`` [n, d + 1], ``input_ids`` [n, L], ``token_weights`` [n, 1, L].

    Of several encoders ``by_encoder`` are the features by each alone.
    """

    features: str
    input_ids: str
    token_weights: str
    by_encoder: tuple[str, ...] = ()

    def of_encoder(self, index: int) -> InputNames:
        """The same by one of the encoders alone."""
        return self if not self.by_encoder else InputNames(self.by_encoder[index], self.input_ids, self.token_weights)


def encode_inputs(encoder: Encoder, prompts: Sequence[str]) -> Inputs:
    """Render, embed and tokenize prompts."""
    rendered: list[Rendered] = [render(p) for p in prompts]
    texts = [r.text for r in rendered]
    n_chars = np.array([r.n_chars for r in rendered], dtype=np.float64)
    return Inputs.of([part.encode(texts) for part in parts_of(encoder)], n_chars, tokenize(encoder, texts))


def tokenize(encoder: Encoder, texts: Sequence[str]) -> list[NDArray[np.integer]]:
    """Token ids of rendered texts as the core will read them; empty where the (first) encoder has no tokenizer of its own."""
    first = parts_of(encoder)[0]
    if not isinstance(first, ExportableEncoder):
        return [np.empty(0, dtype=np.int64) for _ in texts]
    spec = first.tokenizer_spec()
    tokenizer = TextTokenizer(spec.json, max_tokens=spec.max_tokens, add_special_tokens=spec.add_special_tokens)
    return [ids.astype(np.int32) for ids in tokenizer.encode_batch(texts)]
