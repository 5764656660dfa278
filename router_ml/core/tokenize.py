"""Tokenizing a rendered text, by a cache of words where that is provably the same."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from router_ml.core.unmerged import lone_characters
from router_ml.errors import ArtifactError

if TYPE_CHECKING:
    import tokenizers

__all__ = ["TextTokenizer", "words_are_independent"]

_SPACE = "\u2581"
"""What SentencePiece-like vocabularies write for a space."""
_MAX_WORDS = 65_536
"""Words that the cache holds at most: about 15 MB; then it starts anew."""
_MAX_LEARNED = 64
"""Words that the cache takes of one text, at most: a text of hundreds of new ones is hardly worth remembering, and a dict that grows or is
thrown away takes milliseconds, which such texts made happen to more than one call in a hundred."""
_FEW_CHARS = 256
"""New words of so many characters in all go to the tokenizer's model one by one: one takes 6 us then, not 16. With more it makes no difference,
but the tokenizer lets go of the interpreter's lock meanwhile."""
_MAX_WORD_CHARS = 40
"""A longer word is a rare one: a key, a URL, an endless line. It isn't cached."""


class TextTokenizer:
    """Token ids of texts, as of words with single spaces between them (`router_ml.core.text.render`).

    Where the tokenizer provably treats each word by itself (:func:`words_are_independent`), known words are looked up, and
    new ones tokenized, and the first 64 of a text kept. Threads may share it: the cache only ever maps a word to the ids that the
    tokenizer gives it.

    Parameters
    ----------
    spec : str
        JSON of a ``tokenizers`` tokenizer.
    max_tokens : int or None
        Longer sequences are cut.
    add_special_tokens : bool

    Raises
    ------
    ArtifactError
        If the JSON can't be read.
    """

    def __init__(self, spec: str, *, max_tokens: int | None, add_special_tokens: bool) -> None:
        import tokenizers

        try:
            self._tokenizer: tokenizers.Tokenizer = tokenizers.Tokenizer.from_str(spec)
        except Exception as exc:  # tokenizers raises bare Exceptions
            raise ArtifactError(f"The artifact's tokenizer can't be read ({exc}); export it again.") from exc
        self._tokenizer.no_padding()
        if max_tokens is None:
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(max_tokens)
        self._special = add_special_tokens
        # Texts with one of these go to the tokenizer: it finds them before it splits anything.
        self._reserved = (_SPACE, *(t.content for t in self._tokenizer.get_added_tokens_decoder().values()))
        self.cached = (
            max_tokens is None
            and not add_special_tokens
            # One with a space would be found in a text of words that are each known by themselves.
            and not any(" " in reserved for reserved in self._reserved)
            and words_are_independent(values := json.loads(spec))
        )
        self._model = self._tokenizer.model
        self._words: dict[str, bytes] = {}
        self._lone = lone_characters(values["model"], self._reserved) if self.cached else None
        vocabulary: dict[str, int] = values["model"]["vocab"] if self.cached else {}
        self._starts_word = np.zeros(max(vocabulary.values(), default=-1) + 1, dtype=bool)
        self._starts_word[[i for piece, i in vocabulary.items() if piece.startswith(_SPACE)]] = True

    def encode(self, text: str) -> NDArray[np.int64]:
        """Token ids of a text, its white space collapsed; shape [length]."""
        words = text.split()
        if not self.cached:
            return self._encode_whole(words)
        # The reserved strings never come into the cache as part of a word, so a text that has one is not found whole.
        ids_of = list(map(self._words.get, words))
        try:
            return np.frombuffer(b"".join(ids_of), dtype=np.int64)  # type: ignore[arg-type]  # None is a TypeError
        except TypeError:
            return self._encode_new(words, ids_of)

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Token ids of texts, in order."""
        if self.cached:
            return [self.encode(t) for t in texts]
        collapsed = [" ".join(t.split()) for t in texts]
        encodings = self._tokenizer.encode_batch_fast(collapsed, add_special_tokens=self._special)
        return [np.array(e.ids, dtype=np.int64) for e in encodings]

    def _encode_whole(self, words: list[str]) -> NDArray[np.int64]:
        return self._ids(" ".join(words), self._special)

    def _encode_new(self, words: list[str], ids_of: list[bytes | None]) -> NDArray[np.int64]:
        """Encode words of which some weren't known, those without ids."""
        known = self._words
        if len(known) >= _MAX_WORDS:
            # Another dict, not a cleared one: a thread that reads the old one goes on undisturbed.
            known = self._words = {}
        if ids_of.count(None) > _MAX_LEARNED:
            return self._encode_many_new(words, known)
        new_at = [i for i, ids in enumerate(ids_of) if ids is None]
        text = " ".join([words[i] for i in new_at])
        if self._has_reserved(text):
            return self._encode_whole(words)
        if len(text) > _FEW_CHARS:
            return self._encode_many_new(words, known)
        for i in new_at:
            word = words[i]
            ids_of[i] = ids = self._ids_of_word(word)
            if len(word) <= _MAX_WORD_CHARS:
                known[word] = ids
        return np.frombuffer(b"".join(ids_of), dtype=np.int64)  # type: ignore[arg-type]  # none is left

    def _encode_many_new(self, words: list[str], known: dict[str, bytes]) -> NDArray[np.int64]:
        """Encode words of which many aren't known: these as a text of their own, each once, whose ids are then told apart."""
        new = [word for word in dict.fromkeys(words) if word not in known]
        text = " ".join(new)
        if self._has_reserved(text):
            return self._encode_whole(words)
        ids = self._ids_of_words(text)
        all_new = len(new) == len(words)
        met = self._told_apart(ids, new[:_MAX_LEARNED] if all_new else new)
        known.update((word, met[word]) for word in new[:_MAX_LEARNED] if len(word) <= _MAX_WORD_CHARS)
        if all_new:
            return ids
        return np.frombuffer(b"".join([met[word] if word in met else known[word] for word in words]), dtype=np.int64)

    def _has_reserved(self, text: str) -> bool:
        return any(reserved in text for reserved in self._reserved)

    def _ids_of_word(self, word: str) -> bytes:
        return array("q", [token.id for token in self._model.tokenize(_SPACE + word)]).tobytes()

    def _ids_of_words(self, text: str) -> NDArray[np.int64]:
        """The ids of many words, with single spaces between them."""
        if self._lone is None or text.isascii():
            return self._ids(text, False)
        rest, runs = self._lone.take_out(text)
        ids = self._ids(rest, False)
        return self._lone.put_in(ids, runs) if runs else ids

    def _told_apart(self, ids: NDArray[np.int64], words: list[str]) -> dict[str, bytes]:
        """The ids of each of the first words of a text."""
        # Each word begins with the mark for a space, and has it nowhere else: so does the first of its pieces alone.
        starts = (ids.itemsize * np.flatnonzero(self._starts_word[ids])).tolist()
        whole = ids.tobytes()
        ends, n = [*starts[1:], len(whole)], len(words)
        return {word: whole[a:b] for word, a, b in zip(words, starts[:n], ends[:n], strict=True)}

    def _ids(self, text: str, special: bool) -> NDArray[np.int64]:
        # `encode` would look for each token's place in the text too, which takes as long again.
        (found,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=special)
        return np.array(found.ids, dtype=np.int64)


