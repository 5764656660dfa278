"""What a grader is given, what it gives back, and how its settings are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from router_ml.judge.budget import Budget
from router_ml.judge.cache import VoteCache
from router_ml.judge.settings import STRICT, read_settings

__all__ = ["Embed", "Grade", "Grader", "Item", "Means"]

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Turns n texts into vectors [n, d]."""


@dataclass(frozen=True, slots=True)
class Item:
    """One answer to grade.

    Attributes
    ----------
    prompt, model, response : str
        A row of the traffic table.
    reference : str or None
        What the rule's reference column holds for the prompt: an answer, unit tests, a schema.
    rival : str or None
        The top tier's answer to the same prompt; the answer itself where it is the top tier's.
    is_top : bool
        The answer is the top tier's.
    """

    prompt: str
    model: str
    response: str
    reference: str | None = None
    rival: str | None = None
    is_top: bool = False


@dataclass(frozen=True, slots=True)
class Grade:
    """What a grader made of an answer.

    Attributes
    ----------
    quality : float or None
        In [0, 1]; None: it couldn't be judged.
    reason : str
        Why, for who looks into it; may be empty.
    votes : tuple of float
        The single votes that `quality` is the mean of; empty where a grader doesn't vote.
    ordered : tuple of (str, str)
        Pairwise verdicts (answer first, rival first), each ``"first"``, ``"second"`` or ``"tie"``.
    """

    quality: float | None
    reason: str = ""
    votes: tuple[float, ...] = ()
    ordered: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Means:
    """What graders may use: each is there only where the caller gave it.

    Attributes
    ----------
    embed : Embed or None
        For the grader ``similarity``.
    budget : Budget
        What the judges may spend, together.
    cache : VoteCache
        Verdicts that were paid for.
    allow_code_execution : bool
        Whether answers may be run as programs.
    """

    budget: Budget = field(default_factory=lambda: Budget(0.0))
    cache: VoteCache = field(default_factory=VoteCache)
    embed: Embed | None = None
    allow_code_execution: bool = False


@dataclass(frozen=True)
class Grader(ABC):
    """A grader: its fields are its settings, checked by :meth:`from_settings`."""

    kind: ClassVar[str]
    """Its name in ``judge.yaml``."""
    needs_reference: ClassVar[bool] = True
    """Whether an answer without a reference can't be graded."""
    batch: ClassVar[int] = 1024
    """Answers that it is handed at once; progress is told after each batch."""
    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build the grader from plain values; raises InputError naming each setting that is wrong."""
        return read_settings(cls, settings, f"the grader {cls.kind!r}")

    def check(self, means: Means) -> None:  # noqa: B027  (most graders need nothing)
        """Raise InputError where something that the grader needs isn't there; called before any answer is graded."""

    @abstractmethod
    def grade_all(self, items: Sequence[Item], means: Means) -> Iterator[Grade]:
        """Grade answers, in order."""


@dataclass(frozen=True)
class SingleGrader(Grader):
    """A grader that looks at one answer at a time and needs nothing else."""

    @abstractmethod
    def grade(self, item: Item) -> Grade:
        """Grade one answer."""

    def grade_all(self, items: Sequence[Item], means: Means) -> Iterator[Grade]:  # noqa: ARG002
        """Grade answers, in order."""
        return map(self.grade, items)
