"""Stacking: several learners, weighted by how well they do on prompts they weren't fitted to, and shrunk towards the means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from router_ml.graph.builder import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.learners.base import (
    Learner,
    bounded_logit,
    difference_rows,
    logits_to_graph,
    tier_means,
)
from router_ml.learning.targets import Scores, Targets, expit

__all__ = ["StackLearner", "out_of_fold"]


class StackLearner(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A tier's mean, plus what each base learner expects beyond that mean, times the learner's weight.

    The weights are >= 0 and the same for all tiers: of `quality` and `meets` those of least squared error of differences
    between tiers, which the choice of a tier hangs on; of tokens those of least squared error of logarithms; both on
    out-of-fold predictions. Weights that add up to less than 1 shrink towards the means, and so, where little can be learned,
    towards the best constant policy.

    Parameters
    ----------
    bases : sequence of str
        Names of the base learners, as :func:`router_ml.learning.learners.make_learner` takes them. Of several encoders :meth:`tune`
        puts each base there once for each encoder (those that learn from words, too, for the first only).
    base_params : mapping, optional
        Settings of each; :meth:`tune` chooses them.
    weights : mapping of str to sequence of float, optional
        Weights of the bases for ``"meets"``, ``"quality"`` and ``"log_tokens"``; equal ones where not given.
    random_state : int

    References
    ----------
    Breiman: Stacked regressions (1996), doi:10.1007/BF00117832, for non-negative weights on cross-validated predictions.
    """

    def __init__(
        self,
        bases: Sequence[str] = ("ngram", "logistic", "knn"),
        base_params: Mapping[str, Mapping[str, Any]] | None = None,
        weights: Mapping[str, Sequence[float]] | None = None,
        random_state: int = 0,
    ) -> None:
        self.bases = bases
        self.base_params = base_params
        self.weights = weights
        self.random_state = random_state

    def make_parts(self) -> dict[str, Learner]:
        """The base learners, unfitted."""
        from router_ml.learning.learners.registry import make_learner

        settings = self.base_params or {}
        return {
            name: make_learner(name, **{"random_state": self.random_state, **settings.get(name, {})})
            for name in self.bases
        }

    def tune(self, X: Inputs, targets: Targets, folds: NDArray[np.intp]) -> Self:
        """Tune each base, by each encoder, then choose the weights."""
        untuned: Self = clone(self).set_params(bases=_by_encoder(self.bases, X.n_encoders))
        parts = {name: part.tune(X, targets, folds) for name, part in untuned.make_parts().items()}
        scores = [out_of_fold(part, X, targets, folds) for part in parts.values()]
        prior = np.zeros((len(X), 3 * targets.n_tiers))
        for fold in np.unique(folds):
            prior[folds == fold] = tier_means(targets.take(folds != fold))
        means = dict(zip(("meets", "quality", "log_tokens"), np.split(prior, 3, axis=1), strict=True))
        outcomes = {"meets": targets.meets, "quality": targets.quality, "log_tokens": np.log1p(targets.output_tokens)}
        # Where no prompt was answered by two tiers there are no differences, and pseudo-outcomes are too noisy to weigh by.
        shares = np.ravel if np.isnan(difference_rows(targets.quality)).all() else difference_rows
        rows: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
            "meets": shares,
            "quality": shares,
            "log_tokens": np.ravel,
        }
        weights = {
            name: _weights([_natural(s, name) for s in scores], means[name], outcomes[name], rows[name])
            for name in means
        }
        tuned: Self = untuned.set_params(
            base_params={name: part.get_params() for name, part in parts.items()},  # type: ignore[attr-defined]
            weights=weights,
        )
        return tuned

    def fit(self, X: Inputs, targets: Targets) -> Self:
        """Fit each base."""
        self.parts_ = {name: part.fit(X, targets) for name, part in self.make_parts().items()}
        self.prior_ = tier_means(targets)
        return self

    def predict(self, X: Inputs) -> Scores:
        """Scores for n prompts."""
        parts = [part.predict(X) for part in self._weighed_parts()]
        naturals = [np.hstack([_natural(s, name) for name in ("meets", "quality", "log_tokens")]) for s in parts]
        matrix, intercept = self._combination()
        meets, quality, log_tokens = np.split(np.hstack(naturals) @ matrix + intercept, 3, axis=1)
        return Scores(bounded_logit(meets), bounded_logit(quality), log_tokens)

    def to_graph(self, graph: Graph, x: InputNames) -> str:
        """The bases, and one product."""
        n_tiers = len(self.prior_) // 3
        naturals = []
        for part in self._weighed_parts():
            shares, log_tokens = graph.split(part.to_graph(graph, x), 2 * n_tiers, n_tiers)
            naturals += [graph.node("Sigmoid", shares), log_tokens]
        combined = graph.linear(graph.node("Concat", *naturals, axis=1), *self._combination())
        return logits_to_graph(graph, *graph.split(combined, 2 * n_tiers, n_tiers))

    def _columns(self) -> NDArray[np.float64]:
        """The weights of `meets`, `quality` and `log_tokens` [3, K]."""
        equal = [1 / len(self.bases)] * len(self.bases)
        return np.array([(self.weights or {}).get(name, equal) for name in ("meets", "quality", "log_tokens")])

    def _weighed(self) -> NDArray[np.intp]:
        """Which bases have a weight at all: the others needn't be asked. The first stands for all where none has."""
        found = np.flatnonzero(self._columns().any(axis=0))
        return found if len(found) else np.zeros(1, dtype=np.intp)

    def _weighed_parts(self) -> list[Learner]:
        return [self.parts_[self.bases[i]] for i in self._weighed()]

    def _combination(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The weights of those that have one as a matrix [K 3 T, 3 T], and the intercept [3 T]."""
        n_tiers = len(self.prior_) // 3
        per_base = np.repeat(self._columns()[:, self._weighed()], n_tiers, axis=0).T
        return np.vstack([np.diag(w) for w in per_base]), self.prior_ * (1 - per_base.sum(axis=0))


_OF_WORDS = ("ngram", "ordinal")
"""Learners that go by the words first, which all encoders share."""


def _by_encoder(bases: Sequence[str], n_encoders: int) -> tuple[str, ...]:
    """Each base by each encoder; those that name one themselves stay as they are."""
    if n_encoders == 1:
        return tuple(bases)
    numbered = ((base, k) for k in range(1, n_encoders + 1) for base in bases)
    plain = tuple(f"{base}@{k}" for base, k in numbered if "@" not in base and (k == 1 or base not in _OF_WORDS))
    return (*plain, *(base for base in bases if "@" in base))


def out_of_fold(learner: Learner, X: Inputs, targets: Targets, folds: NDArray[np.intp]) -> Scores:
    """Scores of each prompt by a copy of the learner that was fitted without its fold."""
    scores = Scores(*(np.zeros_like(targets.meets) for _ in range(3)))
    for fold in np.unique(folds):
        out = folds == fold
        fitted = clone(learner).fit(X[~out], targets.take(~out)).predict(X[out])
        for name in ("meets", "quality", "log_tokens"):
            getattr(scores, name)[out] = getattr(fitted, name)
    return scores


def _weights(
    predicted: Sequence[NDArray[np.float64]],
    prior: NDArray[np.float64],
    outcome: NDArray[np.float64],
    rows: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> list[float]:
    from scipy.optimize import nnls

    wanted = rows(outcome - prior)
    known = ~np.isnan(wanted)
    if not known.any():
        return [1 / len(predicted)] * len(predicted)
    design = np.column_stack([rows(p - prior) for p in predicted])
    weights, _ = nnls(design[known], wanted[known])
    return [float(w) for w in weights]


def _natural(scores: Scores, name: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = getattr(scores, name)
    return values if name == "log_tokens" else expit(values)
