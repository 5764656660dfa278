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


_NARROWER = 4
"""A table is multiplied by matrices that make its rows so many times as short."""
_SMALL = 64
"""Constants of up to so many numbers are compared with those that are there."""


class Graph:
    """An ONNX graph that is being built. Each method adds nodes and returns the name of their output.

    What is there already isn't added again, and what no output needs is left out: each node costs as much as some hundred products.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._known: dict[bytes, list[str]] = {}
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: dict[str, tuple[str, onnx.ValueInfoProto]] = {}
        self._linear: dict[str, tuple[str, NDArray[np.floating], NDArray[np.floating]]] = {}
        self._means: dict[str, tuple[NDArray[np.floating], str, str]] = {}
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
        self._outputs[name] = (value, helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def constant(self, value: ArrayLike) -> str:
        """Add a constant; its dtype is the array's."""
        tensor = numpy_helper.from_array(np.asarray(value))
        key = tensor.SerializeToString(deterministic=True) if np.size(value) <= _SMALL else b""
        if key and key in self._known:
            return self._known[key][0]
        tensor.name = self._name("constant")
        self._initializers.append(tensor)
        if key:
            self._known[key] = [tensor.name]
        return str(tensor.name)

    def floats(self, value: ArrayLike) -> str:
        """Add a constant as float32."""
        return self.constant(np.asarray(value, dtype=np.float32))

    def node(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, of ONNX's own operators or of another domain's (``"ai.onnx.ml"``)."""
        return self.nodes(op, *inputs, n_outputs=1, domain=domain, **attributes)[0]

    def nodes(self, op: str, *inputs: str, n_outputs: int, domain: str = "", **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        node = helper.make_node(op, inputs, [""] * n_outputs, domain=domain, **attributes)
        key = node.SerializeToString(deterministic=True)
        if key not in self._known:
            if domain:
                self._opsets[domain] = _DOMAINS[domain]
            self._known[key] = node.output[:] = [self._name(op) for _ in range(n_outputs)]
            node.name = node.output[0]
            self._nodes.append(node)
        return self._known[key]

    def cast(self, x: str, dtype: DTypeLike) -> str:
        """Cast to a dtype."""
        return self.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def zeros(self, shape: str, dtype: DTypeLike) -> str:
        """Zeros of a shape that is computed."""
        return self.node("ConstantOfShape", shape, value=numpy_helper.from_array(np.zeros(1, dtype)))

    def reduce_sum(self, x: str, axis: int, *, keepdims: bool = False) -> str:
        """Sum over one axis."""
        return self.node("ReduceSum", x, self.constant(np.array([axis], dtype=np.int64)), keepdims=int(keepdims))

    def mean_of_rows(self, table: NDArray[np.floating], ids: str, weights: str) -> str:
        """Sums [n, d] of a table's rows [V, d] by their ids [n, L], times weights [n, 1, L].

        A product runs faster than a sum over an axis, and linear functions of the result are taken of the table: see :meth:`linear`.
        """
        with np.errstate(over="ignore"):
            half = table.astype(np.float16)
        # Where nothing is lost, the file is half as large; onnxruntime folds the cast when it loads.
        exact = np.array_equal(half, table)
        stored = self.cast(self.constant(half), np.float32) if exact else self.floats(table)
        mean = self.node("MatMul", weights, self.node("Gather", stored, ids, axis=0))
        mean = self.node("Squeeze", mean, self.constant(np.array([1], dtype=np.int64)))
        self._means[mean] = (table, ids, weights)
        return mean

    def n_ids(self, ids: str) -> int | None:
        """How many different ids there are, as a table of so many rows is read by them; None where that isn't known."""
        return min((len(table) for table, of, _ in self._means.values() if of == ids), default=None)

    def linear(self, x: str, weight: NDArray[np.floating], bias: NDArray[np.floating]) -> str:
        """``x @ weight + bias`` for weight [d, m] and bias [m].

        Where x is :meth:`mean_of_rows`, alone or beside other columns, the table is multiplied instead, once, here: a function of a
        mean is the mean of the function, and rows of a few numbers are read sooner than token vectors.
        """
        x, weight = self._through_means(x, weight)
        product = self.node("Gemm", x, self.floats(weight), self.floats(bias))
        self._linear[product] = (x, weight, bias)
        return product

    def _through_means(self, x: str, weight: NDArray[np.floating]) -> tuple[str, NDArray[np.floating]]:
        parts = self._parts(x)
        widths = [self._width(part) for part in parts]
        if widths.count(None) > 1:
            return x, weight
        rest = len(weight) - sum(w for w in widths if w is not None)
        blocks = np.split(weight, np.cumsum([rest if w is None else w for w in widths])[:-1])
        n_outputs = weight.shape[1]
        for i, part in enumerate(parts):
            if part in self._means and n_outputs * _NARROWER <= len(blocks[i]):
                table, ids, weights = self._means[part]
                parts[i] = self.mean_of_rows(table.astype(np.float64) @ blocks[i], ids, weights)
                blocks[i] = np.eye(n_outputs)
        changed = parts if len(parts) == 1 else [self.node("Concat", *parts, axis=1)]
        return changed[0], np.vstack(blocks)

    def _parts(self, x: str) -> list[str]:
        """What was concatenated to x; x itself where nothing was."""
        node = next((n for n in self._nodes if x in n.output), None)
        return [x] if node is None or node.op_type != "Concat" else [p for i in node.input for p in self._parts(i)]

    def _width(self, x: str) -> int | None:
        """Columns of a matrix, where they are known."""
        if x in self._means:
            return int(self._means[x][0].shape[1])
        dims = next((i.type.tensor_type.shape.dim for i in self._inputs if i.name == x), None)
        return None if dims is None else int(dims[-1].dim_value) or None

    def affine(self, x: str, scale: NDArray[np.floating], shift: NDArray[np.floating]) -> str:
        """``x * scale + shift`` per column; where x is the result of :meth:`linear`, by its own product."""
        if x in self._linear:
            source, weight, bias = self._linear[x]
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
        needed = {value for value, _ in self._outputs.values()}
        nodes: list[onnx.NodeProto] = []
        for node in reversed(self._nodes):
            if not needed.isdisjoint(node.output):
                needed.update(_read_by(node))
                nodes.append(node)
        constants = [c for c in self._initializers if c.name in needed]
        outputs = [info for _, info in self._outputs.values()]
        graph = helper.make_graph(nodes[::-1], "router", self._inputs, outputs, constants)
        self._name_outputs(graph)
        # IR version 9 goes with opset 20; a newer one would be refused by older runtimes for no gain.
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="router-ml")
        onnx.checker.check_model(model)
        return model

    def _name_outputs(self, graph: onnx.GraphProto) -> None:
        """Rename what the outputs stand for, where it is made and read: a node that only copies would cost as much as a small product."""
        made = {value for node in graph.node for value in node.output}
        names: dict[str, str] = {}
        for name, (value, _) in self._outputs.items():
            if value not in made or names.setdefault(value, name) != name:
                # An input, or an output under another name already.
                graph.node.append(helper.make_node("Identity", [value], [name], name=name))
        for node in graph.node:
            for values in (node.input, node.output):
                values[:] = [names.get(v, v) for v in values]


def _read_by(node: onnx.NodeProto) -> set[str]:
    """Names of the values that a node reads, also those that the graphs inside it (of an If or a Loop) do."""
    inner = (n for attribute in node.attribute for n in attribute.g.node)
    return set(node.input).union(*map(_read_by, inner))
