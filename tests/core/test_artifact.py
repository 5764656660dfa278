"""A file is read whole and as it was written, or refused with an ArtifactError that says what to do."""

from __future__ import annotations

import dataclasses
import json
import lzma
import math
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.core.artifact import (
    DIGEST_KEY,
    METADATA_KEY,
    SCHEMA_KEY,
    SCHEMA_VERSION,
    TOKENIZER_KEY,
    Metadata,
    content_digest,
    read_artifact,
)
from router_ml.core.artifact import _verify as verify
from router_ml.core.guarantee import Guarantee
from router_ml.core.menu import OperatingPoint, Tradeoff
from router_ml.core.policy import Reference, Rule, Shortfall, Single, Threshold, Utility
from router_ml.core.router import Router
from router_ml.core.text import RENDER_VERSION
from router_ml.errors import ArtifactError, InputError
from router_ml.ladder import Ladder, Tier

TRADEOFF = Tradeoff(0.004, -0.001, 0.01, 0.3, 0.25, 0.35, 0.0014, 0.002, (0.4, 0.6), 0.009, 500)
METADATA = Metadata(
    ladder=Ladder(
        (Tier("a", "model-a", 1.0, 2.0), Tier("b", "model-b", 3.0, 4.0, context_window=100, supports=("tools",)))
    ),
    bar={"kind": "absolute", "value": 0.8, "reference": None},
    reference="b",
    reference_cost_usd=0.002,
    points=(
        OperatingPoint("1pt", Shortfall(0.1), 0.01, TRADEOFF),
        OperatingPoint("meets", Threshold(0.7), note="what was asked for"),
        OperatingPoint("only-b", Single("b"), guarantee="certified so"),
    ),
    default="1pt",
    guarantees=(
        Guarantee("loss", 0.02, 0.05, Utility(12.0), True, 500, 0.01, 0.4, slice="category=law"),
        Guarantee("violation", 0.1, 0.05, Reference(), False, 500, rows_needed=float("inf")),
    ),
    novelty_threshold=1.5,
    input_tokens_per_char=(0.25, 0.3),
    input_tokens_base=(0.0, 5.0),
    inputs=("input_ids", "log_n_chars"),
    pad_id=0,
    max_tokens=None,
    add_special_tokens=False,
    encoder={"name": "static", "sha256": "0"},
    learner={"name": "logistic", "params": {}},
    provenance={"git_commit": None, "größe": 3},
)

Edit = Callable[[Callable[[dict[str, str]], None]], bytes]


@pytest.fixture(scope="module")
def data(artifact: Path) -> bytes:
    return artifact.read_bytes()


@pytest.fixture(scope="module")
def edited(artifact: Path) -> Edit:
    """The artifact's bytes after a change of its metadata properties."""
    model = onnx.load(artifact)
    original = {p.key: p.value for p in model.metadata_props}

    def edit(change: Callable[[dict[str, str]], None]) -> bytes:
        properties = dict(original)
        change(properties)
        del model.metadata_props[:]
        for key, value in properties.items():
            model.metadata_props.add(key=key, value=value)
        return model.SerializeToString(deterministic=True)

    return edit


def test_reading_gives_the_bytes_of_the_file(artifact: Path, data: bytes) -> None:
    assert read_artifact(artifact).model == data


def test_a_path_may_be_a_string(artifact: Path) -> None:
    assert read_artifact(str(artifact)).metadata == read_artifact(artifact).metadata


def test_the_ladder_is_the_one_fitted(artifact: Path) -> None:
    assert read_artifact(artifact).metadata.ladder.names == ("nano", "mini", "full")


def test_the_tokenizer_is_json(artifact: Path) -> None:
    assert "model" in json.loads(read_artifact(artifact).tokenizer)


def test_onnx_reads_the_same_properties(artifact: Path) -> None:
    properties = {p.key for p in onnx.load(artifact).metadata_props}
    assert properties == {SCHEMA_KEY, METADATA_KEY, TOKENIZER_KEY, DIGEST_KEY}


def test_metadata_survive_json() -> None:
    assert Metadata.from_json(METADATA.to_json()) == METADATA


@pytest.mark.parametrize(
    "change",
    [
        {"points": []},
        {"default": "9pt"},
        {"reference": "c"},
        {"reference_cost_usd": 0.0},
        {"points": [{"name": "1pt", "policy": {"kind": "bar", "knob": 0.5}, "expected": None}]},
        {"points": [{"name": "1pt", "policy": {"kind": "threshold", "p_meets": 2.0}, "expected": None}]},
        {"points": [{"name": "1pt", "policy": {"kind": "single", "tier": "c"}, "expected": None}]},
        {"points": [{"name": "1pt", "policy": {"kind": "reference"}, "expected": None}] * 2},
        {"reference_cost_usd": "much"},
        {"reference_cost_usd": None},
        {"default": []},
        {"input_tokens_base": [0.0]},
        {"input_tokens_per_char": [0.1, 0.2, 0.3]},
        {"ladder": []},
        {"ladder": 3},
        {"points": [{"name": "1pt"}]},
        {"points": [{"name": "1pt", "policy": {"kind": "reference"}, "expected": {"saving": 0.1}}]},
        {"of_the_future": 1},
    ],
)
def test_metadata_that_contradict_themselves_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ArtifactError, match="export it again"):
        Metadata.from_json(json.dumps(json.loads(METADATA.to_json()) | change))


