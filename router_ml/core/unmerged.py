"""Characters that a byte-pair encoding never merges with another one: their ids are looked up, not found by merging."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LoneCharacters", "lone_characters"]

_BYTES = [f"<0x{i:02X}>" for i in range(256)]
"""What SentencePiece-like vocabularies write for a byte of a character that they don't have."""
_TWO_BYTES = 0x7FF
_THREE_BYTES = 0xFFFF
"""The last characters of so many bytes in UTF-8."""
_NO_CHARACTER = 0xFFFF_FFFF


class LoneCharacters:
    """Takes runs of lone characters out of a text, a mark left for each, and puts their ids into the rest's.

    Parameters
    ----------
    runs : re.Pattern
        Finds a run of them; none is of ASCII.
    mark : str
        One of them, of the vocabulary.
    vocabulary : dict from str to int
        Has all bytes, which stand for the characters that it lacks.
    """

    def __init__(self, runs: re.Pattern[str], mark: str, vocabulary: dict[str, int]) -> None:
        known = sorted(piece for piece in vocabulary if len(piece) == 1 and runs.match(piece))
        self._runs = runs
        self._mark = mark
        self._mark_id = vocabulary[mark]
        self._codes = np.array([*map(ord, known), _NO_CHARACTER], dtype=np.uint32)
        self._ids = np.array([*map(vocabulary.__getitem__, known), 0], dtype=np.int64)
        self._byte_ids = np.array([vocabulary[byte] for byte in _BYTES], dtype=np.int64)

    def take_out(self, text: str) -> tuple[str, list[str]]:
        """The text with a mark for each run, and the runs."""
        runs = self._runs.findall(text)
        return (self._runs.sub(self._mark, text) if runs else text), runs

    def put_in(self, ids: NDArray[np.int64], runs: list[str]) -> NDArray[np.int64]:
        """The ids of the text that `take_out` was given, from those of what it returned; shape [length]."""
        characters = "".join(runs)
        n_ids, taken = self._encode(characters)
        first = np.cumsum([0, *map(len, runs[:-1])])
        marks = ids == self._mark_id
        repeats = np.ones(len(ids), dtype=np.int64)
        repeats[marks] = np.add.reduceat(n_ids, first)
        whole = np.repeat(ids, repeats)
        whole[np.repeat(marks, repeats)] = taken
        return whole

    def _encode(self, characters: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many ids each character has, and all of them."""
        codes = np.frombuffer(characters.encode("utf-32-le"), dtype=np.uint32)
        at = np.searchsorted(self._codes, codes)
        known = self._codes[at] == codes
        n_bytes = 2 + (codes > _TWO_BYTES).astype(np.int64) + (codes > _THREE_BYTES)
        ids = self._byte_ids[np.frombuffer(characters.encode(), dtype=np.uint8)]
        # A known character's id takes the place of its first byte, and no other byte of it is kept.
        first = (np.cumsum(n_bytes) - n_bytes)[known]
        ids[first] = self._ids[at[known]]
        kept = np.repeat(~known, n_bytes)
        kept[first] = True
        return np.where(known, 1, n_bytes), ids[kept]


def lone_characters(model: dict[str, Any], reserved: Iterable[str] = ()) -> LoneCharacters | None:
    """The characters that no longer piece of a byte-pair encoding has in it, as are most of the scripts that it wasn't made for.

    A merge makes a longer piece of two neighbours, and none can be of these: so each has the same ids wherever it stands, and the text on
    either side of it is encoded as if it ended there. 1,000 Chinese characters then take a quarter of the time.

    Parameters
    ----------
    model : dict
        The ``model`` of a ``tokenizers`` tokenizer's JSON: a byte-pair encoding with ``byte_fallback``.
    reserved : iterable of str
        What the tokenizer looks for before it merges.

    Returns
    -------
    LoneCharacters or None
        None where bytes are merged or not all in the vocabulary, or where no character can be the mark.
    """
    vocabulary: dict[str, int] = model["vocab"]
    longer = [piece for piece in vocabulary if len(piece) > 1]
    # A text of ASCII alone isn't searched for them.
    others = {*"".join(longer), *map(chr, range(128))}
    marks = (piece for piece in vocabulary if len(piece) == 1 and piece not in others)
    mark = next((m for m in marks if not any(m in text for text in reserved)), None)
    bytes_stand_alone = {piece for piece in longer if "<0x" in piece} == set(_BYTES)
    if mark is None or not bytes_stand_alone:
        return None
    return LoneCharacters(re.compile(f"[^{re.escape(''.join(sorted(others)))}]+"), mark, vocabulary)
