"""Distillation: a student of static speed learns what a slower teacher expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from router_ml.graph.builder import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.learners.base import Learner
from router_ml.learning.learners.ngram import NgramLearner
from router_ml.learning.learners.stack import out_of_fold
from router_ml.learning.targets import Scores, Targets, expit

__all__ = ["DistilledLearner"]


class DistilledLearner(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An `ngram` learner fitted to a teacher's soft labels; the graph holds the student alone.

    A soft label is what the teacher, fitted without the prompt, expects of a tier: it has none of the noise of a single
    sampled answer, and there is one for tiers that never answered the prompt, and for prompts that nobody answered:
    `unlabelled`, and rows of the targets that are NaN throughout. Of several encoders the student reads the first alone: the
    others, be they slow or far away, teach, and aren't part of the artifact.

    Parameters
    ----------
    teacher : str
        Name of the teacher.
    teacher_params : mapping, optional
        Its settings; :meth:`tune` chooses them.
    alpha : float
        Regularisation of the student (:class:`NgramLearner`): little, since its labels have little noise.
    n_folds : int
        Folds that the teacher's labels are made with.
    random_state : int
    unlabelled : Inputs, optional
        Further prompts for the student to learn from.

    References
    ----------
    Hinton, Vinyals, Dean: Distilling the knowledge in a neural network (2015), arXiv 1503.02531.
    """

    def __init__(
        self,
        teacher: str = "stack",
        teacher_params: Mapping[str, Any] | None = None,
        alpha: float = 0.3,
        n_folds: int = 5,
        random_state: int = 0,
        unlabelled: Inputs | None = None,
    ) -> None:
        self.teacher = teacher
        self.teacher_params = teacher_params
        self.alpha = alpha
        self.n_folds = n_folds
        self.random_state = random_state
        self.unlabelled = unlabelled

    def _teacher(self) -> Learner:
        from router_ml.learning.learners.registry import make_learner

        return make_learner(self.teacher, **{"random_state": self.random_state, **(self.teacher_params or {})})

    def tune(self, X: Inputs, targets: Targets, folds: NDArray[np.intp]) -> Self:
        """Tune the teacher."""
        labelled = _labelled(targets)
        tuned_teacher: Any = self._teacher().tune(X[labelled], targets.take(labelled), folds[labelled])
        tuned: Self = clone(self).set_params(teacher_params=tuned_teacher.get_params())
        return tuned

    def fit(self, X: Inputs, targets: Targets) -> Self:
        """Label the prompts by the teacher, and fit the student to that."""
        X, targets = self._with_unlabelled(X, targets)
        labelled = _labelled(targets)
        teacher, known, outcomes = self._teacher(), X[labelled], targets.take(labelled)
        folds = np.random.default_rng(self.random_state).permutation(len(known)) % self.n_folds
        soft = np.zeros((len(X), 3 * targets.n_tiers))
        soft[labelled] = _natural(out_of_fold(teacher, known, outcomes, folds))
        if not labelled.all():
            soft[~labelled] = _natural(teacher.fit(known, outcomes).predict(X[~labelled]))
        meets, quality, tokens = np.split(soft, 3, axis=1)
        student = NgramLearner(self.alpha)
        self.parts_ = {
            "student": student.fit(X.of_encoder(0), Targets(meets, quality, tokens, np.full_like(tokens, np.nan)))
        }
        return self

    def _with_unlabelled(self, X: Inputs, targets: Targets) -> tuple[Inputs, Targets]:
        if self.unlabelled is None:
            return X, targets
        unknown = np.full((len(self.unlabelled), targets.n_tiers), np.nan)
        tables = (np.vstack([getattr(targets, f.name), unknown]) for f in fields(targets))
        features = np.vstack([X.features, self.unlabelled.features])
        return Inputs(features, [*X.tokens, *self.unlabelled.tokens], X.widths), Targets(*tables)

    def make_parts(self) -> dict[str, Learner]:
        """The student, unfitted."""
        return {"student": NgramLearner(self.alpha)}

    def predict(self, X: Inputs) -> Scores:
        """The student's scores for n prompts."""
        return self.parts_["student"].predict(X.of_encoder(0))

    def to_graph(self, graph: Graph, x: InputNames) -> str:
        """The student's graph."""
        return self.parts_["student"].to_graph(graph, x.of_encoder(0))


def _labelled(targets: Targets) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(np.hstack([targets.meets, targets.quality])).all(axis=1))


def _natural(scores: Scores) -> NDArray[np.float64]:
    return np.hstack([expit(scores.meets), expit(scores.quality), np.expm1(scores.log_tokens)])
