"""A small builder of ONNX graphs: nodes and constants by value, names made up as they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from router_ml.core.features import N_PAIRS, PAIR_MULTIPLIER, PAIR_START
from router_ml.core.inference import FEATURE_INPUTS
from router_ml.graph.embedding_bag import (
    LENGTH,
    PAIR_TABLE,
    SHARE,
    TOKEN_TABLE,
    WORD_TABLE,
    FeatureSums,
    stored_table,
    sums_to_nodes,
)

__all__ = ["OPSET", "Graph"]

OPSET = 20
"""ONNX operator set of the artifacts: read by onnxruntime from 1.17 on (https://onnxruntime.ai/docs/reference/compatibility.html)."""

_DOMAINS = {"ai.onnx.ml": 3}
"""Operator sets beside ONNX's own, each at the version that goes with the node types that are used of it."""


_NARROWER = 4
"""A table is multiplied by matrices that make its rows so many times as short."""
_TRACE = 1e-15
"""What a share is at least: what is divided by it stays a number."""
_OF_TOKENS = {"input_ids", "token_weights"}
_CHEAP = 4096
"""A product with a matrix of so many numbers takes no longer than another node would."""
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
        self._sums: dict[str, FeatureSums] = {}
        self._n_tokens: int | None = None
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

    def constant(self, value: ArrayLike, stem: str = "constant") -> str:
        """Add a constant; its dtype is the array's, and its name begins with the stem."""
        tensor = numpy_helper.from_array(np.asarray(value))
        key = tensor.SerializeToString(deterministic=True) if np.size(value) <= _SMALL else b""
        if key and key in self._known:
            return self._known[key][0]
        tensor.name = self._name(stem)
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

    def needs(self, value: str) -> bool:
        """Whether an output depends on a value."""
        return value in self._needed()[0]

    def feature_inputs(self) -> None:
        """Declare the inputs of a static encoder's artifact (`router_ml.core.features`).

        ``input_ids``, ``token_weights`` and ``log_n_chars`` then stand for what is in them, for those who ask for them by name.
        """
        self.input(FEATURE_INPUTS[0], np.int64, ["n", "features"])
        self.input(FEATURE_INPUTS[1], np.float32, ["n", 1, "features"])
        self._sums["log_n_chars"] = FeatureSums(None, None, LENGTH)

    def mean_of_rows(self, table: NDArray[np.floating], ids: str, weights: str) -> str:
        """Sums [n, k] of a table's rows [V, k] by token ids [n, L], times weights [n, 1, L].

        Where the graph takes features, nothing is added yet: linear functions of the result are taken of the table (see :meth:`linear`),
        and what is needed in the end is read in one go.
        """
        if self._takes_features(ids):
            self._n_tokens = len(table)
            return self._sum(FeatureSums(table, None, np.zeros((3, table.shape[1]))))
        return self._look_up(TOKEN_TABLE, table, ids, weights)

    def mean_of_words(
        self, pairs: NDArray[np.floating], ids: str, weights: str, tokens: NDArray[np.floating] | None = None
    ) -> str:
        """The same of pairs [N_PAIRS, k] of neighbouring tokens, and of tokens [2^m, k], which share rows beyond 2^m."""
        if self._takes_features(ids):
            if tokens is not None and self._n_tokens is not None:
                tokens = tokens[np.arange(self._n_tokens) % len(tokens)]
            return self._sum(FeatureSums(tokens, pairs, np.zeros((3, pairs.shape[1]))))
        pair = self._pairs(ids)
        if tokens is None:
            return self._look_up(PAIR_TABLE, pairs, pair, weights)
        # A remainder by a power of two is the last bits.
        single = self.node("BitwiseAnd", ids, self.constant(np.int64(len(tokens) - 1)))
        feature = self.node("Concat", single, self.node("Add", pair, self.constant(np.int64(len(tokens)))), axis=1)
        both = self.node("Concat", weights, weights, axis=2)
        return self._look_up(WORD_TABLE, np.vstack([tokens, pairs]), feature, both)

    def share_of_token(self, ids: str, weights: str) -> str:
        """One over the number of tokens [n, 1], which each of them weighs; next to nothing where there is none."""
        if self._takes_features(ids):
            return self._sum(FeatureSums(None, None, SHARE))
        share = self.node("ReduceSumSquare", weights, self.constant(np.array([2], dtype=np.int64)), keepdims=0)
        return self.node("Max", share, self.floats(_TRACE))

    def _takes_features(self, ids: str) -> bool:
        return ids == "input_ids" and "log_n_chars" in self._sums

    def _sum(self, sums: FeatureSums) -> str:
        name = self._name("sum")
        self._sums[name] = sums
        return name

    def _look_up(self, stem: str, table: NDArray[np.floating], ids: str, weights: str) -> str:
        stored = stored_table(table)
        rows = self.constant(stored, stem)
        if stored.dtype != np.float32:
            rows = self.cast(rows, np.float32)
        rows = self.node("Gather", rows, ids, axis=0)
        mean = self.node("MatMul", weights, rows)
        return self.node("Squeeze", mean, self.constant(np.array([1], dtype=np.int64)))

    def _pairs(self, ids: str) -> str:
        """:func:`router_ml.core.features.pair_ids` of each row [n, L] of token ids."""
        start = self.constant(np.int64(PAIR_START))
        shifted = self.node("Pad", ids, self.constant(np.array([0, 1, 0, 0], dtype=np.int64)), start)
        ends = (np.array([v], dtype=np.int64) for v in (0, -1, 1))
        before = self.node("Slice", shifted, *(self.constant(v) for v in ends))
        pair = self.node("Add", self.node("Mul", before, self.constant(np.int64(PAIR_MULTIPLIER))), ids)
        return self.node("Mod", pair, self.constant(np.int64(N_PAIRS)))

    def linear(self, x: str, weight: NDArray[np.floating], bias: NDArray[np.floating]) -> str:
        """``x @ weight + bias`` for weight [d, m] and bias [m].

        Of sums over features in x, alone or beside other columns, the tables are multiplied instead, once, here: a function of a
        sum is the sum of the function, and rows of a few numbers are read sooner than token vectors. Of what is linear itself, by a
        small matrix, one product is made.
        """
        if x in self._linear and len(self._linear[x][1]) * weight.shape[1] <= _CHEAP:
            source, before, shift = self._linear[x]
            return self.linear(source, before @ weight, shift @ weight + bias)
        parts = self._parts(x)
        sums = [p for p in parts if p in self._sums]
        blocks = self._blocks(parts, weight)
        if blocks is None or not self._can_be_summed(sums, weight.shape[1]):
            product = self.node("Gemm", x, self.floats(weight), self.floats(bias))
            self._linear[product] = (x, weight, bias)
            return product
        of_sums = [block for p, block in zip(parts, blocks, strict=True) if p in self._sums]
        summed = self._sum(FeatureSums.linear([self._sums[p] for p in sums], of_sums, bias))
        rest = [(p, block) for p, block in zip(parts, blocks, strict=True) if p not in self._sums]
        if not rest:
            return summed
        others, of_others = zip(*rest, strict=True)
        beside = others[0] if len(others) == 1 else self.node("Concat", *others, axis=1)
        return self.node("Gemm", beside, self.floats(np.vstack(of_others)), summed)

    def _can_be_summed(self, sums: Sequence[str], n_outputs: int) -> bool:
        """Whether there are tables, and their products with a matrix would all be narrower."""
        widths = [
            self._sums[p].width for p in sums if self._sums[p].tokens is not None or self._sums[p].pairs is not None
        ]
        return bool(widths) and all(n_outputs * _NARROWER <= width for width in widths)

    def _blocks(self, parts: Sequence[str], weight: NDArray[np.floating]) -> list[NDArray[np.floating]] | None:
        """The rows of a matrix that go with each of the parts; None where the width of more than one isn't known."""
        widths = [self._width(part) for part in parts]
        if widths.count(None) > 1:
            return None
        rest = len(weight) - sum(w for w in widths if w is not None)
        ends = np.cumsum([rest if w is None else w for w in widths])[:-1]
        return np.split(weight, ends)

    def _parts(self, x: str) -> list[str]:
        """What was concatenated to x; x itself where nothing was."""
        node = next((n for n in self._nodes if x in n.output), None)
        return [x] if node is None or node.op_type != "Concat" else [p for i in node.input for p in self._parts(i)]

    def _width(self, x: str) -> int | None:
        """Columns of a matrix, where they are known."""
        if x in self._sums:
            return self._sums[x].width
        dims = next((i.type.tensor_type.shape.dim for i in self._inputs if i.name == x), None)
        return None if dims is None else int(dims[-1].dim_value) or None

    def affine(self, x: str, scale: NDArray[np.floating], shift: NDArray[np.floating]) -> str:
        """``x * scale + shift`` per column; where x is linear in something, by that product."""
        if x in self._sums:
            return self._sum(FeatureSums.linear([self._sums[x]], [np.diag(scale)], shift))
        if x in self._linear:
            return self.linear(x, np.diag(scale), shift)
        return self.node("Add", self.node("Mul", x, self.floats(scale)), self.floats(shift))

    def split(self, x: str, *sizes: int) -> list[str]:
        """Columns in runs of the given sizes."""
        if x in self._sums:
            ends = np.cumsum(sizes).tolist()
            return [self._sum(self._sums[x].columns(end - size, end)) for end, size in zip(ends, sizes, strict=True)]
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
        needed, nodes = self._needed()
        sums = {name: each for name, each in self._sums.items() if name in needed}
        by_token = self._takes_features("input_ids") and not needed.isdisjoint(_OF_TOKENS)
        first, tables = sums_to_nodes(sums, n_tokens=self._n_tokens or 1, token_inputs=by_token)
        constants = [c for c in self._initializers if c.name in needed]
        outputs = [info for _, info in self._outputs.values()]
        graph = helper.make_graph([*first, *nodes], "router", self._inputs, outputs, [*tables, *constants])
        self._name_outputs(graph)
        # IR version 9 goes with opset 20; a newer one would be refused by older runtimes for no gain.
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="router-ml")
        onnx.checker.check_model(model)
        return model

    def _needed(self) -> tuple[set[str], list[onnx.NodeProto]]:
        """The values that the outputs depend on, and the nodes that make them."""
        needed = {value for value, _ in self._outputs.values()}
        nodes: list[onnx.NodeProto] = []
        for node in reversed(self._nodes):
            if not needed.isdisjoint(node.output):
                needed.update(_read_by(node))
                nodes.append(node)
        return needed, nodes[::-1]

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
