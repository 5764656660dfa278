"""The tables in an artifact's graph, of tokens, words and pairs: stored in fewer bytes, or with fewer rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from router_ml.errors import InputError
from router_ml.export.compress.storage import Form, Weights, quantized, sparse
from router_ml.graph.embedding_bag import PAIR_TABLE, TOKEN_TABLE, WORD_TABLE

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

WEIGHTS: tuple[Weights, ...] = ("float16", "int8")

_KEPT = "_kept"
"""What the name of a pruned table's rows ends with."""
_NAMES = re.compile(rf"({TOKEN_TABLE}|{WORD_TABLE}|{PAIR_TABLE})(_\d+)?({_KEPT})?")
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_NO_TABLE = (
    "The artifact has no table of token vectors as floats: it has been quantised already, or its encoder has none. Give the "
    "artifact that 'router-ml fit' wrote."
)


def quantize_table(model: onnx.ModelProto, weights: Weights) -> onnx.ModelProto:
    """Store the tables of tokens, words and pairs as float16, or as int8 (see :func:`router_ml.export.compress.storage.quantized`).

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
    tables = _tables(model.graph)
    if weights == "float16":
        tables = [t for t in tables if t.rows.dtype != np.float16]
        if not tables:
            raise InputError(
                "The token vectors are float16 already, so the file wouldn't become smaller. Give 'int8', or prune."
            )
    for table in tables:
        _replace(model.graph, table, quantized(table.name, table.rows, weights))
    return checked(model)


def prune_tokens(model: onnx.ModelProto, used_ids: Iterable[int] | NDArray[np.integer[Any]]) -> onnx.ModelProto:
    """Keep the vectors of the tokens used, and one for all others: the mean of theirs.

    The tokenizer stays as it is: the rows are put in their places once, when the graph is loaded. Of words and pairs, rows of zeros
    are left out: the learner never saw those, so that pruned to its own traffic there are no others to leave out.

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
    tables = _tables(model.graph)
    of_tokens = [t for t in tables if t.is_of_tokens]
    if not of_tokens:
        raise InputError(_NO_TABLE)
    if of_tokens[0].name.endswith(_KEPT):
        raise InputError(
            "The artifact's tokens have been pruned already; give the artifact that 'router-ml fit' wrote."
        )
    used = _used(used_ids, len(of_tokens[0].rows))
    for table in tables:
        form = _pruned(table, used) if table.is_of_tokens else sparse(table.name, table.rows)
        if form is not None:
            _replace(model.graph, table, form)
    return checked(model)


def _used(ids: Iterable[int] | NDArray[np.integer[Any]], n_tokens: int) -> NDArray[np.int64]:
    used = np.unique(np.fromiter(ids, dtype=np.int64))
    if len(used) == 0 or used[0] < 0 or used[-1] >= n_tokens:
        raise InputError(
            f"{len(used)} token ids are given{f', from {used[0]} to {used[-1]}' if len(used) else ''}; needed at least one, each "
            f"from 0 to {n_tokens - 1}. Take those that the artifact's tokenizer gives for the traffic."
        )
    if len(used) == n_tokens:
        raise InputError(f"All {n_tokens:,} tokens are used, so there is none to prune. Give 'weights' only.")
    return used


def _pruned(table: _Table, used: NDArray[np.int64]) -> Form:
    """The rows used, and the mean of the others in all other places."""
    form, rows = Form(table.name), table.rows
    others = np.delete(rows, used, axis=0).mean(axis=0, dtype=np.float64)[None].astype(rows.dtype)
    stored = form.constant("kept", rows[used])
    value = stored if rows.dtype == np.float32 else form.cast(stored, "kept_rows")
    form.spread(value, used, len(rows), others)
    return form


def has_half_tables(graph: onnx.GraphProto) -> bool:
    """Whether all tables are float16."""
    return all(table.rows.dtype == np.float16 for table in _tables(graph))


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
    """A table [V, k] that is looked up in: where it is stored, and the cast behind it, if any."""

    rows: NDArray[np.floating]
    stored: onnx.TensorProto
    cast: onnx.NodeProto | None

    @property
    def name(self) -> str:
        """Name of what is stored."""
        return str(self.stored.name)

    @property
    def is_of_tokens(self) -> bool:
        """Whether its rows are the encoder's token vectors, or a function of them."""
        return self.name.startswith(TOKEN_TABLE)

    @property
    def value(self) -> str:
        """Name of the value that others read."""
        return self.name if self.cast is None else str(self.cast.output[0])


def _tables(graph: onnx.GraphProto) -> list[_Table]:
    """The tables of floats: those of tokens, words and pairs by their names, and of a transformer what token ids are looked up in."""
    stored = {c.name: c for c in graph.initializer if len(c.dims) == 2 and c.data_type in _FLOATS}
    casts = {n.input[0]: n for n in graph.node if n.op_type == "Cast" and n.input[0] in stored}
    names = [name for name in stored if _NAMES.fullmatch(name)]
    if is_transformer(graph):
        made_by = {name: node for node in graph.node for name in node.output}
        read = {n.input[0] for n in graph.node if n.op_type == "Gather" and _is_token_id(n.input[1], made_by)}
        vectors = [name for name in stored if name in read or (name in casts and casts[name].output[0] in read)]
        names = list(dict.fromkeys([*vectors[:1], *names]))
    if not names:
        raise InputError(_NO_TABLE)
    return [_Table(numpy_helper.to_array(stored[n]), stored[n], casts.get(n)) for n in names]


def _is_token_id(name: str, made_by: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether a value is `input_ids`, maybe copied."""
    while name != "input_ids":
        node = made_by.get(name)
        if node is None or node.op_type not in ("Identity", "Cast"):
            return False
        name = node.input[0]
    return True


def _replace(graph: onnx.GraphProto, table: _Table, form: Form) -> None:
    """Let what reads the table read what the form gives, and drop the table; what is stored already isn't stored again."""
    for node in graph.node:
        node.input[:] = [form.value if name == table.value else name for name in node.input]
    if table.cast is not None:
        graph.node.remove(table.cast)
    graph.initializer.remove(table.stored)
    # A node comes after what it needs: these need constants only.
    for node in reversed(form.nodes):
        graph.node.insert(0, node)
    there = {(c.data_type, *c.dims, c.raw_data): c.name for c in graph.initializer if c.data_type not in _FLOATS}
    for name, value in form.constants.items():
        constant = numpy_helper.from_array(value, name)
        same = there.get((constant.data_type, *constant.dims, constant.raw_data))
        if same is None:
            graph.initializer.append(constant)
            continue
        for node in graph.node:
            node.input[:] = [same if n == name else n for n in node.input]
