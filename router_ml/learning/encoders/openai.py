"""Embeddings over an OpenAI-compatible API: for training and study; an artifact can't hold them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from router_ml.errors import InputError

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["OpenAIEncoder"]

_BATCH = 128
"""Texts in one request. The API takes 2,048 of them and 300,000 tokens; a rendered prompt is at most about 2,000 tokens."""
_MAX_RETRIES = 6


class OpenAIEncoder:
    """Embeds with the ``openai`` client, in batches; the client retries 429, 5xx and time-outs with backoff.

    Parameters
    ----------
    model : str
        E.g. ``"text-embedding-3-small"``.
    client : openai.OpenAI, optional
        Made from the standard variables (``OPENAI_API_KEY``, ``OPENAI_BASE_URL``) when first used where not given.
    """

    def __init__(self, model: str, client: OpenAI | None = None) -> None:
        self.name = f"openai:{model}"
        self.model = model
        self._client = client
        base_url = str(client.base_url) if client is not None else os.environ.get("OPENAI_BASE_URL", "")
        self.fingerprint = hashlib.sha256(f"{self.name}\n{base_url}".encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts; shape [n, d]. Raises InputError where the API refuses or can't be reached."""
        import openai

        try:
            if self._client is None:
                self._client = openai.OpenAI(max_retries=_MAX_RETRIES)
            rows: list[list[float]] = []
            for start in range(0, len(texts), _BATCH):
                response = self._client.embeddings.create(
                    model=self.model, input=list(texts[start : start + _BATCH]), encoding_format="float"
                )
                rows += [item.embedding for item in sorted(response.data, key=lambda item: item.index)]
        except openai.OpenAIError as exc:
            raise InputError(f"Embeddings of {self.model!r} can't be had: {exc}") from exc
        if len(rows) != len(texts):
            raise InputError(f"{self.model!r} gave {len(rows)} embeddings for {len(texts)} texts.")
        return np.array(rows, dtype=np.float32)
