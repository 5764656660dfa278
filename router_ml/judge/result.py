"""What came of judging traffic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from router_ml.judge.grading import Grade
from router_ml.judge.position import PositionBias, position_bias

__all__ = ["JudgeResult", "RuleReport", "report_rule"]

_N_REASONS = 10


@dataclass(frozen=True, slots=True)
class RuleReport:
    """What became of one rule's answers.

    Attributes
    ----------
    name, grader : str
    n_rows, n_judged : int
        Answers that the rule is for, and those that got a quality.
    mean_quality : float or None
        Of those judged.
    unjudged : dict
        Why the others got none, and how many; the most frequent ten reasons.
    position : PositionBias or None
        Of a pairwise judge.
    """

    name: str
    grader: str
    n_rows: int
    n_judged: int
    mean_quality: float | None
    unjudged: dict[str, int]
    position: PositionBias | None = None


@dataclass(frozen=True, slots=True)
class JudgeResult:
    """Judged traffic.

    Attributes
    ----------
    traffic : DataFrame
        The table in the schema's columns, with quality filled in.
    grades : DataFrame
        One row for each answer that a rule is for: ``prompt_id``, ``model``, ``rule``, ``quality``, ``reason``,
        ``n_votes``, and ``vote_sd``, the standard deviation of the single votes (null where there are fewer than two).
    rules : tuple of RuleReport
    n_kept, n_unmatched : int
        Answers left as they were because they had a quality, and because no rule is for them or they hold no text.
    spent_usd : float
        What LLM judges cost in this run; calls that got no answer count at the most that they can have cost.
    """

    traffic: pl.DataFrame
    grades: pl.DataFrame
    rules: tuple[RuleReport, ...]
    n_kept: int
    n_unmatched: int
    spent_usd: float

    def summary(self) -> str:
        """The counts, one line for each rule."""
        lines = [
            f"{self.grades.height:,} answers judged or tried, {self.n_kept:,} had a quality, {self.n_unmatched:,} without a rule or a text; ${self.spent_usd:.4f} spent"
        ]
        for rule in self.rules:
            mean = "" if rule.mean_quality is None else f", mean quality {rule.mean_quality:.3f}"
            lines.append(f"{rule.name} ({rule.grader}): {rule.n_judged:,} of {rule.n_rows:,} judged{mean}")
            lines += [f"  not judged: {n:,} x {why}" for why, n in rule.unjudged.items()]
            if rule.position is not None:
                lines.append(
                    f"  verdicts that turn with the order: {rule.position.flips}; first preferred: {rule.position.first}"
                )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The counts as plain values."""
        return {
            "rules": [asdict(rule) for rule in self.rules],
            "n_kept": self.n_kept,
            "n_unmatched": self.n_unmatched,
            "spent_usd": self.spent_usd,
        }


def report_rule(name: str, grader: str, grades: Sequence[Grade]) -> RuleReport:
    """Sum up a rule's grades."""
    qualities = [g.quality for g in grades if g.quality is not None]
    ordered = [pair for g in grades for pair in g.ordered]
    return RuleReport(
        name=name,
        grader=grader,
        n_rows=len(grades),
        n_judged=len(qualities),
        mean_quality=sum(qualities) / len(qualities) if qualities else None,
        unjudged=dict(Counter(g.reason for g in grades if g.quality is None).most_common(_N_REASONS)),
        position=position_bias(ordered) if ordered else None,
    )
