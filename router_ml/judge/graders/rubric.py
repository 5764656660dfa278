"""An LLM judge that scores an answer by a rubric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from router_ml.judge.grading import Grade, Item, Means
from router_ml.judge.llm import Ballot, LLMGrader, Vote, ask
from router_ml.judge.prompts import RUBRIC, rubric_messages, verdict_format

__all__ = ["Rubric"]


@dataclass(frozen=True)
class Rubric(LLMGrader):
    """Quality (score - 1) / (levels - 1), the mean over the votes; the judge is shown the reference where there is one.

    Parameters
    ----------
    levels : int
        The highest score.
    """

    kind: ClassVar[str] = "llm_rubric"
    needs_reference: ClassVar[bool] = False

    levels: Annotated[int, Ge(2), Le(100)] = 5

    def grade_all(self, items: Sequence[Item], means: Means) -> Iterator[Grade]:
        """Grade answers, in order."""
        verdict = verdict_format("score", list(range(1, self.levels + 1)))
        ballots = [
            Ballot(self.request(self._messages(item), verdict), vote) for item in items for vote in range(self.votes)
        ]
        votes = ask(ballots, self, means)
        for i in range(len(items)):
            yield self._grade(votes[i * self.votes : (i + 1) * self.votes])

    def _messages(self, item: Item) -> list[dict[str, str]]:
        return rubric_messages(
            item.prompt,
            item.response,
            item.reference,
            rubric=self.rubric or RUBRIC,
            levels=self.levels,
            max_chars=self.max_chars,
        )

    def _grade(self, votes: Sequence[Vote]) -> Grade:
        given = [v.verdict for v in votes if v.verdict is not None]
        if not given:
            return Grade(None, votes[0].error)
        scores = tuple((v["score"] - 1) / (self.levels - 1) for v in given)
        return Grade(sum(scores) / len(scores), given[0]["reasoning"][:500], scores)
