"""What a benchmark asks, what it saw, and whether that will do; it exits with 1 where something won't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure that is asked for, beside the one that was seen.

    Attributes
    ----------
    what : str
    seen : float
        NaN, what couldn't be measured, won't do.
    bound : {"at most", "at least"}
    asked : float
    """

    what: str
    seen: float
    bound: Literal["at most", "at least"]
    asked: float

    @property
    def held(self) -> bool:
        """Whether it was seen."""
        return bool(self.seen <= self.asked if self.bound == "at most" else self.seen >= self.asked)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"what": self.what, "asked": f"{self.bound} {self.asked:.4g}", "seen": self.seen, "held": self.held}


def to_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """A table in Markdown."""
    return [
        "| what | asked | seen | |",
        "|---|---|---|---|",
        *(f"| {v.what} | {v.bound} {v.asked:.4g} | {v.seen:.4g} | {'yes' if v.held else 'NO'} |" for v in verdicts),
    ]
