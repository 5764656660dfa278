"""A smaller artifact answers nearly as the one it is made from, or there is none."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from router_ml import Router
from router_ml.core.artifact import Metadata, read_artifact
from router_ml.core.features import N_PAIRS, feature_rows
from router_ml.core.guarantee import Guarantee
from router_ml.core.inference import FEATURE_INPUTS
from router_ml.core.menu import OperatingPoint
from router_ml.core.policy import Threshold
from router_ml.errors import ExportError, InputError
from router_ml.export.compress import (
    Compression,
    Weights,
    comparison,
    compress,
    prune_tokens,
    quantize_table,
    quantize_transformer,
)
from router_ml.export.serialise import seal
from router_ml.graph.builder import Graph
from router_ml.ladder import Ladder, Tier

N_TOKENS, WIDTH, N_TIERS = 400, 32, 3
WORDS = [f"w{i}" for i in range(N_TOKENS)]
RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(N_TOKENS, WIDTH)).astype(np.float32)
PROMPTS = [" ".join(RNG.choice(WORDS[:100], size=RNG.integers(3, 20))) for _ in range(60)]
UNSEEN = [" ".join(RNG.choice(WORDS[100:], size=5)) for _ in range(40)]
TOKENIZER = json.dumps(
    {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(WORDS)}, "unk_token": "w0"},
    }
)
METADATA = Metadata(
    ladder=Ladder(tuple(Tier(n, n, p, p) for n, p in (("a", 1.0), ("b", 4.0), ("c", 20.0)))),
    bar={"kind": "absolute", "value": 0.5, "reference": None},
    reference="c",
    reference_cost_usd=0.01,
    points=(OperatingPoint("half", Threshold(0.5)),),
    default="half",
    guarantees=(Guarantee("loss", 0.05, 0.05, Threshold(0.5), certified=True, n=400, note="as logged"),),
    novelty_threshold=None,
    input_tokens_per_char=(0.25,) * N_TIERS,
    input_tokens_base=(0.0,) * N_TIERS,
    inputs=FEATURE_INPUTS,
    pad_id=0,
    max_tokens=None,
    add_special_tokens=False,
    encoder={"name": "static", "sha256": "0"},
    learner={"name": "logistic", "params": {}},
    provenance={"data_sha256": "1"},
)


def add_head(graph: Graph, vector: str) -> onnx.ModelProto:
    """A linear head on the vector and the length, as a fitted model's."""
    rng = np.random.default_rng(1)
    x = graph.node("Concat", vector, "log_n_chars", axis=1)
    scores = graph.linear(x, rng.normal(size=(WIDTH + 1, N_TIERS)) * 0.5, np.zeros(N_TIERS))
    for name, op in (("p_meets", "Sigmoid"), ("quality", "Sigmoid"), ("output_tokens", "Exp")):
        graph.output(graph.node(op, scores), name, ["n", N_TIERS])
    graph.output(graph.reduce_sum(x, 1), "novelty", ["n"])
    return graph.model()


def static_model(table: np.ndarray = TABLE) -> onnx.ModelProto:
    graph = Graph()
    graph.feature_inputs()
    return add_head(graph, graph.mean_of_rows(table, "input_ids", "token_weights"))


def embedding_model(table: np.ndarray) -> onnx.ModelProto:
    """The mean vector alone."""
    graph = Graph()
    graph.feature_inputs()
    mean = graph.mean_of_rows(table, "input_ids", "token_weights")
    graph.output(mean, "embedding", ["n", table.shape[1]])
    return graph.model()


def transformer_model() -> onnx.ModelProto:
    """Token vectors times two matrices, averaged under the mask: what matters of a transformer here."""
    rng = np.random.default_rng(2)
    graph = Graph()
    graph.input("input_ids", np.int64, ["n", "length"])
    graph.input("attention_mask", np.int64, ["n", "length"])
    graph.input("log_n_chars", np.float32, ["n", 1])
    x = graph.node("Gather", graph.floats(TABLE), graph.node("Identity", "input_ids"), axis=0)
    for shape in ((WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)):
        x = graph.node("Tanh", graph.node("MatMul", x, graph.floats(rng.normal(size=shape) / np.sqrt(shape[0]))))
    weights = graph.node("Unsqueeze", graph.cast("attention_mask", np.float32), graph.constant(np.array([2])))
    total = graph.reduce_sum(graph.node("Mul", x, weights), 1)
    return add_head(graph, graph.node("Div", total, graph.reduce_sum(weights, 1)))


def write(path: Path, model: onnx.ModelProto, **changes: Any) -> Path:
    path.write_bytes(seal(model, dataclasses.replace(METADATA, **changes), TOKENIZER))
    return path


@pytest.fixture
def static(tmp_path: Path) -> Path:
    return write(tmp_path / "static.onnx", static_model())


