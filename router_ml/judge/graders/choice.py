"""The letter that a multiple-choice answer settles on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar

from annotated_types import MinLen

from router_ml.judge.grading import Grade, Item, SingleGrader

__all__ = ["MultipleChoice", "choice"]

_LETTERS = "ABCDEFGHIJ"
_OPEN, _CLOSE = r"[\s(\[{*_$\"'`]{0,8}", r"(?![^\W_])"
"""What may stand around a letter: brackets, Markdown, LaTeX; no further letter or digit after it."""

_RIGHT = r"[\s)\]}*_\"'`]{0,8}(?i:is|seems)\s{1,4}(?:the\s{1,4})?(?i:correct|right|best|answer)"


@cache
def _phrasings(letters: str) -> tuple[re.Pattern[str], ...]:
    one = f"([{re.escape(letters)}])"
    boxed = r"\\boxed\{\s?(?:\\text(?:bf)?\{\s?)?\(?" + one + r"\)?\s?\}"
    # "A" and "I" are English words too, so without brackets they count where no word follows them.
    alone = one + _CLOSE + r"(?!['’])(?!(?<=[AI])\s+[a-z])"
    # Repeats are bounded: a run of blanks would be tried in every way of sharing it out otherwise.
    said = (
        r"(?i:\b(?:answer|choice|option|solution)\b(?:\s{1,8}(?:choice|option|letter))?\s{0,8}"
        r"(?:is|would be|should be|must be|:|=|-|–))"
        r"\s{0,8}(?i:(?:therefore|thus|hence|clearly|most likely|probably)?,?\s{0,2}(?:option|choice|letter|answer)?)[:\s]{0,4}"
    )
    picked = r"(?i:\b(?:choose|select|pick|go with|option|choice|answer)\b)\s{0,3}(?i:(?:option|choice|letter))?"
    return (
        re.compile(boxed),
        re.compile(said + _OPEN + alone),
        re.compile(r"(?i:\b(?:option|choice)\b)\s?" + _OPEN + one + _CLOSE + _RIGHT),
        re.compile(r"(?m)^" + _OPEN + one + _CLOSE + r"[)\]}*_$\"'`]{0,8}(?:[.:,)]|[ \t]{0,8}$)"),
        re.compile(picked + _OPEN + alone),
        re.compile(r"[(\[]" + one + r"[)\]]"),
        re.compile(r"\b" + alone),
    )


def choice(answer: str, letters: str = _LETTERS) -> str | None:
    r"""The letter that an answer settles on, or None.

    The last match of the first phrasing that occurs: a boxed letter, "the answer is (C)" or "Answer: C", "option C is
    correct", a line that begins with "C." or is "C", "I choose C", "(C)", and at last a "C" that stands alone on the
    last line.

    >>> choice("A looks right, but the answer is **(C)**."), choice(r"So \boxed{\text{D}}"), choice("I see.")
    ('C', 'D', None)
    """
    bare = answer.strip(" \t\r\n.()[]{}*_$\"'`:")
    if len(bare) == 1 and bare.upper() in letters:
        return bare.upper()
    *said, alone = _phrasings(letters)
    # Further up, a letter that stands alone is a variable or a unit.
    last_line = answer.rstrip().rsplit("\n", 1)[-1]
    for phrasing, text in [*((p, answer) for p in said), (alone, last_line)]:
        found = None
        for match in phrasing.finditer(text):
            found = match[1]
        if found is not None:
            return found
    return None


@dataclass(frozen=True)
class MultipleChoice(SingleGrader):
    """1 where the answer settles on the reference's letter; else 0.

    Parameters
    ----------
    letters : str
        The options' letters (or digits).
    missing : float or None
        Quality of an answer in which no letter is found, or None: not judged.
    """

    kind: ClassVar[str] = "multiple_choice"

    letters: Annotated[str, MinLen(2)] = _LETTERS
    missing: float | None = 0.0

    def grade(self, item: Item) -> Grade:
        """Grade one answer."""
        wanted = choice(item.reference or "", self.letters)
        if wanted is None:
            return Grade(None, f"the reference {item.reference!r:.80} names none of {self.letters}")
        got = choice(item.response, self.letters)
        if got is None:
            return Grade(self.missing, "no choice found")
        return Grade(float(got == wanted), f"got {got}, needed {wanted}")
