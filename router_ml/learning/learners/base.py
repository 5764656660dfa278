"""The protocol that learners keep, and what they share."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from router_ml.learning.graph import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.targets import Scores, Targets, logit

__all__ = ["Learner", "mean_log_tokens", "shrunken_logit"]


class Learner(Protocol):
    """Learns scores per tier from features; a scikit-learn estimator (``get_params``, fitted state ends in ``_``).

    What is fitted are arrays and numbers only, so that it can be stored without pickle.
    """

    def tune(self, X: Inputs, targets: Targets, folds: NDArray[np.intp]) -> Self:
        """An unfitted copy with its hyperparameters chosen by cross-validation over the given folds [n]."""
        ...

    def fit(self, X: Inputs, targets: Targets) -> Self:
        """Learn from n prompts; cells that are NaN in the targets are left out."""
        ...

    def predict(self, X: Inputs) -> Scores:
        """Scores for n prompts."""
        ...

    def to_graph(self, graph: Graph, x: InputNames) -> str:
        """Add the fitted learner to a graph, from inputs to scores [n, 3 T]: `meets`, `quality`, `log_tokens`."""
        ...


def shrunken_logit(y: NDArray[np.float64]) -> float:
    """Logit of a mean in [0, 1], with one success and one failure added (Laplace), for tiers with too little to learn from."""
    return float(logit(np.array((y.sum() + 1) / (len(y) + 2))))


def mean_log_tokens(tokens: NDArray[np.float64]) -> float:
    """Logarithm of the mean token count, at least of one token; 0 where none was logged."""
    return float(np.log(max(tokens.mean(), 1.0))) if len(tokens) else 0.0