@pytest.fixture
def transformer(tmp_path: Path) -> Path:
    inputs = ("input_ids", "attention_mask", "log_n_chars")
    return write(tmp_path / "transformer.onnx", transformer_model(), inputs=inputs)


def smaller(path: Path, **options: Any) -> tuple[Compression, Path]:
    out = path.with_name("small.onnx")
    return compress(path, out, **{"prompts": PROMPTS, **options}), out


def token_rows(model: onnx.ModelProto, ids: np.ndarray) -> np.ndarray:
    """What a static encoder's graph reads for token ids."""
    read = next(node.input for node in model.graph.node if node.name == "token_rows")
    table = next(name for name in read if name.startswith("token_table"))
    model.graph.output.append(onnx.helper.make_tensor_value_info(table, onnx.TensorProto.FLOAT, [N_TOKENS, WIDTH]))
    feed = dict(zip(FEATURE_INPUTS, feature_rows([ids], [1]), strict=True))
    return np.asarray(session(model).run([table], feed)[0][ids])


def session(model: onnx.ModelProto, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def op_types(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """The nodes that are left when onnxruntime has loaded a graph."""
    session(model, folder / "optimized.onnx")
    return Counter(n.op_type for n in onnx.load(folder / "optimized.onnx").graph.node)


# The table


def test_int8_vectors_are_within_half_a_step_of_row_and_column() -> None:
    got = token_rows(quantize_table(static_model(), "int8"), np.arange(N_TOKENS))
    column = np.abs(TABLE).max(axis=0, keepdims=True)
    step = np.abs(TABLE / column).max(axis=1, keepdims=True) * column / 127
    assert (np.abs(got - TABLE) <= step * 0.501).all()  # float16 of a row's largest takes a thousandth more


def test_a_column_of_small_numbers_is_stored_as_exactly_as_the_others() -> None:
    scale = np.where(np.arange(WIDTH) % 2, 1e-4, 1.0).astype(np.float32)
    got = token_rows(quantize_table(static_model(TABLE * scale), "int8"), np.arange(N_TOKENS)) / scale
    even, odd = (np.abs(got - TABLE)[:, start::2].mean() for start in (0, 1))
    assert odd == pytest.approx(even, rel=0.1)


def test_float16_vectors_are_the_nearest_float16() -> None:
    got = token_rows(quantize_table(static_model(), "float16"), np.arange(N_TOKENS))
    np.testing.assert_array_equal(got, TABLE.astype(np.float16).astype(np.float32))


def test_a_row_of_zeros_stays_zero() -> None:
    table = np.vstack([np.zeros((1, WIDTH), np.float32), TABLE[1:]])
    assert not token_rows(quantize_table(static_model(table), "int8"), np.array([0])).any()


@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_the_loaded_graph_has_no_node_more(weights: Weights, tmp_path: Path) -> None:
    assert op_types(quantize_table(static_model(), weights), tmp_path) == op_types(static_model(), tmp_path)


def test_a_pruned_and_quantised_graph_has_no_node_more_when_loaded(tmp_path: Path) -> None:
    small = quantize_table(prune_tokens(static_model(), range(100)), "int8")
    assert op_types(small, tmp_path) == op_types(static_model(), tmp_path)


def test_a_table_as_wide_as_an_encoders_becomes_smaller_too() -> None:
    wide = np.tile(TABLE, (1, 5))
    model = embedding_model(wide)
    ids, weights = feature_rows([np.array([3, 7, 3])], [9])
    feed = dict(zip(FEATURE_INPUTS, (ids, weights), strict=True))
    for small in (quantize_table(model, "int8"), prune_tokens(model, [3, 7])):
        assert small.ByteSize() < model.ByteSize()
        np.testing.assert_allclose(
            session(small).run(None, feed)[0][0], (2 * wide[3] + wide[7]) / 3, atol=np.abs(wide).max() / 100
        )


def test_the_model_given_is_not_changed() -> None:
    model = static_model()
    before = model.SerializeToString(deterministic=True)
    quantize_table(prune_tokens(model, [1, 2]), "int8")
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_pruning_keeps_the_used_and_averages_the_others(dtype: type[np.floating]) -> None:
    table = TABLE.astype(dtype)
    got = token_rows(prune_tokens(static_model(table), [7, 3, 3]), np.array([3, 7, 0, N_TOKENS - 1]))
    others = np.delete(table, [3, 7], axis=0).mean(axis=0, dtype=np.float64).astype(dtype)
    np.testing.assert_array_equal(got, np.stack([table[3], table[7], others, others]).astype(np.float32))


@pytest.mark.parametrize("ids", [[], [-1], [N_TOKENS]])
def test_token_ids_outside_the_table_are_refused(ids: list[int]) -> None:
    with pytest.raises(InputError, match="from 0 to 399"):
        prune_tokens(static_model(), ids)


def test_pruning_to_every_token_is_refused() -> None:
    with pytest.raises(InputError, match="none to prune"):
        prune_tokens(static_model(), range(N_TOKENS))


def test_pruning_twice_is_refused() -> None:
    with pytest.raises(InputError, match="pruned already"):
        prune_tokens(prune_tokens(static_model(), [1, 2]), [1])


def test_quantising_twice_is_refused() -> None:
    with pytest.raises(InputError, match="quantised already"):
        quantize_table(quantize_table(static_model(), "int8"), "int8")


def test_float16_of_a_table_of_float16_is_refused() -> None:
    with pytest.raises(InputError, match="float16 already"):
        quantize_table(embedding_model(TABLE.astype(np.float16)), "float16")


def test_a_table_beyond_float16_is_refused() -> None:
    with pytest.raises(InputError, match="beyond float16"):
        quantize_table(static_model(TABLE * 1e6), "float16")


# The transformer


def test_the_encoders_matrices_become_int8_and_the_heads_do_not() -> None:
    model = quantize_transformer(transformer_model())
    types = {
        c.data_type for c in model.graph.initializer if len(c.dims) == 2 and WIDTH + 1 not in c.dims and min(c.dims) > 1
    }
    head = next(c for c in model.graph.initializer if list(c.dims) == [WIDTH + 1, N_TIERS])
    assert (types, head.data_type) == ({onnx.TensorProto.INT8}, onnx.TensorProto.FLOAT)


def test_the_heads_weights_are_what_they_were() -> None:
    heads = [
        numpy_helper.to_array(next(c for c in m.graph.initializer if list(c.dims) == [WIDTH + 1, N_TIERS]))
        for m in (transformer_model(), quantize_transformer(transformer_model()))
    ]
    np.testing.assert_array_equal(*heads)


def test_tables_of_words_and_pairs_behind_a_transformer_become_smaller_too() -> None:
    graph = Graph()
    graph.input("input_ids", np.int64, ["n", "length"])
    graph.input("attention_mask", np.int64, ["n", "length"])
    graph.input("log_n_chars", np.float32, ["n", 1])
    graph.input("token_weights", np.float32, ["n", 1, "length"])
    x = graph.node(
        "ReduceMean", graph.node("Gather", graph.floats(TABLE), "input_ids", axis=0), axis_of(graph, 1), keepdims=0
    )
    x = graph.node("MatMul", x, graph.floats(RNG.normal(size=(WIDTH, WIDTH))))
    pairs = graph.mean_of_words(RNG.normal(size=(N_PAIRS, WIDTH)), "input_ids", "token_weights")
    model = add_head(graph, graph.node("Add", x, pairs))
    assert quantize_transformer(model).ByteSize() < model.ByteSize() / 3


def axis_of(graph: Graph, axis: int) -> str:
    return graph.constant(np.array([axis], dtype=np.int64))


def test_quantising_a_transformer_twice_is_refused() -> None:
    with pytest.raises(InputError, match="quantised already"):
        quantize_transformer(quantize_transformer(transformer_model()))


def test_a_static_encoder_is_no_transformer() -> None:
    with pytest.raises(InputError, match="isn't a transformer"):
        quantize_transformer(static_model())


def test_quantising_a_transformer_says_nothing_and_leaves_no_file(
    transformer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    smaller(transformer, weights="int8")
    assert (list((tmp_path / "temporary").iterdir()), capfd.readouterr()) == ([], ("", ""))


# The artifact


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"weights": "float16"}, "float16"),
        ({"weights": "int8"}, "int8"),
        ({"prune_to": PROMPTS}, "pruned"),
        ({"prune_to": PROMPTS, "weights": "int8"}, "pruned int8"),
    ],
)
def test_a_smaller_artifact_answers_within_the_tolerance(static: Path, options: dict[str, Any], kind: str) -> None:
    result, out = smaller(static, **options)
    difference = np.abs(Router.load(out).predict(PROMPTS).p_meets - Router.load(static).predict(PROMPTS).p_meets)
    assert (result.kind, result.n_prompts) == (kind, len(PROMPTS))
    assert difference.max() == pytest.approx(result.max_difference)
    assert result.max_difference <= result.tolerance
    assert result.bytes_after == out.stat().st_size < static.stat().st_size == result.bytes_before


