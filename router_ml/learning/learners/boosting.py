"""Gradient-boosted trees per tier: thresholds and interactions of features, which no line has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn._loss import HalfBinomialLoss
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import HistGradientBoostingRegressor

from router_ml.learning.graph import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.learners.base import (
    log_loss,
    mean_log_tokens,
    nothing_to_separate,
    poisson_loss,
    shrunken_logit,
    too_few,
)
from router_ml.learning.targets import Scores, Targets
from router_ml.learning.trees import Trees

__all__ = ["BoostingLearner"]

_ARRAYS = tuple(f.name for f in fields(Trees))


@dataclass(frozen=True, slots=True)
class _Sum:
    """A score: `base`, and what each of the trees says."""

    base: float
    trees: Trees

    @classmethod
    def of(cls, model: Any, X: NDArray[np.float32], offset: float = 0.0) -> _Sum:
        """What a scikit-learn model fitted on X sums, and an offset."""
        return cls(float(np.ravel(model._baseline_prediction)[0]) + offset, Trees.of(model).with_margins(X))


class BoostingLearner(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Three sums of small regression trees per tier (Friedman 2001, doi:10.1214/aos/1013203451), grown by histograms.

    ``meets`` and ``quality``: log loss, of fractional qualities too (quasi-likelihood; Papke and Wooldridge 1996,
    doi:10.1002/(SICI)1099-1255(199611)11:6<619). ``output_tokens``: Poisson loss. Where quality is what `meets` is, and as many
    trees are wanted of both, they share their trees.

    Parameters
    ----------
    n_meets, n_quality, n_tokens : int
        Trees of each kind of target, >= 1.
    learning_rate : float
        Share of each tree that is added, in (0, 1].
    max_leaf_nodes : int
        Leaves of a tree, >= 2.
    min_samples_leaf : int
        Answers that a leaf rests on, at the least.
    l2 : float
        Added to the curvature of each leaf, in answers; pulls small leaves to zero.
    max_features : float
        Share of the features that each split is chosen from, at random, in (0, 1].
    random_state : int
        Seeds that choice.
    """

    max_trees = 200

    def __init__(
        self,
        n_meets: int = 60,
        n_quality: int = 60,
        n_tokens: int = 100,
        learning_rate: float = 0.05,
        max_leaf_nodes: int = 8,
        min_samples_leaf: int = 25,
        l2: float = 1.0,
        max_features: float = 0.3,
        random_state: int = 0,
    ) -> None:
        self.n_meets = n_meets
        self.n_quality = n_quality
        self.n_tokens = n_tokens
        self.learning_rate = learning_rate
        self.max_leaf_nodes = max_leaf_nodes
        self.min_samples_leaf = min_samples_leaf
        self.l2 = l2
        self.max_features = max_features
        self.random_state = random_state

    def tune(self, X: Inputs, targets: Targets, folds: NDArray[np.intp]) -> Self:
        """Choose the number of trees of each kind, up to 200, by log loss and Poisson loss out of fold, over all tiers."""
        n_meets = self._best_n_trees(X.features, targets.meets, targets.weight, folds, self._probability, log_loss)
        n_quality = n_meets
        if not _same(targets):
            n_quality = self._best_n_trees(
                X.features, targets.quality, targets.weight, folds, self._probability, log_loss
            )
        n_tokens = self._best_n_trees(
            X.features, targets.output_tokens, targets.weight, folds, self._count, poisson_loss
        )
        tuned: Self = clone(self).set_params(n_meets=n_meets, n_quality=n_quality, n_tokens=n_tokens)
        return tuned

    def fit(self, X: Inputs, targets: Targets) -> Self:
        """Grow the trees of each tier on the prompts that it answered."""
        tiers = [(t, targets.weight[:, t]) for t in range(targets.n_tiers)]
        sums = [self._probability(X.features, targets.meets[:, t], w, self.n_meets) for t, w in tiers]
        shared = _same(targets) and self.n_meets == self.n_quality
        if not shared:
            sums += [self._probability(X.features, targets.quality[:, t], w, self.n_quality) for t, w in tiers]
        sums += [self._count(X.features, targets.output_tokens[:, t], w, self.n_tokens) for t, w in tiers]
        trees = Trees.join([s.trees for s in sums])
        for name in _ARRAYS:
            setattr(self, f"{name}_", getattr(trees, name))
        self.sum_of_tree_ = np.repeat(np.arange(len(sums)), [len(s.trees.root) for s in sums])
        numbers = np.arange(len(sums)).reshape(-1, targets.n_tiers)
        self.sum_of_score_ = numbers[[0, 0, 1] if shared else [0, 1, 2]].ravel()
        self.base_ = np.array([s.base for s in sums])
        return self

    def predict(self, X: Inputs) -> Scores:
        """Scores for n prompts."""
        trees, ends = self._trees(), np.searchsorted(self.sum_of_tree_, np.arange(len(self.base_) + 1))
        sums = [trees.leaves(X.features, slice(*ends_of_sum)).sum(axis=1) for ends_of_sum in pairwise(ends)]
        return Scores(*np.split((np.column_stack(sums) + self.base_)[:, self.sum_of_score_], 3, axis=1))

    def to_graph(self, graph: Graph, x: InputNames) -> str:
        """One node that holds all trees."""
        adds_to = self.sum_of_tree_[:, None] == self.sum_of_score_
        return self._trees().to_graph(graph, x.features, self.base_[self.sum_of_score_], adds_to)

    def _trees(self) -> Trees:
        return Trees(*(getattr(self, f"{name}_") for name in _ARRAYS))

    def _probability(
        self, X: NDArray[np.float32], y: NDArray[np.float64], weight: NDArray[np.float64], n_trees: int
    ) -> _Sum:
        """Trees of the logit of outcomes in [0, 1]; NaN rows are left out."""
        tried = ~np.isnan(y)
        X, y, weight = X[tried], y[tried], weight[tried]
        if nothing_to_separate(y):
            return _Sum(shrunken_logit(y, weight), Trees.none())
        # The classifier's loss, which takes fractions where the classifier takes none.
        return _Sum.of(self._model(HalfBinomialLoss(), n_trees).fit(X, y, sample_weight=_unequal(weight)), X)

    def _count(
        self, X: NDArray[np.float32], tokens: NDArray[np.float64], weight: NDArray[np.float64], n_trees: int
    ) -> _Sum:
        """Trees of the logarithm of expected token counts; NaN rows are left out."""
        logged = ~np.isnan(tokens)
        X, tokens, weight = X[logged], tokens[logged], weight[logged]
        if too_few(tokens) or tokens.sum() == 0:
            return _Sum(mean_log_tokens(tokens, weight), Trees.none())
        # By their mean, so that a row's curvature is about 1, as `l2` supposes.
        mean = float(tokens.mean())
        model = self._model("poisson", n_trees).fit(X, tokens / mean, sample_weight=_unequal(weight))
        return _Sum.of(model, X, float(np.log(mean)))

    def _model(self, loss: Any, n_trees: int) -> HistGradientBoostingRegressor:
        return HistGradientBoostingRegressor(
            loss=loss,
            max_iter=n_trees,
            learning_rate=self.learning_rate,
            max_leaf_nodes=self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf,
            l2_regularization=self.l2,
            max_features=self.max_features,
            early_stopping=False,
            random_state=self.random_state,
        )

    def _best_n_trees(
        self,
        X: NDArray[np.float32],
        Y: NDArray[np.float64],
        weight: NDArray[np.float64],
        folds: NDArray[np.intp],
        grow: Callable[[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64], int], _Sum],
        loss: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    ) -> int:
        """The number of trees of least loss on the prompts left out, summed over tiers and folds."""
        total = np.zeros(self.max_trees)
        for fold in np.unique(folds):
            for y, w in zip(Y.T, weight.T, strict=True):
                seen, out = folds != fold, (folds == fold) & ~np.isnan(y)
                if not out.any():
                    continue
                grown = grow(X[seen], y[seen], w[seen], self.max_trees)
                scores = grown.base + grown.trees.leaves(X[out]).cumsum(axis=1)
                losses = [loss(s, y[out]) for s in scores.T]
                # A constant has but one number of trees, which stands for all.
                total += out.sum() * np.broadcast_to(losses, self.max_trees)
        return int(np.argmin(total)) + 1


def _unequal(weight: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The weights, if there are any to speak of: given some, scikit-learn 1.9 spends most of its time on bins (6 of 7 s for 600 rows)."""
    return None if (weight == 1).all() else weight


def _same(targets: Targets) -> bool:
    return np.array_equal(targets.meets, targets.quality, equal_nan=True)
