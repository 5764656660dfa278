"""A regular expression over the answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from router_ml.errors import InputError, MissingExtraError
from router_ml.judge.grading import Grade, Item, SingleGrader

if TYPE_CHECKING:
    import regex

__all__ = ["Pattern", "find", "pattern"]

TIMEOUT_S = 1.0
"""A search that takes longer has met a text that its pattern backtracks on without end."""


@lru_cache(maxsize=1024)
def pattern(text: str) -> regex.Pattern[str]:
    """Compile a pattern; raises InputError where it isn't one."""
    try:
        import regex
    except ImportError as exc:
        raise MissingExtraError("train", "Judging answers by a pattern") from exc
    try:
        return regex.compile(text)
    except regex.error as exc:
        raise InputError(f"The pattern {text!r} isn't a regular expression: {exc}.") from exc


def find(text: str, within: str, *, last: bool = False) -> str | None:
    """What a pattern's first group (or else all of it) matched first, or last; None where it doesn't match.

    Raises
    ------
    TimeoutError
        If the search takes longer than `TIMEOUT_S`.
    """
    compiled = pattern(text)
    found = None
    for match in compiled.finditer(within, timeout=TIMEOUT_S):
        found = match[1] if compiled.groups else match[0]
        if not last:
            break
    return found


@dataclass(frozen=True)
class Pattern(SingleGrader):
    """1 where a pattern is found in the answer; else 0.

    Parameters
    ----------
    pattern : str, optional
        The regular expression (of the ``regex`` package, a superset of ``re``'s); without it, each prompt's reference
        is one.
    full : bool
        The pattern has to match all of the answer, but for white space around it.
    absent : bool
        1 where the pattern is not found, instead.
    """

    kind: ClassVar[str] = "regex"
    needs_reference: ClassVar[bool] = False

    pattern: str | None = None
    full: bool = False
    absent: bool = False

    def __post_init__(self) -> None:
        if self.pattern is not None:
            pattern(self.pattern)

    def grade(self, item: Item) -> Grade:
        """Grade one answer."""
        wanted = self.pattern if self.pattern is not None else item.reference
        if wanted is None:
            return Grade(None, "no pattern: neither in the settings nor as the reference")
        try:
            compiled = pattern(wanted)
            search = compiled.fullmatch if self.full else compiled.search
            found = search(item.response.strip() if self.full else item.response, timeout=TIMEOUT_S) is not None
        except InputError as exc:
            return Grade(None, str(exc))
        except TimeoutError:
            return Grade(None, f"the pattern {wanted!r:.80} took longer than {TIMEOUT_S:g} s on this answer")
        return Grade(float(found != self.absent), "found" if found else "not found")