def test_a_smaller_transformer_answers_within_the_tolerance(transformer: Path) -> None:
    result, out = smaller(transformer, weights="int8")
    assert result.kind == "transformer int8"
    assert 0 < result.max_difference <= result.tolerance
    assert Router.load(out).route("w1 w2").tier in ("a", "b", "c")


def test_an_int8_transformer_says_of_many_what_it_says_of_each(transformer: Path) -> None:
    router = Router.load(smaller(transformer, weights="int8")[1])
    assert router.predict(PROMPTS).p_meets.tolist() == [router.predict([p]).p_meets[0].tolist() for p in PROMPTS]


def test_provenance_says_what_was_done_and_keeps_what_it_said(static: Path) -> None:
    _, out = smaller(static, weights="int8", prune_to=["w1 w2", "w2 w3"])
    metadata = read_artifact(out).metadata
    assert metadata.provenance == {"data_sha256": "1", "weights": "int8", "pruned_to_tokens": 3}
    restored = dataclasses.replace(metadata, provenance={"data_sha256": "1"}, guarantees=METADATA.guarantees)
    assert restored == METADATA


def test_promises_say_that_they_were_certified_before(static: Path) -> None:
    _, out = smaller(static, weights="int8")
    (promise,) = read_artifact(out).metadata.guarantees
    assert promise.note == "as logged; certified before the artifact was made smaller, which moves decisions near a tie"
    assert dataclasses.replace(promise, note="as logged") == METADATA.guarantees[0]


