"""The tables of token vectors in an artifact's graph: stored in fewer bytes, or with fewer rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from router_ml.errors import InputError
from router_ml.learning.feature_sums import TOKEN_TABLE

__all__ = [
    "WEIGHTS",
    "Weights",
    "check_weights",
    "checked",
    "copied",
    "has_half_tables",
    "is_transformer",
    "prune_tokens",
    "quantize_table",
]

Weights = Literal["float16", "int8"]
WEIGHTS: tuple[Weights, ...] = ("float16", "int8")

_KEPT = "_kept"
"""What the name of a pruned table's rows ends with."""
_NAMES = re.compile(rf"{TOKEN_TABLE}(_\d+)?({_KEPT})?")


def quantize_table(model: onnx.ModelProto, weights: Weights) -> onnx.ModelProto:
    """Store the tables of token vectors as float16, or as int8 with a float32 scale for each row.

    Parameters
    ----------
    model : ModelProto
        An artifact's graph; it isn't changed.
    weights : {"float16", "int8"}

    Raises
    ------
    InputError
        If there is no table of floats, they are float16 already, or float16 can't hold one.
    """
    check_weights(weights)
    model = copied(model)
    tables = _token_tables(model.graph)
    if weights == "float16" and all(t.rows.dtype == np.float16 for t in tables):
        raise InputError(
            "The token vectors are float16 already, so the file wouldn't become smaller. Give 'int8', or prune."
        )
    for table in tables:
        name = table.stored.name
        if weights == "float16":
            _replace(
                model.graph, table, [_to_float(f"{name}_half", f"{name}_ready")], {f"{name}_half": _as_half(table)}
            )
            continue
        whole, scale = _as_int8(table.rows)
        nodes = [
            _to_float(f"{name}_int8", f"{name}_cast"),
            helper.make_node("Mul", [f"{name}_cast", f"{name}_scale"], [f"{name}_ready"], name=f"{name}_ready"),
        ]
        _replace(model.graph, table, nodes, {f"{name}_int8": whole, f"{name}_scale": scale})
    return checked(model)


def prune_tokens(model: onnx.ModelProto, used_ids: Iterable[int] | NDArray[np.integer[Any]]) -> onnx.ModelProto:
    """Keep the vectors of the tokens used, and one for all others: the mean of theirs.

    The tokenizer stays as it is, and so do features of words: one more look-up maps token ids to rows, once, when the graph is loaded.

    Parameters
    ----------
    model : ModelProto
        A static encoder's graph; it isn't changed.
    used_ids : ints
        Token ids, in any order.

    Raises
    ------
    InputError
        If the graph has no table of token vectors that can be pruned, an id is outside it, or none or all of its tokens are used.
    """
    if is_transformer(model.graph):
        raise InputError(
            "The artifact's encoder is a transformer, whose tokens can't be pruned: a table's mean vector stands for no token "
            "there. Give 'weights' only."
        )
    model = copied(model)
    tables = _token_tables(model.graph)
    if tables[0].stored.name.endswith(_KEPT):
        raise InputError(
            "The artifact's tokens have been pruned already; give the artifact that 'router-ml fit' wrote."
        )
    used = np.unique(np.fromiter(used_ids, dtype=np.int64))
    n_tokens = len(tables[0].rows)
    if len(used) == 0 or used[0] < 0 or used[-1] >= n_tokens:
        raise InputError(
            f"{len(used)} token ids are given{f', from {used[0]} to {used[-1]}' if len(used) else ''}; needed at least one, each "
            f"from 0 to {n_tokens - 1}. Take those that the artifact's tokenizer gives for the traffic."
        )
    if len(used) == n_tokens:
        raise InputError(f"All {n_tokens:,} tokens are used, so there is none to prune. Give 'weights' only.")
    row_of = np.full(n_tokens, len(used), dtype=np.int32)
    row_of[used] = np.arange(len(used))
    model.graph.initializer.append(numpy_helper.from_array(row_of, "token_row_of"))
    for table in tables:
        name = table.stored.name
        others = np.delete(table.rows, used, axis=0).mean(axis=0, dtype=np.float64)
        rows = np.concatenate([table.rows[used], others[None].astype(table.rows.dtype)])
        nodes = [helper.make_node("Gather", [name + _KEPT, "token_row_of"], [f"{name}_spread"], name=f"{name}_spread")]
        if rows.dtype == np.float16:
            nodes = [_to_float(name + _KEPT, f"{name}{_KEPT}_rows"), *nodes]
            nodes[-1].input[0] = f"{name}{_KEPT}_rows"
        _replace(model.graph, table, nodes, {name + _KEPT: rows})
    return checked(model)


