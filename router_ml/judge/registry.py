"""The graders by the names that ``judge.yaml`` gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router_ml.errors import InputError
from router_ml.judge.graders.choice import MultipleChoice
from router_ml.judge.graders.code import PythonTests
from router_ml.judge.graders.json_schema import JsonSchema
from router_ml.judge.graders.match import ExactMatch, NormalisedMatch
from router_ml.judge.graders.numeric import Numeric
from router_ml.judge.graders.pairwise import Pairwise
from router_ml.judge.graders.pattern import Pattern
from router_ml.judge.graders.rubric import Rubric
from router_ml.judge.graders.similarity import Similarity
from router_ml.judge.grading import Grader

__all__ = ["GRADERS", "build_grader"]

GRADERS: dict[str, type[Grader]] = {
    grader.kind: grader
    for grader in (
        ExactMatch,
        NormalisedMatch,
        Pattern,
        Numeric,
        MultipleChoice,
        JsonSchema,
        PythonTests,
        Similarity,
        Rubric,
        Pairwise,
    )
}
"""Grader classes by kind."""


def build_grader(kind: str, settings: Mapping[str, Any]) -> Grader:
    """Build a grader from its kind and settings; raises InputError where either is wrong."""
    if kind not in GRADERS:
        raise InputError(f"There is no grader {kind!r}; choose from {', '.join(GRADERS)}.")
    return GRADERS[kind].from_settings(settings)