def test_the_same_input_gives_the_same_bytes(transformer: Path) -> None:
    written = [smaller(transformer, weights="int8")[1].read_bytes() for _ in range(2)]
    assert written[0] == written[1]


def test_a_pruned_table_answers_other_prompts_by_the_mean_vector(static: Path) -> None:
    result, _ = smaller(static, prompts=UNSEEN, prune_to=PROMPTS)
    assert result.max_difference > result.tolerance


def test_what_new_prompts_will_see_is_said_of_a_pruned_table(static: Path) -> None:
    result, _ = smaller(static, prune_to=[*PROMPTS, *UNSEEN], prompts=[*PROMPTS, *UNSEEN])
    assert result.max_difference == 0
    assert result.unseen_max_difference is not None
    assert result.unseen_max_difference > 0.01


def test_aiq_is_compared_where_every_tier_was_observed(static: Path) -> None:
    rng = np.random.default_rng(3)
    cost = np.tile([1.0, 2.0, 3.0], (len(PROMPTS), 1))
    quality = np.sort(rng.random(cost.shape), axis=1)
    quality[0, 1] = np.nan
    result, _ = smaller(static, weights="int8", quality=quality, cost_usd=cost)
    assert result.aiq_before is not None
    assert result.aiq_after is not None
    assert result.aiq_loss == pytest.approx(result.aiq_before - result.aiq_after)
    assert result.gap_closed_before is not None


def test_without_outcomes_there_is_no_aiq(static: Path) -> None:
    result, _ = smaller(static, weights="int8")
    assert (result.aiq_before, result.aiq_loss, result.gap_closed_after) == (None, None, None)


def test_outcomes_of_other_prompts_are_refused(static: Path) -> None:
    with pytest.raises(InputError, match="a row for each prompt"):
        smaller(static, weights="int8", quality=np.ones((2, 3)), cost_usd=np.ones((2, 3)))


def test_a_result_is_plain_json_and_has_a_summary(static: Path) -> None:
    result, _ = smaller(static, weights="int8", prune_to=PROMPTS)
    assert json.loads(json.dumps(result.to_dict()))["kind"] == "pruned int8"
    assert "tokens have their own vector" in result.summary()


def test_one_that_answers_otherwise_is_not_written(static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "TOLERANCES", {**comparison.TOLERANCES, "int8": 1e-9})
    with pytest.raises(ExportError, match=r"\(int8\) answers otherwise.*Nothing was written"):
        smaller(static, weights="int8")
    assert list(static.parent.iterdir()) == [static]


def test_one_that_fails_leaves_the_file_that_was_there(static: Path) -> None:
    out = static.with_name("small.onnx")
    out.write_bytes(b"earlier")
    with pytest.raises(InputError):
        smaller(static, weights="int8", quality=np.ones((2, 3)), cost_usd=np.ones((2, 3)))
    assert out.read_bytes() == b"earlier"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Nothing is asked for"),
        ({"weights": "int4"}, "choose from"),
        ({"weights": "int8", "prompts": []}, "no prompt"),
        ({"prune_to": []}, "no prompt"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(static: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        smaller(static, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"prune_to": PROMPTS}, "tokens can't be pruned"), ({"weights": "float16"}, "can be 'int8' only")],
)
def test_what_a_transformer_has_not_is_refused(transformer: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        smaller(transformer, **options)


def test_the_artifact_itself_is_not_overwritten(static: Path) -> None:
    with pytest.raises(InputError, match="is the artifact itself"):
        compress(static, static, prompts=PROMPTS, weights="int8")


def test_a_place_that_cannot_be_written_is_an_export_error(static: Path) -> None:
    (static.parent / "file").write_text("")
    with pytest.raises(ExportError, match="can't be written"):
        compress(static, static.parent / "file" / "small.onnx", prompts=PROMPTS, weights="int8")
