"""Similar training prompts: the nearest come first, and they survive their way through the artifact."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.core.neighbours import Neighbours, StoredNeighbours
from router_ml.errors import ArtifactError

TIERS = ("nano", "full")
NAN = float("nan")


def sample() -> Neighbours:
    vectors = np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0], [-5.0, 0.0]])
    return Neighbours.of(np.array(["a", "b", "c", "d"]), vectors, np.array([[1, NAN], [0.5, 1], [NAN, NAN], [0, 0]]))


def test_the_most_similar_come_first() -> None:
    found = sample().nearest(np.array([0.9, 0.1]), 3, TIERS)
    assert [n.prompt_id for n in found] == ["a", "c", "b"]


def test_similarity_is_the_cosine_to_the_second_decimal() -> None:
    found = sample().nearest(np.array([2.0, 0.0]), 4, TIERS)
    assert [n.similarity for n in found] == pytest.approx([1, np.sqrt(0.5), 0, -1], abs=0.005)


def test_tiers_that_did_not_answer_are_left_out() -> None:
    outcomes = {n.prompt_id: n.quality for n in sample().nearest(np.array([1.0, 0.0]), 4, TIERS)}
    assert outcomes == {"a": {"nano": 1}, "b": {"nano": 0.5, "full": 1}, "c": {}, "d": {"nano": 0, "full": 0}}


def test_of_few_prompts_all_are_given() -> None:
    assert len(sample().nearest(np.array([1.0, 0.0]), 99, TIERS)) == 4


def test_equally_similar_prompts_keep_their_order() -> None:
    same = Neighbours.of(np.array(["x", "y", "z"]), np.ones((3, 2)), np.zeros((3, 2)))
    assert [n.prompt_id for n in same.nearest(np.ones(2), 3, TIERS)] == ["x", "y", "z"]


def test_a_vector_of_zeros_is_like_nothing() -> None:
    assert [n.similarity for n in sample().nearest(np.zeros(2), 4, TIERS)] == [0, 0, 0, 0]


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 1000))
def test_similarities_are_near_those_of_the_vectors_themselves(n: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, query = rng.normal(size=(n, d)), rng.normal(size=d)
    packed = Neighbours.of(np.arange(n).astype(str), vectors, np.zeros((n, 2)))
    cosine = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    found = {int(m.prompt_id): m.similarity for m in packed.nearest(query, n, TIERS)}
    assert [found[i] for i in range(n)] == pytest.approx(cosine.tolist(), abs=0.03)


def test_what_is_written_is_read_again() -> None:
    again = Neighbours.from_text(sample().to_text())
    assert repr(again.nearest(np.ones(2), 4, TIERS)) == repr(sample().nearest(np.ones(2), 4, TIERS))


def test_ids_may_be_of_any_script() -> None:
    ids = np.array(["frage-ä", "質問", "😀"])
    again = Neighbours.from_text(Neighbours.of(ids, np.eye(3), np.zeros((3, 2))).to_text())
    assert again.ids.tolist() == ids.tolist()


def pickled() -> str:
    from io import BytesIO

    buffer = BytesIO()
    np.savez(buffer, ids=np.array([{}], dtype=object), vectors=np.zeros((1, 2)), quality=np.zeros((1, 2)))
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    "text", ["not base64!", base64.b64encode(b"no archive").decode(), sample().to_text()[:400], pickled()]
)
def test_what_can_not_be_read_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="training prompts can't be read"):
        Neighbours.from_text(text)


def test_any_damage_is_an_artifact_error() -> None:
    quality = np.array([[0.5, np.nan], [1, 0]])
    raw = base64.b64decode(Neighbours.of(np.array(["a", "b"]), np.eye(2, 4), quality).to_text())
    damaged = [raw[:k] + bytes([raw[k] ^ 0xFF]) + raw[k + 1 :] for k in range(len(raw))]
    cut = [raw[:k] for k in range(0, len(raw), 7)]
    refused = 0
    for bad in [*damaged, *cut]:
        try:
            Neighbours.from_text(base64.b64encode(bad).decode())
        except ArtifactError:
            refused += 1
    assert refused > len(cut)


def test_what_an_artifact_holds_is_unpacked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    unpack = Neighbours.from_text
    monkeypatch.setattr(Neighbours, "from_text", lambda text: calls.append(text) or unpack(text))
    stored = StoredNeighbours(sample().to_text())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: stored.nearest(np.array([0.9, 0.1]), 2, TIERS), range(20)))

    assert found == [sample().nearest(np.array([0.9, 0.1]), 2, TIERS)] * 20
    assert len(calls) == 1
    assert not StoredNeighbours("").is_there
