"""What a graph leaves out, and that what is left computes the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from router_ml.core.features import N_PAIRS, feature_rows
from router_ml.core.inference import FEATURE_INPUTS
from router_ml.graph.builder import Graph

TOKENS = [np.array([2, 0, 2]), np.array([1])]
IDS = np.array([[2, 0, 2], [1, 1, 0]])
WEIGHTS = np.array([[[1 / 3, 1 / 3, 1 / 3]], [[1.0, 0.0, 0.0]]], dtype=np.float32)
N_CHARS = [11, 0]
LOG_N_CHARS = np.log1p(N_CHARS)[:, None]
FEATURES = dict(zip(FEATURE_INPUTS, feature_rows(TOKENS, N_CHARS), strict=True))
LENGTHS = np.array([[5.0], [7.0]], dtype=np.float32)


@pytest.fixture
def table() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(3, 16))


def with_inputs() -> Graph:
    graph = Graph()
    graph.input("ids", np.int64, ["n", "length"])
    graph.input("weights", np.float32, ["n", 1, "length"])
    graph.input("lengths", np.float32, ["n", 1])
    return graph


def with_features() -> Graph:
    graph = Graph()
    graph.feature_inputs()
    return graph


def loaded_types(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """The nodes that are left when onnxruntime has loaded a graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    return Counter(n.op_type for n in onnx.load(folder / "optimized.onnx").graph.node)


def types(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def run(model: onnx.ModelProto) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feed = {"ids": IDS, "weights": WEIGHTS, "lengths": LENGTHS, **FEATURES}
    outputs: list[NDArray[np.float32]] = session.run(None, {i.name: feed[i.name] for i in session.get_inputs()})
    return outputs


def test_the_same_node_is_added_once() -> None:
    graph = with_inputs()
    one, other = (graph.node("Add", "lengths", graph.floats(1)) for _ in range(2))

    assert one == other
    assert one != graph.node("Add", "lengths", graph.floats(2))


def test_constants_of_another_type_are_others() -> None:
    graph = Graph()

    assert graph.constant(np.float32(1)) != graph.constant(np.int64(1))
    assert graph.constant(np.zeros(1)) != graph.constant(np.zeros((1, 1)))


def test_what_no_output_needs_is_left_out() -> None:
    graph = with_inputs()
    graph.node("Mul", "lengths", graph.floats(3))
    graph.output(graph.node("Add", "lengths", graph.floats(1)), "y", ["n", 1])
    model = graph.model()

    assert types(model) == ["Add"]
    assert len(model.graph.initializer) == 1


def test_what_a_graph_inside_a_node_reads_is_kept() -> None:
    graph = with_inputs()
    value = graph.node("Add", "lengths", graph.floats(1))
    identity = onnx.helper.make_node("Identity", [value], ["inner"])
    branch = onnx.helper.make_graph(
        [identity], "branch", [], [onnx.helper.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, ["n", 1])]
    )
    chosen = graph.node("If", graph.constant(np.True_), then_branch=branch, else_branch=branch)
    graph.output(chosen, "y", ["n", 1])

    np.testing.assert_array_equal(run(graph.model())[0], LENGTHS + 1)


def test_a_value_can_be_two_outputs_and_an_input_one() -> None:
    graph = with_inputs()
    value = graph.node("Add", "lengths", graph.floats(1))
    for name, output in (("one", value), ("other", value), ("same", "lengths")):
        graph.output(output, name, ["n", 1])
    one, other, same = run(graph.model())

    assert one.tolist() == other.tolist() == (LENGTHS + 1).tolist()
    assert same.tolist() == LENGTHS.tolist()


def test_a_model_can_be_made_twice() -> None:
    graph = with_inputs()
    graph.output(graph.node("Add", "lengths", graph.floats(1)), "y", ["n", 1])

    assert graph.model() == graph.model()


def test_an_affine_function_of_a_linear_one_is_one_product() -> None:
    graph = with_inputs()
    linear = graph.linear("lengths", np.array([[2.0, 3.0]]), np.array([1.0, 0.0]))
    graph.output(graph.affine(linear, np.array([10.0, 1.0]), np.array([0.0, 5.0])), "y", ["n", 2])
    model = graph.model()

    assert types(model) == ["Gemm"]
    np.testing.assert_allclose(run(model)[0], LENGTHS * [20, 3] + [10, 5], rtol=1e-6)


def test_an_affine_function_leaves_the_linear_one_to_others() -> None:
    graph = with_inputs()
    linear = graph.linear("lengths", np.array([[2.0]]), np.array([1.0]))
    graph.output(graph.affine(linear, np.array([10.0]), np.array([0.0])), "y", ["n", 1])
    graph.output(linear, "z", ["n", 1])
    y, z = run(graph.model())

    np.testing.assert_allclose(y, 10 * z, rtol=1e-6)


@pytest.mark.parametrize("beside", [(), ("log_n_chars",), ("log_n_chars", "unknown")])
def test_a_linear_function_of_a_mean_is_read_from_a_narrow_table(
    table: NDArray[np.float64], beside: tuple[str, ...]
) -> None:
    rng = np.random.default_rng(1)
    graph = with_features()
    unknown = graph.node("Neg", "log_n_chars")
    x = graph.mean_of_rows(table, "input_ids", "token_weights")
    for part in beside:
        # Also where it was concatenated more than once.
        x = graph.node("Concat", x, unknown if part == "unknown" else part, axis=1)
    weight, bias = rng.normal(size=(16 + len(beside), 2)), rng.normal(size=2)
    graph.output(graph.linear(x, weight, bias), "y", ["n", 2])
    model = graph.model()

    columns = [(WEIGHTS @ table[IDS])[:, 0], LOG_N_CHARS, -LOG_N_CHARS][: 1 + len(beside)]
    np.testing.assert_allclose(run(model)[0], np.hstack(columns) @ weight + bias, rtol=1e-4, atol=1e-5)
    assert ("Gemm" in types(model)) == ("unknown" in beside)
    assert not any(list(c.dims) == list(table.shape) for c in model.graph.initializer)


