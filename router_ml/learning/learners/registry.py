"""Learners by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from router_ml._plugins import Plugins
from router_ml.errors import InputError
from router_ml.learning.learners.base import Learner
from router_ml.learning.learners.constant import ConstantLearner
from router_ml.learning.learners.distilled import DistilledLearner
from router_ml.learning.learners.knn import KNNLearner
from router_ml.learning.learners.logistic import LogisticLearner
from router_ml.learning.learners.mlp import MLPLearner
from router_ml.learning.learners.ngram import NgramLearner
from router_ml.learning.learners.one_encoder import OneEncoderLearner
from router_ml.learning.learners.ordinal import OrdinalLearner
from router_ml.learning.learners.pooled import PooledLearner
from router_ml.learning.learners.stack import StackLearner

__all__ = ["LEARNERS", "make_learner"]

LEARNERS: Mapping[str, Callable[..., Learner]] = Plugins(
    "router_ml.learners",
    {
        "logistic": LogisticLearner,
        "knn": KNNLearner,
        "mlp": MLPLearner,
        "ngram": NgramLearner,
        "ordinal": OrdinalLearner,
        "pooled": PooledLearner,
        "stack": StackLearner,
        "distilled": DistilledLearner,
        "constant": ConstantLearner,
    },
)
"""Every learner by name: ours, then those of entry points in the group ``router_ml.learners``."""


def make_learner(name: str, **params: Any) -> Learner:
    """Make a learner; params that it doesn't have are an error, save ``random_state``, ``on_epoch`` and ``unlabelled``, which not all have.

    ``NAME@K`` is the learner on the K-th of several encoders alone, from 1.
    """
    inner, at, number = name.partition("@")
    if at and inner in LEARNERS and number.isdecimal() and int(number) > 0:
        return OneEncoderLearner(**{"learner": inner, "encoder": int(number) - 1, **params})
    if name not in LEARNERS:
        raise InputError(f"There is no learner {name!r}; choose from {', '.join(LEARNERS)}.")
    accepted = LEARNERS[name]().get_params()  # type: ignore[attr-defined]
    common = {k: v for k, v in params.items() if k in accepted or k not in ("random_state", "on_epoch", "unlabelled")}
    unknown = sorted(set(common) - set(accepted))
    if unknown:
        raise InputError(f"The learner {name!r} has no parameter {unknown}; it has {sorted(accepted)}.")
    return LEARNERS[name](**common)
