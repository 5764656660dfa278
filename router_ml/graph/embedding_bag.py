"""Sums over a text's features in a graph: however many there are, they are read from one table, by one look-up and one product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from router_ml.core.features import FIRST_TOKEN, N_PAIRS, N_WHOLE
from router_ml.core.inference import FEATURE_INPUTS

__all__ = ["LENGTH", "PAIR_TABLE", "SHARE", "TOKEN_TABLE", "WORD_TABLE", "FeatureSums", "stored_table", "sums_to_nodes"]

FloatArray = NDArray[np.floating]

TOKEN_TABLE = "token_table"
"""Name of the initializer that holds the encoder's token vectors, or a linear function of them; of more such, what their names begin with."""
WORD_TABLE, PAIR_TABLE = "word_table", "pair_table"
"""The same of rows that a learner has for tokens beside their vectors, and for pairs of tokens."""
SHARE, LENGTH, _ONE = np.eye(N_WHOLE)[:, :, None]
"""Rows [3, 1] for the features of the whole text by which a sum is one of them (`router_ml.core.features.N_WHOLE`)."""
_WIDE = 128
"""A sum of more columns, of tokens alone, has a table of its own: in the others' it would have as many columns for each pair."""


@dataclass(frozen=True, slots=True)
class FeatureSums:
    """The sums [n, k] over a text's features of a row of numbers each, times the features' weights.

    Attributes
    ----------
    tokens : array [V, k] or None
        Rows of the tokens; None: zeros.
    pairs : array [N_PAIRS, k] or None
    whole : array [3, k]
        Rows of the features of the whole text.
    """

    tokens: FloatArray | None
    pairs: FloatArray | None
    whole: FloatArray

    @property
    def width(self) -> int:
        """The number of columns k."""
        return int(self.whole.shape[1])

    @property
    def is_wide(self) -> bool:
        """Whether it has a table of its own."""
        return self.width > _WIDE and self.pairs is None and not self.whole.any()

    @classmethod
    def linear(cls, parts: Sequence[Self], weights: Sequence[FloatArray], bias: FloatArray) -> Self:
        """``sum(part @ weight) + bias``: a function that is linear in sums is the sums of the function."""
        total: dict[str, FloatArray | None] = {"tokens": None, "pairs": None, "whole": _ONE @ np.atleast_2d(bias)}
        for part, weight in zip(parts, weights, strict=True):
            for name in total:
                rows, before = getattr(part, name), total[name]
                if rows is not None and weight.any():
                    product = rows.astype(np.float64) @ weight
                    total[name] = product if before is None else before + product
        return cls(**total)  # type: ignore[arg-type]  # 'whole' is never None

    def columns(self, start: int, stop: int) -> Self:
        """Some of the columns."""
        tokens, pairs = (None if table is None else table[:, start:stop] for table in (self.tokens, self.pairs))
        return type(self)(tokens, pairs, self.whole[:, start:stop])


