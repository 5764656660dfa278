"""Several encoders as one: what one of them misses, another may tell."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from router_ml.learning.encoders.base import Encoder

__all__ = ["JoinedEncoder", "parts_of"]


class JoinedEncoder:
    """The vectors of several encoders, one after the other.

    The first one's tokenizer is that of the artifact: what is learned from words is learned from its tokens.

    Parameters
    ----------
    parts : sequence of Encoder
    name : str
        What the user calls them together.
    """

    def __init__(self, parts: Sequence[Encoder], name: str) -> None:
        self.parts = tuple(parts)
        self.name = name
        self.fingerprint = hashlib.sha256("\n".join(p.fingerprint for p in self.parts).encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts; shape [n, d], d being the sum of the encoders' widths."""
        return np.hstack([part.encode(texts) for part in self.parts])


def parts_of(encoder: Encoder) -> tuple[Encoder, ...]:
    """The encoders that one consists of: itself, mostly."""
    return encoder.parts if isinstance(encoder, JoinedEncoder) else (encoder,)
