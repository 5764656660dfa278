"""A transformer encoder in whole numbers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from onnx import TensorProto

from router_ml.errors import InputError
from router_ml.export.compress.tables import copied, is_transformer, quantize_table

__all__ = ["quantize_transformer"]


def quantize_transformer(model: onnx.ModelProto) -> onnx.ModelProto:
    """Quantise a transformer encoder dynamically: int8 matrices, one scale a column; activations as they come; int8 tables.

    What comes after the encoder (the learner, the novelty) keeps its matrices as they are; its tables of words and pairs become int8, too.

    Parameters
    ----------
    model : ModelProto
        An artifact's graph; it isn't changed.

    Raises
    ------
    InputError
        If the encoder has no product with a matrix of floats.

    Notes
    -----
    The scale of the activations is that of a whole batch, so what a prompt comes to depends on what it is run with (MiniLM's
    `p_meets` by up to 0.05). The matrices keep to seven bits, which onnxruntime's `quantize_dynamic` advises for processors
    without VNNI, especially with a scale a column: an artifact doesn't know where it will run. On one such processor it made no
    difference (MiniLM's `p_meets` moved by 0.008 on the mean with either).
    """
    head = _behind(model.graph, "log_n_chars")
    constants = {c.name for c in model.graph.initializer if c.data_type == TensorProto.FLOAT}
    products = [
        n.name
        for n in model.graph.node
        if n.op_type in ("MatMul", "Gemm") and n.name not in head and n.input[1] in constants
    ]
    if not is_transformer(model.graph) or not products:
        raise InputError(
            "The artifact's encoder holds no matrix of floats to quantise: it isn't a transformer, or it has been quantised "
            "already. Give the artifact that 'router-ml fit' wrote."
        )
    return quantize_table(_dynamic(model, products), "int8")


def _dynamic(model: onnx.ModelProto, products: list[str]) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    prepared = copied(model)
    # Without this mark it says on stderr, through the root logger, that shapes might be inferred first; they needn't be.
    prepared.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantized.onnx"
        quantize_dynamic(
            prepared,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_quantize=products,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(path)


def _behind(graph: onnx.GraphProto, name: str) -> set[str]:
    """Names of the nodes that a value goes into, at once or through others (a node comes after what it needs)."""
    values, nodes = {name}, set()
    for node in graph.node:
        if values.intersection(node.input):
            values.update(node.output)
            nodes.add(node.name)
    return nodes
