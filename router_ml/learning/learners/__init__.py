"""Learners: from features to scores per tier."""

from __future__ import annotations

from router_ml.learning.learners.base import Learner
from router_ml.learning.learners.registry import LEARNERS, make_learner

__all__ = ["LEARNERS", "Learner", "make_learner"]
