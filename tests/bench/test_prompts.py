"""Prompts to time on: each begins elsewhere, and the timed ones stand in no warm-up."""

from __future__ import annotations

from pathlib import Path

import pytest

from router_ml.bench.prompts import MOST_CHARS, PLAIN, Stretches, read_text
from router_ml.errors import InputError

NUMBERED = " ".join(f"word{i:06}" for i in range(2_000))
"""Words of ten characters, none twice."""


def test_timed_prompts_have_no_word_of_the_warm_up() -> None:
    source = Stretches(NUMBERED, "a text")
    warm = {word for prompt in source.warm_up(100, 50) for word in prompt.split()}

    assert len(warm) > 400
    assert warm.isdisjoint(word for prompt in source.timed(100, 50) for word in prompt.split())


def test_a_warm_up_goes_through_its_half_once() -> None:
    words = [word for prompt in Stretches(NUMBERED, "a text").warm_up(100, 10_000) for word in prompt.split()]

    assert 700 < len(words) == len(set(words))


def test_where_the_text_is_long_enough_no_word_comes_twice() -> None:
    words = [word for prompt in Stretches(NUMBERED, "a text").timed(100, 50) for word in prompt.split()]

    assert len(words) == len(set(words))


def test_words_stay_whole() -> None:
    source = Stretches(NUMBERED, "a text")

    assert {len(word) for n in (64, 5_000) for prompt in source.timed(n, 77) for word in prompt.split()} == {10}


@pytest.mark.parametrize("n_chars", [64, 4_000, 400_000])
@pytest.mark.parametrize("text", [NUMBERED, PLAIN, "x" * 5_000, "Grüße"])
def test_prompts_are_of_about_the_length(text: str, n_chars: int) -> None:
    lengths = [len(prompt) for prompt in Stretches(text, "a text").timed(n_chars, 30)]

    assert n_chars - 20 <= min(lengths) <= max(lengths) <= n_chars


def test_prompts_differ_where_they_overlap() -> None:
    assert len(set(Stretches(NUMBERED, "a text").timed(4_000, 200))) == 200


def test_a_short_text_serves_for_both() -> None:
    source = Stretches("two words", "a text")

    assert next(source.timed(20, 3)) == next(source.warm_up(20, 3))
    assert "9 characters over and over" in source.about


def test_a_text_without_words_is_refused() -> None:
    with pytest.raises(InputError, match="a text holds no word"):
        Stretches(" \n ", "a text")


@pytest.mark.parametrize(
    ("content", "said"), [(b"ok \xff\xfe", "isn't UTF-8"), (b"", "no word"), (b" \n", "no word"), (b"PAR1\0\0", "NUL")]
)
def test_a_file_that_is_no_text_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "prompts.txt").write_bytes(content)

    with pytest.raises(InputError, match=rf"prompts\.txt .*{said}"):
        read_text(tmp_path / "prompts.txt")


def test_of_a_large_file_the_beginning_is_read(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_bytes(b"x" * (MOST_CHARS + 5))

    assert len(read_text(tmp_path / "prompts.txt")) == MOST_CHARS
