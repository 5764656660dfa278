"""How a table of numbers is stored in a graph in few bytes.

Each form is a chain of nodes over constants alone: onnxruntime runs it once, when it loads the file, into the float32 table that it
stands for. So a decision takes as long as before, and as much memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from router_ml.errors import InputError

__all__ = ["Form", "Weights", "quantized", "sparse"]

Weights = Literal["float16", "int8"]

_LEVELS = 127
"""An int8 stands for a number from -127 to 127: as many below zero as above."""
_FEW = 8
"""A column is stored as codes of its values where each of them stands, on the mean, in so many rows."""


class Form:
    """Nodes, in their order, and constants that give a table; the last value is the table."""

    def __init__(self, name: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.value = ""
        self._name = name

    def constant(self, suffix: str, value: NDArray[Any]) -> str:
        """Add a constant; its name is the table's, with the suffix."""
        name = f"{self._name}_{suffix}"
        self.constants[name] = np.ascontiguousarray(value)
        return name

    def node(self, op: str, inputs: Sequence[str], suffix: str, **attributes: object) -> str:
        """Add a node; its output becomes the value."""
        self.value = f"{self._name}_{suffix}"
        self.nodes.append(helper.make_node(op, inputs, [self.value], name=self.value, **attributes))
        return self.value

    def cast(self, source: str, suffix: str, to: int = TensorProto.FLOAT) -> str:
        """Cast to a type."""
        return self.node("Cast", [source], suffix, to=to)

    def spread(self, value: str, ids: NDArray[np.integer[Any]], n_rows: int, others: NDArray[np.floating]) -> str:
        """Rows by their ids among n, and one row [1, k] for all others."""
        narrow = np.uint16 if n_rows <= 1 << 16 else np.int32
        to = self.cast(self.constant("ids", ids[:, None].astype(narrow)), "row_ids", TensorProto.INT64)
        shape = self.constant("shape", np.array([n_rows, others.shape[1]], dtype=np.int64))
        base = self.node("Expand", [self.constant("others", others.astype(np.float32)), shape], "base")
        return self.node("ScatterND", [base, to, value], "spread")


class _Columns(NamedTuple):
    """The columns of a table [V, k] of which the others are copies, or copies with the other sign."""

    distinct: NDArray[np.intp]
    source: NDArray[np.int64]
    sign: NDArray[np.float32]

    @classmethod
    def of(cls, rows: NDArray[np.floating]) -> _Columns:
        known: dict[bytes, tuple[int, float]] = {}
        distinct: list[int] = []
        source, sign = [], []
        for j, column in enumerate(rows.T):
            # Plus zero, so that there is one zero only.
            key = (column + 0).tobytes()
            if key not in known:
                known[(0 - column).tobytes()] = (len(distinct), -1.0)
                known[key] = (len(distinct), 1.0)
                distinct.append(j)
            source.append(known[key][0])
            sign.append(known[key][1])
        return cls(np.array(distinct), np.array(source), np.array(sign, dtype=np.float32))


def quantized(name: str, rows: NDArray[np.floating], weights: Weights) -> Form:
    """A table [V, k] as float16, or as int8.

    Columns that repeat another one, also with the other sign, aren't stored, nor are rows of zeros where that is smaller. A single
    column of few values is stored as codes of them, exactly.

    Parameters
    ----------
    name : str
        What the names of nodes and constants begin with.
    rows : array [V, k]
    weights : {"float16", "int8"}

    Raises
    ------
    InputError
        If a number is beyond float16.

    Notes
    -----
    Of int8, a number is worth the largest of its row (float16), itself in units of the largest of its column (float32): columns
    of one table are of different kinds (logits, roots of tokens), and rows of words seen often or seldom.
    """
    form, columns = Form(name), _Columns.of(rows)
    core = rows[:, columns.distinct]
    used = _not_zero(core, _bytes_of_row(core.shape[1], weights))
    _numbers(form, core if used is None else core[used], weights)
    if used is not None:
        form.spread(form.value, used, len(rows), np.zeros((1, core.shape[1])))
    if len(columns.distinct) < rows.shape[1]:
        form.node("Gather", [form.value, form.constant("source", columns.source)], "columns", axis=1)
        if (columns.sign < 0).any():
            form.node("Mul", [form.value, form.constant("sign", columns.sign)], "signed")
    return form


def sparse(name: str, rows: NDArray[np.floating]) -> Form | None:
    """A table of floats without its rows of zeros; None where that is no smaller."""
    used = _not_zero(rows, rows.shape[1] * rows.itemsize)
    if used is None:
        return None
    form = Form(name)
    stored = form.constant("kept", rows[used])
    value = stored if rows.dtype == np.float32 else form.cast(stored, "kept_rows")
    form.spread(value, used, len(rows), np.zeros((1, rows.shape[1])))
    return form


def _not_zero(rows: NDArray[np.floating], bytes_of_row: int) -> NDArray[np.intp] | None:
    """Rows with a number other than zero; None where their ids would take more than the others do."""
    used = np.flatnonzero(rows.any(axis=1))
    bytes_of_id = 2 if len(rows) <= 1 << 16 else 4
    return used if bytes_of_id * len(used) < bytes_of_row * (len(rows) - len(used)) else None


def _bytes_of_row(width: int, weights: Weights) -> int:
    return width + 2 if weights == "int8" and width > 1 else 2 * width


def _numbers(form: Form, rows: NDArray[np.floating], weights: Weights) -> None:
    if rows.shape[1] == 1:
        values, codes = np.unique(rows, return_inverse=True)
        if len(values) * _FEW <= len(rows):
            few = np.uint8 if len(values) <= 1 << 8 else np.uint16
            wide = form.cast(form.constant("codes", codes.reshape(-1).astype(few)), "code_ids", TensorProto.INT32)
            form.node("Gather", [form.constant("values", values[:, None].astype(np.float32)), wide], "ready")
            return
    # Of one number, an int8 with a scale would be as large.
    if weights == "float16" or rows.shape[1] == 1:
        form.cast(form.constant("half", _as_half(rows)), "ready")
        return
    whole, row, column = _as_int8(rows)
    product = [form.cast(form.constant("int8", whole), "cast"), form.cast(form.constant("row", row), "row_scale")]
    form.node("Mul", [form.node("Mul", product, "scaled"), form.constant("column", column)], "ready")


def _as_half(rows: NDArray[np.floating]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = rows.astype(np.float16)
    if not np.isfinite(half).all():
        raise InputError(
            f"A token vector holds {np.abs(rows).max():.3g}, beyond float16's largest, 65,504. Give 'int8'."
        )
    return half


def _as_int8(rows: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.float16], NDArray[np.float32]]:
    """Whole numbers [V, k] from -127 to 127, and the factors of rows [V, 1] and columns [1, k] that give what they are worth."""
    exact = rows.astype(np.float64)
    largest = np.abs(exact).max(axis=0, keepdims=True)
    column = (np.where(largest > 0, largest, 1.0) / _LEVELS).astype(np.float32)
    row = (np.abs(exact / column).max(axis=1, keepdims=True) / _LEVELS).astype(np.float16)
    # A row that is nothing beside the others comes to zeros.
    step = np.where(row > 0, row, np.inf) * column.astype(np.float64)
    return np.clip(np.rint(exact / step), -_LEVELS, _LEVELS).astype(np.int8), row, column
