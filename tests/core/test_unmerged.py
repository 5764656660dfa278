"""Lone characters are taken out of a text and put in again without a change of its ids."""

from __future__ import annotations

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.models import BPE

from router_ml.core.unmerged import LoneCharacters, lone_characters

BYTES = [f"<0x{i:02X}>" for i in range(256)]
PIECES = [*BYTES, "▁", "a", "b", "é", "é", "ab", "▁a", "bé", "ж", "жa", "日", "本", "☃", "😀"]
MERGES = [("a", "b"), ("▁", "a"), ("b", "é"), ("ж", "a")]
VOCABULARY = {piece: i for i, piece in enumerate(dict.fromkeys(PIECES))}
# Merged ones, lone ones with a piece of their own, and lone ones of two, three and four bytes.
CHARACTERS = st.sampled_from("ab▁éж" + "日本☃😀" + "ßя語木€🚀")


def model(**changes: object) -> dict[str, object]:
    return {"vocab": VOCABULARY, "merges": MERGES} | changes


@pytest.fixture(scope="module")
def tokenizer() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer(BPE(vocab=VOCABULARY, merges=MERGES, byte_fallback=True))


@pytest.fixture(scope="module")
def lone() -> LoneCharacters:
    found = lone_characters(model())
    assert found is not None
    return found


def ids_of(tokenizer: tokenizers.Tokenizer, text: str) -> np.ndarray:
    return np.array(tokenizer.encode(text).ids, dtype=np.int64)


@settings(max_examples=500, deadline=None)
@given(st.lists(CHARACTERS, max_size=40).map("".join))
def test_ids_are_those_of_the_whole_text(tokenizer: tokenizers.Tokenizer, lone: LoneCharacters, text: str) -> None:
    rest, runs = lone.take_out(text)
    ids = ids_of(tokenizer, rest)
    whole = lone.put_in(ids, runs) if runs else ids

    assert whole.tolist() == tokenizer.encode(text).ids


def test_a_run_leaves_one_mark(lone: LoneCharacters) -> None:
    rest, runs = lone.take_out("ab日本語жaя")

    assert runs == ["日本語", "я"]
    assert rest == "ab日жa日"


def test_a_character_of_a_longer_piece_stays(lone: LoneCharacters) -> None:
    assert lone.take_out("жéab") == ("жéab", [])


def test_the_mark_is_part_of_nothing_reserved(lone: LoneCharacters) -> None:
    other = lone_characters(model(), ["<日>", "本a"])

    assert other is not None
    assert other.take_out("日") == ("☃", ["日"])


@pytest.mark.parametrize(
    "change",
    [
        {"vocab": {piece: i for piece, i in VOCABULARY.items() if piece not in "日本☃😀"}},
        {"vocab": {piece: i for piece, i in VOCABULARY.items() if piece != "<0xE6>"}},
        {"vocab": VOCABULARY | {"<0xE6><0x97>": 999}},
    ],
    ids=["no character for a mark", "a byte is missing", "bytes are merged"],
)
def test_none_where_nothing_may_be_taken_out(change: dict[str, object]) -> None:
    assert lone_characters(model(**change)) is None
