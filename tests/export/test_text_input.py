"""The graph with text in answers as the artifact does, from Python with onnxruntime-extensions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest

from router_ml.core.artifact import Artifact, read_artifact
from router_ml.core.menu import OperatingPoint
from router_ml.core.policy import Threshold
from router_ml.core.router import Router
from router_ml.core.text import HEAD_CHARS
from router_ml.errors import ArtifactError, ExportError
from router_ml.export import text_input as text_graph
from router_ml.export.text_input import PROBES, add_text_input, text_session


@pytest.fixture(scope="module")
def extensions() -> None:
    pytest.importorskip("onnxruntime_extensions", reason="onnxruntime-extensions isn't installed.")


@pytest.fixture(scope="module")
def text_artifact(extensions: None, artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "router-text.onnx"
    add_text_input(artifact, path)
    return path


@pytest.fixture(scope="module")
def router(artifact: Path) -> Router:
    return Router.load(artifact)


@pytest.fixture(scope="module")
def loaded(artifact: Path) -> Artifact:
    return read_artifact(artifact)


def p_meets(path: Path, texts: list[str]) -> np.ndarray:
    return text_session(path).run(["p_meets"], {"text": np.array(texts, dtype=object)})[0]


def test_the_sample_traffic_is_answered_alike(
    text_artifact: Path, router: Router, sample_traffic: pl.DataFrame
) -> None:
    prompts = sample_traffic["prompt"].unique(maintain_order=True).to_list()
    np.testing.assert_allclose(p_meets(text_artifact, prompts), router.predict(prompts).p_meets, atol=1e-5)


@pytest.mark.parametrize("text", PROBES)
def test_a_hard_text_is_answered_alike(text_artifact: Path, router: Router, text: str) -> None:
    np.testing.assert_allclose(p_meets(text_artifact, [text]), router.predict([text]).p_meets, atol=1e-5)


def test_a_batch_is_answered_as_its_texts_alone(text_artifact: Path, router: Router) -> None:
    # One of them is cut, so all go through that branch.
    np.testing.assert_allclose(p_meets(text_artifact, list(PROBES)), router.predict(PROBES).p_meets, atol=1e-5)


def test_all_white_space_of_python_is_collapsed(text_artifact: Path, router: Router) -> None:
    spaces = [chr(c) for c in range(0x110000) if chr(c).isspace()]
    np.testing.assert_allclose(
        p_meets(text_artifact, [f"a{s}b" for s in spaces]),
        router.predict(["a b"]).p_meets.repeat(len(spaces), 0),
        atol=1e-5,
    )


def test_an_empty_text_is_answered(text_artifact: Path) -> None:
    assert np.isfinite(p_meets(text_artifact, [""])).all()


def test_the_file_says_what_it_takes(text_artifact: Path, artifact: Path) -> None:
    metadata = read_artifact(text_artifact).metadata
    assert metadata == dataclasses.replace(read_artifact(artifact).metadata, inputs=("text",))


def test_what_takes_text_is_refused_with_what_runs_it(text_artifact: Path, tmp_path: Path) -> None:
    for refuse in (Router.load, lambda path: add_text_input(path, tmp_path / "again.onnx")):
        with pytest.raises(ArtifactError, match="onnxruntime-extensions"):
            refuse(text_artifact)


def test_a_place_that_cannot_be_written_is_an_export_error(extensions: None, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(ExportError, match="can't be written"):
        add_text_input(artifact, tmp_path / "taken", parity_prompts=["Hello"])
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_parity_says_how_near_it_is(extensions: None, artifact: Path, tmp_path: Path) -> None:
    parity = add_text_input(artifact, tmp_path / "text.onnx", parity_prompts=["Hello", "Prove it."])
    assert (parity.n_prompts, parity.agreement) == (2, 1.0)


def test_a_graph_that_answers_otherwise_is_not_written(
    extensions: None, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_graph, "HEAD_CHARS", HEAD_CHARS - 1)
    with pytest.raises(ExportError, match="doesn't answer as the artifact does"):
        add_text_input(artifact, tmp_path / "text.onnx", parity_prompts=["a" * (HEAD_CHARS - 1) + "b" + " c" * 5000])
    assert not (tmp_path / "text.onnx").exists()


def test_a_graph_of_another_novelty_is_not_let_through(text_artifact: Path, loaded: Artifact) -> None:
    # By the artifact the cheapest tier takes all prompts; by the changed graph all are novel, so they go to the reference tier.
    cheapest = dataclasses.replace(loaded.metadata, points=(OperatingPoint("all", Threshold(0.0)),), default="all")
    router = Router(dataclasses.replace(loaded, metadata=dataclasses.replace(cheapest, novelty_threshold=10.0)))
    model = onnx.load(text_artifact)
    assert text_graph._check(router, model.SerializeToString(), ["Hello", "Prove it."]).agreement == 1
    for node in model.graph.node:
        node.output[:] = ["novelty_before" if name == "novelty" else name for name in node.output]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(20), "novelty_shift"))
    model.graph.node.append(onnx.helper.make_node("Add", ["novelty_before", "novelty_shift"], ["novelty"]))
    with pytest.raises(ExportError, match=r"p_meets differs by up to [\d.e-]+ .*decisions agree on 0\.00%"):
        text_graph._check(router, model.SerializeToString(), ["Hello", "Prove it."])


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec["model"]["merges"].pop(),
        lambda spec: spec["model"]["merges"].insert(0, spec["model"]["merges"].pop()),
        lambda spec: spec["added_tokens"][0].update(lstrip=True),
        lambda spec: spec.update(pre_tokenizer={"type": "Whitespace"}),
    ],
    ids=["a merge is missing", "a piece's merges are apart", "a token takes white space", "words are split"],
)
def test_a_tokenizer_that_sentencepiece_cannot_stand_in_for_is_refused(
    loaded: Artifact, change: Callable[[dict[str, Any]], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = json.loads(loaded.tokenizer)
    change(spec)
    changed = dataclasses.replace(loaded, tokenizer=json.dumps(spec))
    monkeypatch.setattr(text_graph, "read_artifact", lambda path: changed)
    with pytest.raises(ExportError, match="tokenizer"):
        add_text_input("router.onnx", tmp_path / "text.onnx")