def test_without_a_name_a_point_is_the_default() -> None:
    assert (METADATA.point(), METADATA.point("meets")) == METADATA.points[:2]


def test_a_point_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(InputError, match="'2pt'; its menu holds: 1pt, meets, only-b"):
        METADATA.point("2pt")


def test_a_rule_has_the_artifacts_tiers_reference_and_novelty_threshold() -> None:
    assert METADATA.rule() == Rule(Shortfall(0.1), ("a", "b"), 1, 0.002, 1.5)
    assert METADATA.rule(Threshold(0.9)) == Rule(Threshold(0.9), ("a", "b"), 1, 0.002, 1.5)


def test_a_rule_that_ignores_novelty_has_no_threshold() -> None:
    assert METADATA.rule(ignore_novelty=True).novelty_threshold == math.inf
    assert dataclasses.replace(METADATA, novelty_threshold=None).rule().novelty_threshold == math.inf


def test_the_menu_holds_the_points() -> None:
    menu = METADATA.menu
    assert (menu.points, menu.default, menu.reference, menu.tiers) == (METADATA.points, "1pt", "b", ("a", "b"))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "{}", "[" * 100_000])
def test_text_that_is_no_metadata_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="can't be read"):
        Metadata.from_json(text)


@pytest.mark.parametrize(
    "key",
    ["ladder", "bar", "points", "default", "reference_cost_usd", "input_tokens_base", "inputs", "pad_id", "encoder"],
)
def test_a_missing_key_is_refused_and_named(key: str) -> None:
    values = json.loads(METADATA.to_json())
    del values[key]
    with pytest.raises(ArtifactError, match=key):
        Metadata.from_json(json.dumps(values))


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.1, 0.3, 0.5, 0.8, 0.9, 0.99, 0.9999])
def test_a_truncated_file_is_refused(data: bytes, share: float, tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ArtifactError, match=r"cut\.onnx"):
        read_artifact(path)


@pytest.mark.parametrize("n_cut", [1, 2, 3, 10, 100, 1000])
def test_a_file_that_lacks_its_last_bytes_is_refused(data: bytes, n_cut: int) -> None:
    with pytest.raises(ArtifactError):
        verify(data[:-n_cut])


@settings(deadline=None)
@given(st.integers(0, 4096))
def test_a_file_cut_in_its_head_is_refused(data: bytes, length: int) -> None:
    with pytest.raises(ArtifactError):
        verify(data[:length])


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
def test_a_changed_byte_in_the_graph_is_refused(data: bytes, share: float) -> None:
    damaged = bytearray(data)
    damaged[int(len(data) * share)] ^= 1
    with pytest.raises(ArtifactError, match="hash"):
        verify(bytes(damaged))


@pytest.mark.parametrize("version", ["", "3", "6", "99"])
def test_another_schema_version_is_refused_with_what_to_do(edited: Edit, version: str) -> None:
    with pytest.raises(
        ArtifactError, match=rf"'{version}'; this release reads 4 and {SCHEMA_VERSION}\..*Export it again"
    ):
        verify(edited(lambda p: p.update({SCHEMA_KEY: version})))


def test_another_schema_names_the_release_that_wrote_it(edited: Edit) -> None:
    metadata = json.dumps({"provenance": {"versions": {"router-ml": "9.1"}}})
    with pytest.raises(ArtifactError, match=r"wrote it \(router-ml 9\.1\)"):
        verify(edited(lambda p: p.update({SCHEMA_KEY: "99", METADATA_KEY: metadata})))


@pytest.mark.parametrize("key", [METADATA_KEY, TOKENIZER_KEY])
def test_a_changed_property_is_damage(edited: Edit, key: str) -> None:
    with pytest.raises(ArtifactError, match="hash"):
        verify(edited(lambda p: p.update({key: p[key].replace("1", "2", 1)})))


def test_another_text_rendering_is_refused_with_what_to_do(edited: Edit, artifact: Path) -> None:
    def change(properties: dict[str, str]) -> None:
        properties[METADATA_KEY] = json.dumps(json.loads(properties[METADATA_KEY]) | {"render_version": "0"})
        graph = onnx.load(artifact).graph.SerializeToString(deterministic=True)
        properties[DIGEST_KEY] = content_digest(graph, properties[METADATA_KEY], properties[TOKENIZER_KEY])

    with pytest.raises(ArtifactError, match=f"'0'.*'{RENDER_VERSION}'.*Fit it again"):
        verify(edited(change))


