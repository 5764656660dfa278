"""Static encoders: the mean of a table's token vectors, as a sentence-transformers StaticEmbedding."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from router_ml.errors import MissingExtraError
from router_ml.graph.builder import Graph
from router_ml.learning.encoders.base import TokenizerSpec

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["StaticEncoder", "load_wordllama"]


class StaticEncoder:
    """The mean of token vectors.

    Parameters
    ----------
    model : SentenceTransformer
        Its first module is a ``StaticEmbedding``; a ``Normalize`` may follow.
    name : str
        What the user calls it.
    """

    def __init__(self, model: SentenceTransformer, name: str) -> None:
        self.name = name
        self.model = model
        embedding: Any = model[0]
        self._table: NDArray[np.float32] = embedding.embedding.weight.detach().numpy().astype(np.float32, copy=False)
        self._tokenizer_json: str = embedding.tokenizer.to_str()
        self._normalize = len(model) > 1
        digest = hashlib.sha256(np.ascontiguousarray(self._table).data)
        digest.update(f"{self._tokenizer_json}\n{self._normalize}".encode())
        self.fingerprint = digest.hexdigest()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts; shape [n, d]."""
        vectors: NDArray[np.float32] = self.model.encode(list(texts), batch_size=256, show_progress_bar=False)
        return vectors.astype(np.float32, copy=False)

    def tokenizer_spec(self) -> TokenizerSpec:
        """The tokenizer that the artifact holds; what fills short rows weighs nothing."""
        return self._tokenizer_spec

    @cached_property
    def _tokenizer_spec(self) -> TokenizerSpec:
        # Its JSON has megabytes to rewrite, and a fit asks for it five times.
        return TokenizerSpec(
            json=_short_merges(self._tokenizer_json),
            inputs=("input_ids", "token_weights", "log_n_chars"),
            pad_id=0,
            max_tokens=None,
            add_special_tokens=False,
        )

    def to_graph(self, graph: Graph, suffix: str = "") -> str:
        """Look up the tokens' vectors, and average them."""
        mean = graph.mean_of_rows(self._table, f"input_ids{suffix}", f"token_weights{suffix}")
        return graph.l2_normalize(mean) if self._normalize else mean


def _short_merges(tokenizer: str) -> str:
    """A tokenizer's JSON with each merge as one string, "a b": read by all versions of ``tokenizers``, and in two thirds of the time."""
    spec = json.loads(tokenizer)
    merges = spec["model"].get("merges", [])
    if any(" " in half for merge in merges if not isinstance(merge, str) for half in merge):
        return tokenizer
    spec["model"] |= {"merges": [m if isinstance(m, str) else " ".join(m) for m in merges]} if merges else {}
    return json.dumps(spec, ensure_ascii=False, separators=(",", ":"))


def load_wordllama() -> SentenceTransformer:
    """The 32,000 token vectors (256 numbers each) that the ``wordllama`` package carries, as a StaticEmbedding model.

    Raises
    ------
    MissingExtraError
        If the package isn't installed.

    References
    ----------
    WordLlama, MIT licence: https://github.com/dleemiller/WordLlama
    """
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise MissingExtraError("train", "The static encoder")
    import safetensors.numpy
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    folder = Path(spec.origin).parent
    (table,) = safetensors.numpy.load_file(folder / "weights" / "l2_supercat_256.safetensors").values()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    tokenizer.no_truncation()
    return SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_weights=table.astype(np.float32))], device="cpu"
    )
