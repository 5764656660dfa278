"""An LLM judge that compares an answer with the top tier's, in both orders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from router_ml.judge.grading import Grade, Item, Means
from router_ml.judge.llm import Ballot, LLMGrader, Vote, ask
from router_ml.judge.prompts import PAIRWISE_RUBRIC, pairwise_messages, verdict_format

__all__ = ["Pairwise"]

_AS_FIRST = {"first": 1.0, "tie": 0.5, "second": 0.0}


@dataclass(frozen=True)
class Pairwise(LLMGrader):
    """Quality 1 where the answer beats the top tier's, 0.5 for a tie, 0 where it loses; the mean over orders and votes.

    The top tier's own answers get 0.5 without a call, so that a bar of 0.5, or of 1.0x with the top tier as the
    reference, asks for an answer no worse than the top tier's.

    Parameters
    ----------
    against : str, optional
        The top tier's model, as the traffic names it; without it, the one that :func:`judge_traffic` is told.
    """

    kind: ClassVar[str] = "llm_pairwise"
    needs_reference: ClassVar[bool] = False

    against: str | None = None

    def grade_all(self, items: Sequence[Item], means: Means) -> Iterator[Grade]:
        """Grade answers, in order."""
        compared = [item for item in items if not item.is_top and item.rival is not None]
        verdict = verdict_format("better", ["first", "second", "tie"])
        ballots = [
            Ballot(self.request(self._messages(item, answer_first), verdict), vote)
            for item in compared
            for vote in range(self.votes)
            for answer_first in (True, False)
        ]
        votes = iter(ask(ballots, self, means))
        for item in items:
            if item.is_top:
                yield Grade(0.5, "the top tier's own answer")
            elif item.rival is None:
                yield Grade(None, "the top tier's answer to this prompt is missing")
            else:
                yield _grade([(next(votes), next(votes)) for _ in range(self.votes)])

    def _messages(self, item: Item, answer_first: bool) -> list[dict[str, str]]:
        pair = (item.response, item.rival or "")
        first, second = pair if answer_first else pair[::-1]
        return pairwise_messages(
            item.prompt,
            first,
            second,
            item.reference,
            rubric=self.rubric or PAIRWISE_RUBRIC,
            max_chars=self.max_chars,
        )


def _grade(votes: Sequence[tuple[Vote, Vote]]) -> Grade:
    # A vote of which one order is lacking is dropped: alone, it would carry the judge's taste for a position.
    pairs = [(a.verdict, b.verdict) for a, b in votes if a.verdict is not None and b.verdict is not None]
    if not pairs:
        return Grade(None, next(v.error for pair in votes for v in pair if v.verdict is None))
    ordered = tuple((a["better"], b["better"]) for a, b in pairs)
    scores = tuple((_AS_FIRST[a] + 1 - _AS_FIRST[b]) / 2 for a, b in ordered)
    return Grade(sum(scores) / len(scores), pairs[0][0]["reasoning"][:500], scores, ordered)
