"""Transformer encoders: any sentence-transformers model."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from router_ml.errors import ExportError
from router_ml.graph.builder import OPSET, Graph
from router_ml.learning.encoders.base import TokenizerSpec

if TYPE_CHECKING:
    import onnx
    from sentence_transformers import SentenceTransformer

__all__ = ["TransformerEncoder"]


class TransformerEncoder:
    """A sentence-transformers model whose first module is a transformer, with its own pooling and normalisation."""

    def __init__(self, model: SentenceTransformer, name: str) -> None:
        self.name = name
        self.model = model.eval()
        digest = hashlib.sha256(str(model).encode())
        for key, tensor in sorted(model.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
        self.fingerprint = digest.hexdigest()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts; shape [n, d]."""
        vectors: NDArray[np.float32] = self.model.encode(list(texts), batch_size=32, show_progress_bar=False)
        return vectors.astype(np.float32, copy=False)

    def tokenizer_spec(self) -> TokenizerSpec:
        """The tokenizer that the artifact holds."""
        tokenizer: Any = self.model.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ExportError(
                f"The encoder {self.name!r} has no fast tokenizer, so the core can't tokenize for it. Choose another encoder."
            )
        return TokenizerSpec(
            json=backend.to_str(),
            inputs=("input_ids", "attention_mask", "log_n_chars"),
            pad_id=int(tokenizer.pad_token_id or 0),
            max_tokens=self.model.max_seq_length,
            add_special_tokens=True,
        )

    def to_graph(self, graph: Graph, suffix: str = "") -> str:
        """Add the whole model, from token ids to the sentence's vector."""
        return graph.inline(self._onnx(), {name: f"{name}{suffix}" for name in ("input_ids", "attention_mask")})

    def _onnx(self) -> onnx.ModelProto:
        import onnx
        import torch

        class Sentence(torch.nn.Module):  # type: ignore[misc]  # torch is not followed by mypy here
            def __init__(self, model: torch.nn.Module) -> None:
                super().__init__()
                self.model = model

            def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
                features = {"input_ids": input_ids, "attention_mask": attention_mask}
                vector: torch.Tensor = self.model(features)["sentence_embedding"]
                return vector

        ids = torch.ones((2, 8), dtype=torch.int64)
        shape = {0: torch.export.Dim("n", min=1), 1: torch.export.Dim("length", min=1, max=self.model.max_seq_length)}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "encoder.onnx"
            try:
                with _quiet():
                    torch.onnx.export(
                        Sentence(self.model),
                        (ids, torch.ones_like(ids)),
                        path,
                        input_names=["input_ids", "attention_mask"],
                        output_names=["sentence_vector"],
                        opset_version=OPSET,
                        dynamic_shapes={"input_ids": shape, "attention_mask": shape},
                        dynamo=True,
                        external_data=False,
                        verbose=False,
                    )
            except Exception as exc:  # torch's exporter raises errors of many kinds
                raise ExportError(f"The encoder {self.name!r} can't be exported to ONNX: {exc!s:.500}") from exc
            return onnx.load(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what torch's exporter says of packages that it would have liked and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