@pytest.mark.parametrize("key", [METADATA_KEY, TOKENIZER_KEY, DIGEST_KEY])
def test_a_file_without_one_of_its_properties_is_refused(edited: Edit, key: str) -> None:
    with pytest.raises(ArtifactError, match="damaged"):
        verify(edited(lambda p: p.pop(key) and None))


def test_a_foreign_onnx_file_is_refused_as_such(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y])), tmp_path / "foreign.onnx")
    with pytest.raises(ArtifactError, match="isn't a router-ml artifact"):
        read_artifact(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("content", [b"", b"hello\n", b"{}", b"PK\x03\x04zip", b"\x80\x04pickle", b"\xff" * 100])
def test_a_file_that_is_no_onnx_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "router.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"router\.onnx"):
        read_artifact(tmp_path / "router.onnx")


@pytest.mark.parametrize("name", ["", "missing.onnx"])
def test_a_folder_and_a_missing_file_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="can't be read"):
        read_artifact(tmp_path / name)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_artifact_error(content: bytes) -> None:
    with pytest.raises(ArtifactError):
        verify(content)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2000), st.binary(min_size=1, max_size=8))
def test_any_change_of_the_metadata_is_an_artifact_error(offset: int, change: bytes) -> None:
    graph = b"graph"
    text = METADATA.to_json().encode()
    damaged = text[: offset % len(text)] + change + text[offset % len(text) + len(change) :]
    model = onnx.ModelProto()
    model.graph.name = graph.decode()
    model.metadata_props.add(key=SCHEMA_KEY, value=SCHEMA_VERSION)
    model.metadata_props.add(key=METADATA_KEY, value=damaged.decode("utf-8", "replace"))
    model.metadata_props.add(key=TOKENIZER_KEY, value="{}")
    model.metadata_props.add(key=DIGEST_KEY, value="0")
    with pytest.raises(ArtifactError):
        verify(model.SerializeToString())


# An artifact of schema 4

CAPITAL = "What is the capital of Peru?"
PROOF = "Prove that the square root of two is irrational, step by step."


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Router:
    """A router whose artifact has schema 4."""
    path = tmp_path_factory.mktemp("old") / "router.onnx"
    path.write_bytes(lzma.decompress((Path(__file__).parent / "data" / "schema-4.onnx.xz").read_bytes()))
    return Router.load(path)


def test_the_settings_of_schema_4_are_operating_points_its_first_the_default(old: Router) -> None:
    assert old.default == old.metadata.points[0]
    assert old.default.name == "default"
    policies = [p.policy for p in old.metadata.points]
    assert policies == [Reference(), Threshold(0.7363786718350471), Utility(0.0)]


def test_a_point_of_schema_4_has_a_name_of_its_own(old: Router) -> None:
    for point in old.metadata.points:
        assert old.metadata.point(point.name) == point


def test_what_schema_4_did_not_certify_is_not_certified(old: Router) -> None:
    assert not any(g.certified for g in old.metadata.guarantees)
    assert {g.policy for g in old.metadata.guarantees} == {Reference()}
    assert [p.guarantee for p in old.metadata.points] == ["", "", ""]


def test_what_schema_4_expected_is_not_known(old: Router) -> None:
    assert {p.expected for p in old.metadata.points} == {None}
    assert old.menu.headline.startswith("What the router saves isn't known")


def test_the_reference_call_of_schema_4_costs_what_its_best_single_tier_did(old: Router) -> None:
    assert old.metadata.reference_cost_usd == 0.0024207027027027027


@pytest.mark.parametrize(
    ("query", "options", "tier", "reason"),
    [
        (CAPITAL, {}, "full", "reference"),
        (PROOF, {}, "full", "reference"),
        (CAPITAL, {"threshold": 0.5}, "nano", "meets_bar"),
        (PROOF, {"threshold": 0.5}, "mini", "meets_bar"),
        (CAPITAL, {"lam": 100.0}, "mini", "best_utility"),
        (PROOF, {"lam": 100.0}, "mini", "best_utility"),
    ],
)
def test_an_artifact_of_schema_4_decides_as_it_did(
    old: Router, query: str, options: dict[str, float], tier: str, reason: str
) -> None:
    decision = old.route(query, **options)  # type: ignore[arg-type]
    assert (decision.tier, decision.reason) == (tier, reason)


def test_an_artifact_of_schema_4_predicts_as_it_did(old: Router) -> None:
    assert old.route(CAPITAL, threshold=0.5).p_meets == pytest.approx(0.5311599969863892, abs=1e-6)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "{}", '{"settings": [], "guarantees": []}'])
def test_text_that_is_no_metadata_of_schema_4_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="can't be read"):
        Metadata.from_json(text, schema="4")
