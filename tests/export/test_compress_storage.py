"""A table comes back as it was stored: exactly where nothing is rounded, and of a row or column that repeats, once."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from router_ml.export.compress.storage import Form, Weights, quantized, sparse

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(200, 6)).astype(np.float32)


def read(form: Form) -> np.ndarray:
    """The table that the nodes give."""
    constants = [numpy_helper.from_array(v, k) for k, v in form.constants.items()]
    output = helper.make_tensor_value_info(form.value, onnx.TensorProto.FLOAT, ["rows", "columns"])
    graph = helper.make_graph(form.nodes, "table", [], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {})[0])


def n_bytes(form: Form) -> int:
    return sum(v.nbytes for v in form.constants.values())


def with_zeros(rows: np.ndarray, n: int) -> np.ndarray:
    """More rows, of zeros, among them."""
    more = np.zeros((n + len(rows), rows.shape[1]), dtype=rows.dtype)
    more[RNG.choice(len(more), len(rows), replace=False)] = rows
    return more


def test_int8_takes_one_byte_a_number_and_two_a_row() -> None:
    assert n_bytes(quantized("t", TABLE, "int8")) == 200 * (6 + 2) + 6 * 4


def test_float16_takes_two_bytes_a_number() -> None:
    assert n_bytes(quantized("t", TABLE, "float16")) == 200 * 6 * 2


def test_a_seldom_rows_small_numbers_keep_their_steps() -> None:
    rows = TABLE * np.where(np.arange(200) % 2, 1e-3, 1.0)[:, None].astype(np.float32)
    got = read(quantized("t", rows, "int8"))
    np.testing.assert_allclose(got[1::2], rows[1::2], atol=1e-3 * np.abs(TABLE).max() / 200)


@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_a_column_that_repeats_another_is_stored_once(weights: Weights) -> None:
    form = quantized("t", np.hstack([TABLE, -TABLE, TABLE[:, :2]]), weights)
    assert n_bytes(form) < n_bytes(quantized("t", TABLE, weights)) + 14 * (8 + 4) + 1
    got, alone = read(form), read(quantized("t", TABLE, weights))
    np.testing.assert_array_equal(got, np.hstack([alone, -alone, alone[:, :2]]))


@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_rows_of_zeros_are_not_stored(weights: Weights) -> None:
    rows = with_zeros(TABLE, 300)
    form = quantized("t", rows, weights)
    assert n_bytes(form) < n_bytes(quantized("t", TABLE, weights)) + 500
    assert not read(form)[~rows.any(axis=1)].any()


def test_a_few_rows_of_zeros_are_stored_where_the_ids_of_the_others_take_more() -> None:
    assert [n.op_type for n in quantized("t", with_zeros(TABLE, 3), "int8").nodes] == ["Cast", "Cast", "Mul", "Mul"]


@pytest.mark.parametrize(("n_values", "bytes_of_code"), [(200, 1), (400, 2)])
@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_a_column_of_few_values_is_exact(weights: Weights, n_values: int, bytes_of_code: int) -> None:
    values = np.unique(RNG.normal(size=n_values)).astype(np.float32)
    column = np.concatenate([values, RNG.choice(values, 4000)])[:, None]
    form = quantized("t", column, weights)
    np.testing.assert_array_equal(read(form), column)
    assert n_bytes(form) == len(column) * bytes_of_code + n_values * 4


def test_a_column_of_many_values_is_float16() -> None:
    column = TABLE[:, :1]
    np.testing.assert_array_equal(read(quantized("t", column, "int8")), column.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("weights", ["float16", "int8"])
@pytest.mark.parametrize("width", [1, 6])
def test_a_table_of_zeros_stays_one(weights: Weights, width: int) -> None:
    zeros = np.zeros((50, width), dtype=np.float32)
    np.testing.assert_array_equal(read(quantized("t", zeros, weights)), zeros)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_sparse_table_is_exact_and_smaller(dtype: Any) -> None:
    rows = with_zeros(TABLE.astype(dtype), 300)
    form = sparse("t", rows)
    assert form is not None
    np.testing.assert_array_equal(read(form), rows.astype(np.float32))
    assert n_bytes(form) < rows.nbytes


def test_a_table_without_zeros_is_not_made_sparse() -> None:
    assert sparse("t", TABLE) is None
