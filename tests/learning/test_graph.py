"""What a graph leaves out, and that what is left computes the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from router_ml.learning.graph import Graph

IDS = np.array([[2, 0, 2], [1, 1, 0]])
WEIGHTS = np.array([[[1 / 3, 1 / 3, 1 / 3]], [[1.0, 0.0, 0.0]]], dtype=np.float32)
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


def types(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def run(model: onnx.ModelProto) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feed = {"ids": IDS, "weights": WEIGHTS, "lengths": LENGTHS}
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


@pytest.mark.parametrize("beside", [(), ("lengths",), ("lengths", "unknown")])
def test_a_linear_function_of_a_mean_is_read_from_a_narrow_table(
    table: NDArray[np.float64], beside: tuple[str, ...]
) -> None:
    rng = np.random.default_rng(1)
    graph = with_inputs()
    mean = graph.mean_of_rows(table, "ids", "weights")
    unknown = graph.node("Neg", "lengths")
    x = mean
    for part in beside:
        # Also where it was concatenated more than once.
        x = graph.node("Concat", x, unknown if part == "unknown" else part, axis=1)
    weight, bias = rng.normal(size=(16 + len(beside), 2)), rng.normal(size=2)
    graph.output(graph.linear(x, weight, bias), "y", ["n", 2])
    model = graph.model()

    columns = [(WEIGHTS @ table[IDS])[:, 0], LENGTHS, -LENGTHS][: 1 + len(beside)]
    np.testing.assert_allclose(run(model)[0], np.hstack(columns) @ weight + bias, rtol=1e-4, atol=1e-5)
    assert max(np.prod(c.dims) for c in model.graph.initializer) < table.size


def test_a_mean_that_others_read_is_kept_whole(table: NDArray[np.float64]) -> None:
    graph = with_inputs()
    mean = graph.mean_of_rows(table, "ids", "weights")
    graph.output(graph.linear(mean, np.ones((16, 1)), np.zeros(1)), "y", ["n", 1])
    graph.output(mean, "mean", ["n", 16])
    y, whole = run(graph.model())

    np.testing.assert_allclose(whole, (WEIGHTS @ table[IDS])[:, 0], rtol=1e-5)
    np.testing.assert_allclose(y, whole.sum(axis=1, keepdims=True), rtol=1e-4)


def test_a_wide_product_reads_the_table_as_it_is(table: NDArray[np.float64]) -> None:
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


def test_the_number_of_ids_is_that_of_a_tables_rows(table: NDArray[np.float64]) -> None:
    graph = with_inputs()
    assert graph.n_ids("ids") is None
    graph.mean_of_rows(table, "ids", "weights")
    assert graph.n_ids("ids") == 3
