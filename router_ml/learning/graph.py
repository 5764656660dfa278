"""A small builder of ONNX graphs: nodes and constants by value, names made up as they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike, NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["OPSET", "Graph"]

OPSET = 20
"""ONNX operator set of the artifacts: read by onnxruntime from 1.17 on (https://onnxruntime.ai/docs/reference/compatibility.html)."""

_DOMAINS = {"ai.onnx.ml": 3}
"""Operator sets beside ONNX's own, each at the version that goes with the node types that are used of it."""


class Graph:
    """An ONNX graph that is being built. Each method adds nodes and returns the name of their output."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._linear: dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]] = {}
        self._opsets = {"": OPSET}
        self._n_names = 0

    def _name(self, stem: str) -> str:
        self._n_names += 1
        return f"{stem}_{self._n_names}"

    def input(self, name: str, dtype: DTypeLike, shape: Sequence[int | str]) -> str:
        """Declare an input."""
        self._inputs.append(
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
        )
        return name

    def output(self, value: str, name: str, shape: Sequence[int | str]) -> None:
        """Declare a float32 value to be an output, under a name of its own."""
        # Renamed where it is made and used: a node that only copies would cost as much as a small product.
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [name if n == value else n for n in names]
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def constant(self, value: ArrayLike) -> str:
        """Add a constant; its dtype is the array's."""
        name = self._name("constant")
        self._initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def floats(self, value: ArrayLike) -> str:
        """Add a constant as float32."""
        return self.constant(np.asarray(value, dtype=np.float32))

    def node(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, of ONNX's own operators or of another domain's (``"ai.onnx.ml"``)."""
        if domain:
            self._opsets[domain] = _DOMAINS[domain]
        output = self._name(op)
        self._nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def nodes(self, op: str, *inputs: str, n_outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        outputs = [self._name(op) for _ in range(n_outputs)]
        self._nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], **attributes))
        return outputs

    def cast(self, x: str, dtype: DTypeLike) -> str:
        """Cast to a dtype."""
        return self.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reduce_sum(self, x: str, axis: int, *, keepdims: bool = False) -> str:
        """Sum over one axis."""
        return self.node("ReduceSum", x, self.constant(np.array([axis], dtype=np.int64)), keepdims=int(keepdims))

    def linear(self, x: str, weight: NDArray[np.floating], bias: NDArray[np.floating]) -> str:
        """``x @ weight + bias`` for weight [d, m] and bias [m]."""
        product = self.node("Gemm", x, self.floats(weight), self.floats(bias))
        self._linear[product] = (weight, bias)
        return product

    def affine(self, x: str, scale: NDArray[np.floating], shift: NDArray[np.floating]) -> str:
        """``x * scale + shift`` per column; where x is the result of :meth:`linear` and not used yet, at no cost."""
        if x in self._linear and not any(x in node.input for node in self._nodes):
            weight, bias = self._linear.pop(x)
            place = next(i for i, node in enumerate(self._nodes) if x in node.output)
            source, dropped = self._nodes[place].input[0], set(self._nodes[place].input[1:])
            del self._nodes[place]
            self._initializers = [c for c in self._initializers if c.name not in dropped]
            return self.linear(source, weight * scale, bias * scale + shift)
        return self.node("Add", self.node("Mul", x, self.floats(scale)), self.floats(shift))

    def split(self, x: str, *sizes: int) -> list[str]:
        """Columns in runs of the given sizes."""
        return self.nodes("Split", x, self.constant(np.array(sizes, dtype=np.int64)), n_outputs=len(sizes), axis=1)

    def l2_normalize(self, x: str) -> str:
        """Rows of x over their Euclidean norm; a zero row stays zero."""
        norm = self.node("ReduceL2", x, self.constant(np.array([1], dtype=np.int64)), keepdims=1)
        return self.node("Div", x, self.node("Max", norm, self.floats(1e-12)))

    def inline(self, model: onnx.ModelProto, inputs: Mapping[str, str]) -> str:
        """Add the graph of another model of the same opset, its inputs bound to values of this one; returns its first output."""
        prefixed = onnx.compose.add_prefix(model, f"{self._name('inlined')}/")
        prefix = prefixed.graph.output[0].name.removesuffix(model.graph.output[0].name)
        for name, value in inputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [prefix + name], name=self._name("Identity")))
        self._nodes += prefixed.graph.node
        self._initializers += prefixed.graph.initializer
        return str(prefixed.graph.output[0].name)

    def model(self) -> onnx.ModelProto:
        """The finished, checked model."""
        graph = helper.make_graph(self._nodes, "router", self._inputs, self._outputs, self._initializers)
        # IR version 9 goes with opset 20; a newer one would be refused by older runtimes for no gain.
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="router-ml")
        onnx.checker.check_model(model)
        return model
