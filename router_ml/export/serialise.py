"""Sealing: a graph and all that goes with it as the bytes of one artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router_ml.core.artifact import (
    ACCEPTANCE_KEY,
    DIGEST_KEY,
    METADATA_KEY,
    NEIGHBOURS_KEY,
    SCHEMA_KEY,
    SCHEMA_VERSION,
    TOKENIZER_KEY,
    Metadata,
    content_digest,
)

if TYPE_CHECKING:
    import onnx

__all__ = ["seal"]


def seal(
    model: onnx.ModelProto, metadata: Metadata, tokenizer: str, acceptance: str = "", neighbours: str = ""
) -> bytes:
    """The bytes of an artifact: the graph, what it carries, and the hash of both; the same input gives the same bytes.

    Parameters
    ----------
    model : ModelProto
        Its own metadata properties are left behind.
    metadata : Metadata
    tokenizer : str
        JSON of a ``tokenizers`` tokenizer.
    acceptance : str
        The acceptance model in base64; empty: none.
    neighbours : str
        A sample of the training prompts, `router_ml.core.neighbours.Neighbours.to_text`; empty: none.
    """
    from onnx import GraphProto, helper

    graph = model.graph.SerializeToString(deterministic=True)
    metadata_json = metadata.to_json()
    sealed = helper.make_model(
        GraphProto(), opset_imports=model.opset_import, ir_version=model.ir_version, producer_name="router-ml"
    )
    sealed.graph.ParseFromString(graph)
    properties = {
        SCHEMA_KEY: SCHEMA_VERSION,
        METADATA_KEY: metadata_json,
        TOKENIZER_KEY: tokenizer,
        DIGEST_KEY: content_digest(graph, metadata_json, tokenizer, acceptance, neighbours),
    }
    properties |= {k: v for k, v in ((ACCEPTANCE_KEY, acceptance), (NEIGHBOURS_KEY, neighbours)) if v}
    for key, value in properties.items():
        sealed.metadata_props.add(key=key, value=value)
    return bytes(sealed.SerializeToString(deterministic=True))