def has_half_tables(graph: onnx.GraphProto) -> bool:
    """Whether all tables of token vectors are float16."""
    return all(table.rows.dtype == np.float16 for table in _token_tables(graph))


def is_transformer(graph: onnx.GraphProto) -> bool:
    """Whether the encoder takes a mask."""
    return any(i.name == "attention_mask" for i in graph.input)


def check_weights(weights: str) -> None:
    """Raise InputError for another kind of weights."""
    if weights not in WEIGHTS:
        raise InputError(f"'weights' is {weights!r}; choose from {list(WEIGHTS)}.")


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of one's own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, which ONNX's checker has seen."""
    onnx.checker.check_model(model)
    return model


class _Table(NamedTuple):
    """A table of token vectors [V, d]: where it is stored, and the cast behind it, if any."""

    rows: NDArray[np.floating]
    stored: onnx.TensorProto
    cast: onnx.NodeProto | None

    @property
    def value(self) -> str:
        """Name of the value that others read."""
        return str(self.stored.name if self.cast is None else self.cast.output[0])


def _token_tables(graph: onnx.GraphProto) -> list[_Table]:
    """The tables of floats: of a static encoder by their names, of a transformer what token ids are looked up in."""
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    stored = {c.name: c for c in graph.initializer if len(c.dims) == 2 and c.data_type in floats}
    casts = {n.input[0]: n for n in graph.node if n.op_type == "Cast" and n.input[0] in stored}
    names = [name for name in stored if _NAMES.fullmatch(name)]
    if is_transformer(graph):
        made_by = {name: node for node in graph.node for name in node.output}
        read = {n.input[0] for n in graph.node if n.op_type == "Gather" and _is_token_id(n.input[1], made_by)}
        names = [name for name in stored if name in read or (name in casts and casts[name].output[0] in read)][:1]
    if not names:
        raise InputError(
            "The artifact has no table of token vectors as floats: it has been quantised already, or its encoder has none. Give the "
            "artifact that 'router-ml fit' wrote."
        )
    return [_Table(numpy_helper.to_array(stored[n]), stored[n], casts.get(n)) for n in names]


def _is_token_id(name: str, made_by: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether a value is `input_ids`, maybe copied."""
    while name != "input_ids":
        node = made_by.get(name)
        if node is None or node.op_type not in ("Identity", "Cast"):
            return False
        name = node.input[0]
    return True


def _replace(
    graph: onnx.GraphProto, table: _Table, nodes: Sequence[onnx.NodeProto], constants: Mapping[str, NDArray[Any]]
) -> None:
    """Let what reads the table read what the last of the new nodes gives, and drop the table."""
    for node in graph.node:
        node.input[:] = [nodes[-1].output[0] if name == table.value else name for name in node.input]
    if table.cast is not None:
        graph.node.remove(table.cast)
    graph.initializer.remove(table.stored)
    # A node comes after what it needs: these need constants only.
    for node in reversed(nodes):
        graph.node.insert(0, node)
    graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items())


def _to_float(source: str, name: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [name], name=name, to=TensorProto.FLOAT)


def _as_half(table: _Table) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = table.rows.astype(np.float16)
    if not np.isfinite(half).all():
        raise InputError(
            f"A token vector holds {np.abs(table.rows).max():.3g}, beyond float16's largest, 65,504. Give 'int8'."
        )
    return half


def _as_int8(rows: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers [V, d] from -127 to 127, and what one of them is worth in each row [V, 1]."""
    exact = rows.astype(np.float64)
    largest = np.abs(exact).max(axis=1, keepdims=True)
    scale = (np.where(largest > 0, largest, 1.0) / 127).astype(np.float32)
    return np.clip(np.rint(exact / scale), -127, 127).astype(np.int8), scale
