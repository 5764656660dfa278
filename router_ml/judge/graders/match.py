"""Exact and normalised match with a reference answer."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import ClassVar

from router_ml.judge.graders.pattern import pattern
from router_ml.judge.grading import Grade, Item, SingleGrader

__all__ = ["ExactMatch", "NormalisedMatch", "normalise"]

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalise(text: str) -> str:
    """Fold case and width, drop punctuation and English articles, and squeeze white space.

    >>> normalise("The  answer, surely: FORTY-two.")
    'answer surely fortytwo'

    References
    ----------
    Rajpurkar et al.: SQuAD (EMNLP 2016), whose evaluation does the same but for the width.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    bare = pattern(r"\p{P}+").sub("", folded)
    return " ".join(_ARTICLES.sub(" ", bare).split())


@dataclass(frozen=True)
class ExactMatch(SingleGrader):
    """1 where the answer, but for white space around it, is the reference; else 0.

    Parameters
    ----------
    several : bool
        The reference is a JSON list of answers, any of which will do.
    contains : bool
        The answer need only contain the reference.
    """

    kind: ClassVar[str] = "exact"

    several: bool = False
    contains: bool = False

    def grade(self, item: Item) -> Grade:
        """Grade one answer."""
        answer = self._prepared(item.response)
        accepted = _accepted(item.reference or "", self.several)
        if accepted is None:
            return Grade(None, "the reference isn't a JSON list of texts")
        wanted = [self._prepared(text) for text in accepted]
        if not all(wanted):
            return Grade(None, "the reference is empty, or nothing is left of it")
        met = any(w in answer if self.contains else w == answer for w in wanted)
        return Grade(float(met), "matches" if met else "doesn't match")

    def _prepared(self, text: str) -> str:
        return text.strip()


@dataclass(frozen=True)
class NormalisedMatch(ExactMatch):
    """As ``exact``, after :func:`normalise`; with `contains`, whole words only."""

    kind: ClassVar[str] = "normalised"

    def _prepared(self, text: str) -> str:
        normal = normalise(text)
        return f" {normal} " if self.contains and normal else normal


def _accepted(reference: str, several: bool) -> list[str] | None:
    if not several:
        return [reference]
    try:
        values = json.loads(reference)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, list) and values and all(isinstance(v, str) for v in values) else None
