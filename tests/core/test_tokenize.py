"""The word cache gives exactly the tokenizer's ids, or is off."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.core import tokenize
from router_ml.core.artifact import read_artifact
from router_ml.core.text import render
from router_ml.core.tokenize import TextTokenizer, words_are_independent
from router_ml.errors import ArtifactError

# Letters, digits and signs, the mark that vocabularies write for a space, reserved tokens, bytes and other scripts.
PIECES = st.sampled_from(
    ["a", "the", "▁", "<s>", "</s>", "<unk>", "<0x0A>", "é", "日本", "😀", "=", "1234", "\t", "\n", "  ", " "]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=8)), min_size=1, max_size=30).map("".join)


@pytest.fixture(scope="module")
def spec(artifact: Path) -> str:
    return read_artifact(artifact).tokenizer


@pytest.fixture(scope="module")
def plain(spec: str) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer.from_str(spec)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def make(spec: str, *, max_tokens: int | None = None, special: bool = False) -> TextTokenizer:
    return TextTokenizer(spec, max_tokens=max_tokens, add_special_tokens=special)


@pytest.fixture(scope="module")
def cached(spec: str) -> TextTokenizer:
    return make(spec)


def test_the_static_vocabulary_is_cached(cached: TextTokenizer) -> None:
    assert cached.cached


@settings(max_examples=500, deadline=None)
@given(TEXTS)
def test_the_cache_is_exact(cached: TextTokenizer, plain: tokenizers.Tokenizer, text: str) -> None:
    try:
        rendered = render(text).text
    except ValueError:
        return
    expected = plain.encode(rendered, add_special_tokens=False).ids
    # Until each word is known, and once more.
    assert all(cached.encode(rendered).tolist() == expected for _ in range(5))


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5), st.integers(1, 60))
def test_many_new_words_are_exact_whatever_is_known(
    cached: TextTokenizer, plain: tokenizers.Tokenizer, texts: list[str], times: int
) -> None:
    cached._words = {}
    for i, text in enumerate(texts):
        # Of each some words are new, and some came before.
        try:
            rendered = render(" ".join(f"{text}{k % (i + 1)}" for k in range(times))).text
        except ValueError:
            continue
        expected = plain.encode(rendered, add_special_tokens=False).ids
        assert cached.encode(rendered).tolist() == expected
        assert cached.encode_batch([rendered, rendered])[1].tolist() == expected


def test_the_cache_is_exact_on_real_prompts(
    shared_data: Path, cached: TextTokenizer, plain: tokenizers.Tokenizer
) -> None:
    import polars as pl

    prompts = pl.read_parquet(shared_data / "mmlu-pro-test.parquet")["prompt"].unique(maintain_order=True)[:500]
    texts = [render(p).text for p in prompts] * 2
    assert [cached.encode(t).tolist() for t in texts] == [
        e.ids for e in plain.encode_batch(texts, add_special_tokens=False)
    ]


def test_a_full_cache_starts_anew_and_stays_exact(
    spec: str, plain: tokenizers.Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenize, "_MAX_WORDS", 10)
    small = make(spec)
    texts = [f"number {i} of many words" for i in range(50)]
    assert [small.encode(t).tolist() for t in texts] == [plain.encode(t, add_special_tokens=False).ids for t in texts]
    assert len(small._words) <= 10 + len(texts[0].split())


def test_threads_share_it(spec: str, plain: tokenizers.Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenize, "_MAX_WORDS", 50)
    shared = make(spec)
    texts = [f"call {i % 97} wants {i % 31} apples and {i % 13} pears" for i in range(2000)]
    with ThreadPoolExecutor(4) as pool:
        got = [ids.tolist() for ids in pool.map(shared.encode, texts)]
    assert got == [plain.encode(t, add_special_tokens=False).ids for t in texts]


def test_an_endless_word_is_not_kept(spec: str) -> None:
    tokenizer = make(spec)
    tokenizer.encode("x" * 5000)
    assert not tokenizer._words


def test_a_bound_or_special_tokens_turn_it_off(spec: str) -> None:
    assert not make(spec, max_tokens=8).cached
    assert not make(spec, special=True).cached


def test_a_reserved_token_with_a_space_turns_it_off(spec: str) -> None:
    tokenizer = tokenizers.Tokenizer.from_str(spec)
    tokenizer.add_tokens(["two words"])
    assert not make(tokenizer.to_str()).cached


def test_a_bound_holds(spec: str) -> None:
    assert len(make(spec, max_tokens=8).encode("one two three four five six seven eight nine ten")) == 8


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"type": "WordPiece", "vocab": {}}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"normalizer": None},
        {"normalizer": {"type": "Sequence", "normalizers": []}},
    ],
)
def test_another_kind_of_tokenizer_is_not_cached(spec: str, change: dict[str, object]) -> None:
    assert not words_are_independent(json.loads(spec) | change)


@pytest.mark.parametrize("change", [{"dropout": 0.1}, {"byte_fallback": False}, {"ignore_merges": True}])
def test_another_kind_of_model_is_not_cached(spec: str, change: dict[str, object]) -> None:
    values = json.loads(spec)
    assert not words_are_independent(values | {"model": values["model"] | change})


def test_a_vocabulary_without_the_mark_is_not_cached(spec: str) -> None:
    values = json.loads(spec)
    del values["model"]["vocab"]["▁"]
    assert not words_are_independent(values)


def test_a_text_of_new_words_teaches_some_at_a_time(spec: str, plain: tokenizers.Tokenizer) -> None:
    tokenizer = make(spec)
    text = " ".join(f"w{i}x" for i in range(150))
    expected = plain.encode(text, add_special_tokens=False).ids
    known = []
    for _ in range(4):
        assert tokenizer.encode(text).tolist() == expected
        known.append(len(tokenizer._words))

    assert known == [64, 128, 150, 150]


def test_new_words_that_come_twice_are_told_apart(spec: str, plain: tokenizers.Tokenizer) -> None:
    text = " ".join(f"w{i % 130}x" for i in range(300))
    assert make(spec).encode(text).tolist() == plain.encode(text, add_special_tokens=False).ids


def test_a_vocabulary_without_lone_characters_stays_exact(spec: str) -> None:
    values = json.loads(spec)
    # A piece for two bytes: bytes may be merged.
    values["model"]["vocab"]["<0xE6><0x97>"] = 99_999
    changed = json.dumps(values)
    text = "日本 new 語 words 😀"

    assert make(changed).encode(text).tolist() == make(spec).encode(text).tolist()


def test_a_piece_that_reaches_over_a_space_turns_it_off(spec: str) -> None:
    values = json.loads(spec)
    values["model"]["vocab"]["of▁the"] = 99_999
    assert not words_are_independent(values)


def test_a_broken_tokenizer_is_an_artifact_error() -> None:
    with pytest.raises(ArtifactError, match="can't be read"):
        make("{}")