def words_are_independent(spec: dict[str, Any]) -> bool:
    """Whether a tokenizer provably gives a text of words with single spaces the ids of its words, one after the other.

    True for byte-pair encodings that prepend a mark to the text, replace spaces by it, don't split otherwise, and whose vocabulary
    has the mark, and no piece with it behind another character. A merge makes a piece of the vocabulary, so none can reach over a
    space; and merges on either side don't depend on one another. Texts with the mark itself or a reserved token in
    them are another matter.

    Parameters
    ----------
    spec : dict
        The JSON of a ``tokenizers`` tokenizer.

    Examples
    --------
    >>> words_are_independent({"model": {"type": "WordPiece"}})
    False
    """
    model = spec.get("model") or {}
    marks = [
        {"type": "Prepend", "prepend": _SPACE},
        {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
    ]
    return (
        model.get("type") == "BPE"
        and not model.get("dropout")
        and not model.get("continuing_subword_prefix")
        and not model.get("end_of_word_suffix")
        and not model.get("ignore_merges")
        # Without it, neighbouring unknown characters could be fused over a space.
        and bool(model.get("byte_fallback"))
        and spec.get("pre_tokenizer") is None
        and (spec.get("normalizer") or {}).get("normalizers") == marks
        # Else the mark would become bytes, and where a word begins couldn't be told.
        and _SPACE in model.get("vocab", {})
        and not any(_SPACE in piece.lstrip(_SPACE) for piece in model.get("vocab", {}))
    )
