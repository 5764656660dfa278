"""A program that has to pass unit tests."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from router_ml.errors import InputError
from router_ml.judge.graders.fences import fenced
from router_ml.judge.grading import Grade, Grader, Item, Means
from router_ml.judge.sandbox import Limits, run_tests

__all__ = ["PythonTests", "programs"]

_MARKED = re.compile(r"\[PYTHON\]\n?(.*?)\n?(?:\[/PYTHON\]|\Z)", re.DOTALL)


def programs(answer: str) -> list[str]:
    r"""The blocks of Python in an answer, fenced or between Code Llama's ``[PYTHON]`` marks, in order, or else all of it.

    >>> programs("Like this:\n```python\nx = 1\n```\nThere.")
    ['x = 1']
    """
    return fenced(answer, "python", "python3", "py") or _MARKED.findall(answer) or [answer]


@dataclass(frozen=True)
class PythonTests(Grader):
    """Whether, or how far, the answer's program passes the tests that the reference holds.

    The program is all blocks of Python in the answer, run one after the other. One that fails (an example of use, what
    it prints) is passed over as long as another works.

    Runs code that a model wrote: only where ``judge.yaml`` says ``allow_code_execution: true``. What is done to keep it
    in bounds, and what isn't, stands in :mod:`router_ml.judge.sandbox`.

    Parameters
    ----------
    partial : bool
        Quality is the share of tests passed, instead of 1 where all passed and else 0.
    limits : Limits
        What a program may use.
    concurrency : int
        Programs run at the same time.
    """

    kind: ClassVar[str] = "python_tests"
    batch: ClassVar[int] = 64

    partial: bool = False
    limits: Limits = Limits()  # noqa: RUF009  (frozen)
    concurrency: Annotated[int, Ge(1), Le(64)] = min(4, os.cpu_count() or 1)

    def check(self, means: Means) -> None:
        """Raise InputError where running code isn't allowed."""
        if not means.allow_code_execution:
            raise InputError(
                "The grader 'python_tests' runs programs that models wrote, and judge.yaml doesn't allow it. Read what "
                "router_ml.judge.sandbox protects from, then set allow_code_execution: true."
            )

    def grade_all(self, items: Sequence[Item], means: Means) -> Iterator[Grade]:
        """Grade answers, in order."""
        self.check(means)
        with ThreadPoolExecutor(self.concurrency) as pool:
            yield from pool.map(self._grade, items)

    def _grade(self, item: Item) -> Grade:
        outcome = run_tests(programs(item.response), item.reference or "", self.limits)
        if not outcome.tests_usable:
            return Grade(None, f"the reference isn't Python: {outcome.error}")
        if outcome.n_tests == 0:
            return Grade(0.0, outcome.error) if outcome.error else Grade(None, "the reference holds no test")
        share = outcome.n_passed / outcome.n_tests
        quality = share if self.partial else float(outcome.n_passed == outcome.n_tests)
        return Grade(quality, f"{outcome.n_passed} of {outcome.n_tests} tests passed. {outcome.error}".strip())