def sums_to_nodes(
    sums: Mapping[str, FeatureSums], *, n_tokens: int, token_inputs: bool
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes that give sums under their names, from `FEATURE_INPUTS`, and the constants that they need.

    Parameters
    ----------
    sums : mapping of name to FeatureSums
    n_tokens : int
        Of the vocabulary.
    token_inputs : bool
        Whether other nodes read ``input_ids`` or ``token_weights``.

    Notes
    -----
    The table is put together of what is stored by nodes of constants alone, which onnxruntime computes once, when it loads the graph.
    """
    builder = _Builder([], [])
    wide = {name: s for name, s in sums.items() if s.is_wide}
    if wide or token_inputs:
        builder.add_token_inputs()
    for name, each in wide.items():
        builder.look_up(builder.store(TOKEN_TABLE, each.tokens), "input_ids", "token_weights", name)
    if narrow := {name: s for name, s in sums.items() if not s.is_wide}:
        builder.add_narrow(narrow, n_tokens)
    return builder.nodes, builder.constants


@dataclass(frozen=True, slots=True)
class _Builder:
    nodes: list[onnx.NodeProto]
    constants: list[onnx.TensorProto]

    def node(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def integers(self, name: str, *values: int) -> str:
        return self.constant(name, np.array(values, dtype=np.int64))

    def store(self, stem: str, table: FloatArray | None) -> str:
        """A table as a float32 value; in half the bytes where nothing is lost by it."""
        assert table is not None  # for mypy: its callers have seen to it
        taken = {c.name for c in self.constants}
        name = next(n for n in (stem, *(f"{stem}_{i}" for i in range(1, len(taken) + 2))) if n not in taken)
        stored = self.constant(name, stored_table(table))
        if self.constants[-1].data_type == onnx.TensorProto.FLOAT:
            return stored
        return self.node("Cast", [stored], [f"{name}_rows"], to=onnx.TensorProto.FLOAT)

    def look_up(self, table: str, ids: str, weights: str, name: str) -> None:
        rows = self.node("Gather", [table, ids], [f"{name}_rows"])
        # A product runs faster than a sum over an axis.
        self.node("Squeeze", [self.node("MatMul", [weights, rows], [f"{name}_row"]), self.axis(1)], [name])

    def axis(self, axis: int) -> str:
        name = f"axis_{axis}"
        return name if any(c.name == name for c in self.constants) else self.integers(name, axis)

    def add_token_inputs(self) -> None:
        """``input_ids`` [n, L] and ``token_weights`` [n, 1, L], as the first half of what stands before the features of the whole text."""
        start, stop = self.integers("features_start", 0), self.integers("features_stop", -N_WHOLE)
        for name, axis, half in zip(FEATURE_INPUTS, (1, 2), ("tokens", "token_weights"), strict=True):
            inner = self.node("Slice", [name, start, stop, self.axis(axis)], [f"{name}_inner"])
            self.node("Split", [inner], [half, f"{half}_of_pairs"], axis=axis, num_outputs=2)
        self.node("Sub", ["tokens", self.constant("first_token", np.array(FIRST_TOKEN))], ["input_ids"])

    def add_narrow(self, sums: Mapping[str, FeatureSums], n_tokens: int) -> None:
        blocks = [
            self.block("pair_rows", N_PAIRS, [(s.width, PAIR_TABLE, s.pairs) for s in sums.values()]),
            self.block(
                "token_rows",
                n_tokens,
                [(s.width, TOKEN_TABLE if s.pairs is None else WORD_TABLE, s.tokens) for s in sums.values()],
            ),
            self.constant("whole_rows", np.hstack([s.whole for s in sums.values()]).astype(np.float32)),
        ]
        self.node("Concat", blocks, ["feature_table"], axis=0)
        if len(sums) == 1:
            self.look_up("feature_table", *FEATURE_INPUTS, *sums)
            return
        self.look_up("feature_table", *FEATURE_INPUTS, "feature_sums")
        sizes = self.integers("sums_widths", *(s.width for s in sums.values()))
        self.node("Split", ["feature_sums", sizes], list(sums), axis=1)

    def block(self, name: str, n_rows: int, pieces: Sequence[tuple[int, str, FloatArray | None]]) -> str:
        """Tables [n_rows, k] of the sums, side by side; zeros are not stored."""
        columns = []
        for i, (width, stem, table) in enumerate(pieces):
            if table is not None:
                columns.append(self.store(stem, table))
                continue
            shape = self.integers(f"{name}_{i}_shape", n_rows, width)
            zero = numpy_helper.from_array(np.zeros(1, dtype=np.float32))
            columns.append(self.node("ConstantOfShape", [shape], [f"{name}_{i}"], value=zero))
        return self.node("Concat", columns, [name], axis=1)


def stored_table(table: FloatArray) -> NDArray[np.float16] | NDArray[np.float32]:
    """As float16 where nothing is lost by it, else as float32; onnxruntime casts it when it loads the graph."""
    with np.errstate(over="ignore"):
        half = table.astype(np.float16)
    return half if np.array_equal(half, table) else table.astype(np.float32)
