"""Feedback becomes quality: thumbs, stars, numbers in a range, categories, by a mapping that can be stated.

================================================  ==========================================================
feedback                                          quality
================================================  ==========================================================
true / false                                      1 / 0
thumbs: up, positive, good, like, yes, pass ...   1
thumbs: down, negative, bad, dislike, no, fail    0
a number, no scale given                          itself; it has to lie in [0, 1]
a number on the scale ``LOW..HIGH``               (number - LOW) / (HIGH - LOW)
stars                                             the scale ``1..5``
categories ``good=1,fair=0.5,poor=0``             as declared; a category that isn't listed is an error
================================================  ==========================================================

No range is guessed: a log of three-star answers looks just like one of numbers up to three.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from router_ml.errors import InputError, TrafficError
from router_ml.importers.fields import blank

__all__ = ["Scale"]

_UP = "up thumbs_up thumbsup thumb_up positive good like liked yes true correct pass passed accept accepted 👍"
_DOWN = "down thumbs_down thumbsdown thumb_down negative bad dislike disliked no false incorrect fail failed reject rejected 👎"
_THUMBS = {**dict.fromkeys(_UP.split(), 1.0), **dict.fromkeys(_DOWN.split(), 0.0)}
_NAMED = {"stars": (1.0, 5.0), "auto": (0.0, 1.0)}
_HOLDERS = ("value", "score", "rating")


@dataclass(frozen=True, slots=True)
class Scale:
    """How feedback maps to quality.

    Parameters
    ----------
    low, high : float
        What quality 0 and quality 1 are called.
    categories : mapping of str to float
        Quality in [0, 1] of each category, in lower case.
    """

    low: float = 0.0
    high: float = 1.0
    categories: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"The scale is {self.low}..{self.high}; it needs two finite numbers, the lower one first.")
        for name, quality in self.categories.items():
            if not 0 <= quality <= 1:
                raise InputError(f"The category {name!r} has quality {quality}; it needs to be in [0, 1].")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"auto"``, ``"stars"``, a range (``"1..10"``) or categories (``"good=1,fair=0.5,poor=0"``).

        Examples
        --------
        >>> Scale.parse("stars").quality(4)
        0.75
        >>> Scale.parse("good=1,poor=0").quality("Poor")
        0.0
        """
        if text in _NAMED:
            return cls(*_NAMED[text])
        try:
            if "=" in text:
                pairs = [pair.rpartition("=") for pair in text.split(",")]
                return cls(categories={name.strip().lower(): float(quality) for name, _, quality in pairs})
            low, _, high = text.partition("..")
            return cls(float(low), float(high))
        except InputError:
            raise
        except ValueError as exc:
            raise InputError(
                f"The scale is {text!r}; give 'auto', 'stars', a range such as '1..10', or categories such as 'good=1,poor=0'."
            ) from exc

    def quality(self, feedback: Any) -> float | None:
        """Quality in [0, 1] of one feedback; None where there is none; raises TrafficError where it isn't on the scale."""
        value = feedback
        if isinstance(value, Mapping):
            value = next((value[k] for k in _HOLDERS if k in value), value)
        if blank(value):
            return None
        word = (
            value.strip().lower() if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else ""
        )
        if self.categories:
            # 1 and 2 may be names of categories too.
            name = word or (f"{value:g}" if isinstance(value, int | float) else "")
            if name in self.categories:
                return self.categories[name]
            raise TrafficError(f"quality: got {reprlib.repr(value)}, needed one of {sorted(self.categories)}")
        if word in _THUMBS:
            return _THUMBS[word]
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise TrafficError(
                f"quality: got {reprlib.repr(value)}, needed a number, a thumb or true/false; say what it means with a scale"
            ) from None
        if not self.low <= number <= self.high:
            raise TrafficError(
                f"quality: got {number:g}, needed a number in {self.low:g}..{self.high:g}; give its range with a scale"
            )
        return (number - self.low) / (self.high - self.low)
