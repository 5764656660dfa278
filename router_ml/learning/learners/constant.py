"""The constant: each tier's mean, whatever the prompt; what is left where nothing can be learned."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from router_ml.graph.builder import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.learners.base import bounded_logit, tier_means
from router_ml.learning.targets import Scores, Targets

__all__ = ["ConstantLearner"]


class ConstantLearner(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Expects of each tier what it did on average; all that a router made of it sees of a prompt is its length, by what calls then cost."""

    def tune(self, X: Inputs, targets: Targets, folds: NDArray[np.intp]) -> Self:  # noqa: ARG002
        """An unfitted copy: there is nothing to choose."""
        copy: Self = clone(self)
        return copy

    def fit(self, X: Inputs, targets: Targets) -> Self:
        """Take the means."""
        self.n_features_ = X.features.shape[1]
        meets, quality, log_tokens = np.split(tier_means(targets), 3)
        self.scores_ = np.concatenate([bounded_logit(meets), bounded_logit(quality), log_tokens])
        return self

    def predict(self, X: Inputs) -> Scores:
        """Scores for n prompts, the same for all."""
        return Scores(*np.split(np.tile(self.scores_, (len(X), 1)), 3, axis=1))

    def to_graph(self, graph: Graph, x: InputNames) -> str:
        """A product with zeros, which has the right shape."""
        return graph.linear(x.features, np.zeros((self.n_features_, len(self.scores_))), self.scores_)