def test_sums_are_read_by_one_look_up_and_what_is_constant_is_gone_when_loaded(
    table: NDArray[np.float64], tmp_path: Path
) -> None:
    graph = with_features()
    mean = graph.mean_of_rows(table, "input_ids", "token_weights")
    pairs = graph.mean_of_words(np.ones((N_PAIRS, 1)), "input_ids", "token_weights")
    for i, value in enumerate((mean, pairs, "log_n_chars", graph.share_of_token("input_ids", "token_weights"))):
        graph.output(value, f"y{i}", ["n", "width"])
    model = graph.model()

    mean_, pairs_, length, share = run(model)
    np.testing.assert_allclose(mean_, (WEIGHTS @ table[IDS])[:, 0], rtol=1e-5)
    np.testing.assert_allclose(pairs_, [[1], [1]], rtol=1e-6)
    np.testing.assert_allclose(length, LOG_N_CHARS, rtol=1e-6)
    np.testing.assert_allclose(share, [[1 / 3], [1]], rtol=1e-6)
    assert loaded_types(model, tmp_path) == Counter(["Gather", "MatMul", "Squeeze", "Split"])


def test_a_wide_table_has_no_rows_for_pairs(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(3, 200))
    graph = with_features()
    mean = graph.mean_of_rows(table, "input_ids", "token_weights")
    graph.output(graph.node("Concat", mean, "log_n_chars", axis=1), "y", ["n", 201])
    model = graph.model()

    expected = np.hstack([(WEIGHTS @ table[IDS])[:, 0], LOG_N_CHARS])
    np.testing.assert_allclose(run(model)[0], expected, rtol=1e-4, atol=1e-6)
    assert [list(c.dims) for c in model.graph.initializer if c.name.startswith("token_table")] == [[3, 200]]


def test_token_ids_can_be_asked_for_by_name() -> None:
    graph = with_features()
    graph.mean_of_rows(np.zeros((3, 4)), "input_ids", "token_weights")
    graph.output(graph.cast("input_ids", np.float32), "ids", ["n", "length"])
    graph.output(graph.node("Squeeze", "token_weights", graph.constant(np.array([1]))), "weights", ["n", "length"])
    ids, weights = run(graph.model())

    np.testing.assert_array_equal(ids, [[2, 0, 2], [1, 0, 0]])
    np.testing.assert_array_equal(weights, WEIGHTS[:, 0])


def test_a_mean_that_others_read_is_kept_whole(table: NDArray[np.float64]) -> None:
    graph = with_features()
    mean = graph.mean_of_rows(table, "input_ids", "token_weights")
    graph.output(graph.linear(mean, np.ones((16, 1)), np.zeros(1)), "y", ["n", 1])
    graph.output(mean, "mean", ["n", 16])
    y, whole = run(graph.model())

    np.testing.assert_allclose(whole, (WEIGHTS @ table[IDS])[:, 0], rtol=1e-5)
    np.testing.assert_allclose(y, whole.sum(axis=1, keepdims=True), rtol=1e-4)


def test_columns_of_sums_are_sums(table: NDArray[np.float64]) -> None:
    graph = with_features()
    mean = graph.mean_of_rows(table, "input_ids", "token_weights")
    left, right = graph.split(graph.affine(mean, np.full(16, 2.0), np.arange(16.0)), 6, 10)
    graph.output(left, "left", ["n", 6])
    graph.output(right, "right", ["n", 10])

    expected = 2 * (WEIGHTS @ table[IDS])[:, 0] + np.arange(16)
    np.testing.assert_allclose(np.hstack(run(graph.model())), expected, rtol=1e-5)


def test_a_linear_function_of_a_linear_one_is_one_product() -> None:
    graph = with_inputs()
    linear = graph.linear("lengths", np.array([[2.0, 3.0]]), np.array([1.0, 0.0]))
    graph.output(graph.linear(linear, np.array([[1.0], [10.0]]), np.array([5.0])), "y", ["n", 1])
    model = graph.model()

    assert types(model) == ["Gemm"]
    np.testing.assert_allclose(run(model)[0], LENGTHS * 32 + 6, rtol=1e-6)


def test_without_features_a_mean_is_read_as_it_is(table: NDArray[np.float64]) -> None:
    graph = with_inputs()
    mean = graph.mean_of_rows(table, "ids", "weights")
    graph.output(graph.linear(mean, np.eye(16), np.zeros(16)), "y", ["n", 16])

    assert types(graph.model()).count("Gather") == 1
    np.testing.assert_allclose(run(graph.model())[0], (WEIGHTS @ table[IDS])[:, 0], rtol=1e-5)


def test_a_table_that_float16_holds_is_stored_in_it(table: NDArray[np.float64]) -> None:
    def stored(rows: NDArray[np.floating]) -> int:
        graph = with_inputs()
        graph.output(graph.mean_of_rows(rows, "ids", "weights"), "y", ["n", 16])
        return max(c.data_type for c in graph.model().graph.initializer if len(c.dims) == 2)

    assert stored(table) == onnx.TensorProto.FLOAT
    assert stored(table.astype(np.float16).astype(np.float32)) == onnx.TensorProto.FLOAT16
