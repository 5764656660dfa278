"""Prompts to time a router on: stretches of a text, some for a warm-up, others that are timed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from router_ml.errors import InputError

__all__ = ["CHARS_PER_TOKEN", "PLAIN", "Stretches", "prompt_of", "read_text"]

CHARS_PER_TOKEN = 4
"""A token is taken to be so many characters."""
PLAIN = (
    "please summarise the following report for a reader who has never seen it before and keep every number that matters "
    "then write a short function that parses each line of the log and returns the slowest request with its time"
)
MOST_CHARS = 16_000_000
"""So much of a file is read: thousands of prompts of thousands of characters."""
_TWO_HALVES = 1_000
"""A text of fewer characters isn't parted."""
_WORD = 64
"""A space is looked for in so many characters."""


class Stretches:
    """Prompts cut from a text at spaces: those of the warm-up from its first half, those that are timed from its second.

    So a timed prompt has the new words that a prompt of such text has. Each begins elsewhere, as far from the next as the text
    allows; where it is too short for that they overlap, and then begin to repeat.

    Parameters
    ----------
    text : str
        Of less than 1,000 characters both kinds are cut from all of it.
    name : str
        What the text is called.

    Raises
    ------
    InputError
        It holds no word.
    """

    def __init__(self, text: str, name: str) -> None:
        text = " ".join(text.split())
        if not text:
            raise InputError(f"{name} holds no word; needed text to cut prompts from. Give another file.")
        middle = text.find(" ", len(text) // 2, len(text) // 2 + _WORD)
        middle = len(text) // 2 if middle < 0 else middle
        self._halves = (text[:middle], text[middle:].lstrip())
        if len(text) < _TWO_HALVES:
            self._halves = (text, text)
            self.about = f"stretches of {name}, {len(text):,} characters over and over, for the warm-up too"
        else:
            first, second = (len(half) for half in self._halves)
            self.about = f"stretches of {name}: {second:,} characters, after a warm-up on {first:,} others"

    def warm_up(self, n_chars: int, count: int) -> Iterator[str]:
        """Prompts of about so many characters, to be seen before: at most so many, and one where the text has no more side by side."""
        text = self._halves[0]
        return _cut(text, n_chars, max(min(count, len(text) // n_chars), 1))

    def timed(self, n_chars: int, count: int) -> Iterator[str]:
        """So many prompts from the other half of the text."""
        return _cut(self._halves[1], n_chars, count)


def _cut(text: str, n_chars: int, count: int) -> Iterator[str]:
    # One that begins near the end goes on at the beginning.
    ring = text + " " + prompt_of(text, n_chars // CHARS_PER_TOKEN + _WORD)
    step = max(len(text) // count, 1)
    for i in range(count):
        start = i * step % len(text)
        if start:
            start = ring.find(" ", start - 1, start + _WORD) + 1 or start
        end = start + n_chars
        space = ring.rfind(" ", max(start + 1, end - _WORD), end + 1)
        yield ring[start : end if space < 0 else space]


def prompt_of(source: str, tokens: int) -> str:
    """The beginning of a text, repeated as need be, of about so many tokens (four characters each)."""
    n_chars = tokens * CHARS_PER_TOKEN
    return ((source + " ") * (n_chars // (len(source) + 1) + 1))[:n_chars]


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, of a large one its first 16 million characters.

    Raises
    ------
    InputError
        It can't be read, isn't UTF-8 text, or holds no word.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MOST_CHARS)
    except UnicodeDecodeError as exc:
        raise InputError(f"{path} isn't UTF-8 ({exc.reason} at byte {exc.start}); needed plain text in UTF-8.") from exc
    except OSError as exc:
        raise InputError(f"{path} can't be read: {exc.strerror or exc}.") from exc
    if "\0" in text:
        raise InputError(f"{path} holds NUL characters, so it is binary data; needed plain text in UTF-8.")
    if not text or text.isspace():
        raise InputError(f"{path} holds no word; needed text to cut prompts from. Give another file.")
    return text
