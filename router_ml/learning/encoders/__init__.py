"""Encoders: what turns rendered prompts into vectors."""

from __future__ import annotations

from router_ml.learning.encoders.base import Encoder, ExportableEncoder
from router_ml.learning.encoders.cache import EmbeddingCache, embed
from router_ml.learning.encoders.joined import JoinedEncoder, parts_of
from router_ml.learning.encoders.registry import load_encoder

__all__ = ["EmbeddingCache", "Encoder", "ExportableEncoder", "JoinedEncoder", "embed", "load_encoder", "parts_of"]
