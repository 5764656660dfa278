"""A number in the answer, compared with a reference number."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from router_ml.judge.graders.pattern import find, pattern
from router_ml.judge.grading import Grade, Item, SingleGrader

__all__ = ["Numeric", "last_number"]

_NUMBER = re.compile(
    r"(?<![\w.])[-+]?"
    r"(?:\d{1,3}(?:,\d{3}){1,100}(?!\d)(?:\.\d{1,400})?|\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})"
    r"(?:[eE][-+]?\d{1,4}|\s?(?:×|\\times|\*)\s?10\s?\^\s?\{?[-+]?\d{1,4}\}?)?"
    r"(?!\d)"
)
"""A number as people and models write it: 1,234.5, .5, 1e-3, 2.3 \\times 10^{5}. All of its repeats are bounded."""
_POWER = re.compile(r"\s?(?:×|\\times|\*)\s?10\s?\^\s?\{?([-+]?\d+)\}?")
_MINUS = str.maketrans({"−": "-", "–": "-", "﹣": "-", "－": "-", "$": " ", "€": " ", "£": " "})


def last_number(text: str) -> float | None:
    r"""The last number of a text, or None.

    >>> last_number("12 apples at $1,250.50 each."), last_number(r"so $2.3 \times 10^5$ V")
    (1250.5, 230000.0)
    """
    found = None
    for match in _NUMBER.finditer(text.translate(_MINUS)):
        found = match[0]
    if found is None:
        return None
    number = float(_POWER.sub(r"e\1", found).replace(",", ""))
    return number if math.isfinite(number) else None


@dataclass(frozen=True)
class Numeric(SingleGrader):
    """1 where the answer's number is within a tolerance of the reference's; else 0, also where it holds no number.

    Parameters
    ----------
    abs_tol : float
        Largest distance, in the number's unit.
    rel_tol : float
        Largest distance as a share of the reference; the larger of the two counts.
    pattern : str, optional
        Where the number stands: the last match's first group (or all of it); without it, the answer's last number
        counts.
    """

    kind: ClassVar[str] = "numeric"

    abs_tol: Annotated[float, Ge(0)] = 1e-9
    rel_tol: Annotated[float, Ge(0)] = 1e-6
    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.pattern is not None:
            pattern(self.pattern)

    def grade(self, item: Item) -> Grade:
        """Grade one answer."""
        wanted = last_number(item.reference or "")
        if wanted is None:
            return Grade(None, f"the reference {item.reference!r:.80} holds no number")
        try:
            text = item.response if self.pattern is None else find(self.pattern, item.response, last=True)
        except TimeoutError:
            return Grade(None, f"the pattern {self.pattern!r:.80} took too long on this answer")
        got = last_number(text or "")
        if got is None:
            return Grade(0.0, "no number found")
        met = abs(got - wanted) <= max(self.abs_tol, self.rel_tol * abs(wanted))
        return Grade(float(met), f"got {got:g}, needed {wanted:g}")
