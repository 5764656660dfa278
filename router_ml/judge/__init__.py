"""Judging answers: graders by kind, an LLM judge, its agreement with people, and its noise carried into labels."""

from __future__ import annotations

from router_ml.judge.agreement import Agreement, agree_with_labels, agreement, labelled_answers
from router_ml.judge.config import JudgeConfig, Rule
from router_ml.judge.grading import Grade, Grader, Item, Means
from router_ml.judge.judge import judge_traffic
from router_ml.judge.noise import Margin, margin_from_labels, margin_from_votes
from router_ml.judge.position import PositionBias, position_bias
from router_ml.judge.registry import GRADERS, build_grader
from router_ml.judge.result import JudgeResult, RuleReport

__all__ = [
    "GRADERS",
    "Agreement",
    "Grade",
    "Grader",
    "Item",
    "JudgeConfig",
    "JudgeResult",
    "Margin",
    "Means",
    "PositionBias",
    "Rule",
    "RuleReport",
    "agree_with_labels",
    "agreement",
    "build_grader",
    "judge_traffic",
    "labelled_answers",
    "margin_from_labels",
    "margin_from_votes",
    "position_bias",
]
