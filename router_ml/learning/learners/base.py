"""The protocol that learners keep, and what they share."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from router_ml.graph.builder import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.targets import Scores, Targets, logit

__all__ = [
    "P_MIN",
    "Learner",
    "bounded_logit",
    "difference_rows",
    "log_loss",
    "logits_to_graph",
    "mean_log_tokens",
    "nothing_to_separate",
    "poisson_loss",
    "pseudo_table",
    "shrunken_logit",
    "tier_means",
    "too_few",
]

_MIN_ROWS = 10
"""Fewer answers than this of a tier, or of either outcome, and the tier gets a constant: there is nothing to separate."""


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


def shrunken_logit(y: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """Logit of a mean in [0, 1], with one success and one failure added (Laplace), for tiers with too little to learn from."""
    return float(logit(np.array((weight @ y + 1) / (weight.sum() + 2))))


def mean_log_tokens(tokens: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """Logarithm of the mean token count, at least of one token; 0 where none was logged."""
    return float(np.log(max(np.average(tokens, weights=weight), 1.0))) if weight.sum() > 0 else 0.0


def difference_rows(Y: NDArray[np.float64]) -> NDArray[np.float64]:
    """``Y[:, a] - Y[:, b]`` for each pair of tiers, one after the other; Y itself where there is one tier.

    The choice of a tier hangs on differences, and their squared error is far less noisy than an AIQ.
    """
    a, b = np.triu_indices(Y.shape[1], 1)
    return np.ravel(Y if len(a) == 0 else Y[:, a] - Y[:, b])


def pseudo_table(
    outcome: NDArray[np.float64], predicted: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Outcomes [n, T] with nothing missing: predictions out of fold, and where a tier was tried the weighted residual on top.

    What stands for differences between tiers where no prompt was answered by two; see
    :func:`router_ml.evaluation.off_policy.pseudo_outcomes`. `weight` is 1 on average over a tier's answers.
    """
    tried = ~np.isnan(outcome)
    per_answer = len(outcome) / np.maximum(tried.sum(axis=0), 1)
    return np.where(tried, predicted + weight * per_answer * (np.nan_to_num(outcome) - predicted), predicted)


def tier_means(targets: Targets) -> NDArray[np.float64]:
    """Means per tier [3 T], each as if one more prompt had come out like all tiers' mean."""
    values = np.hstack([targets.meets, targets.quality, np.log1p(targets.output_tokens)])
    weight = np.where(np.isnan(values), 0, np.tile(targets.weight, 3))
    total, count = (np.nan_to_num(values) * weight).sum(axis=0), weight.sum(axis=0)
    overall = [s.sum() / max(c.sum(), 1e-9) for s, c in zip(np.split(total, 3), np.split(count, 3), strict=True)]
    return np.asarray((total + np.repeat(overall, targets.n_tiers)) / (count + 1))


P_MIN = 1e-3
"""Of what a linear model expects, the least that is believed."""


def bounded_logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logit of what a linear model expects, cut to [0.001, 0.999]."""
    return logit(np.clip(p, P_MIN, 1 - P_MIN))


def logits_to_graph(graph: Graph, shares: str, log_tokens: str) -> str:
    """Scores [n, 3 T] from expected `meets` and `quality` [n, 2 T] and `log_tokens` [n, T]: :func:`bounded_logit` of the former."""
    p = graph.node("Clip", shares, graph.floats(P_MIN), graph.floats(1 - P_MIN))
    logits = graph.node("Log", graph.node("Div", p, graph.node("Sub", graph.floats(1), p)))
    return graph.node("Concat", logits, log_tokens, axis=1)


def too_few(y: NDArray[np.float64]) -> bool:
    """Whether a tier has fewer answers than anything can be learned from, 10."""
    return len(y) < _MIN_ROWS


def nothing_to_separate(y: NDArray[np.float64]) -> bool:
    """Whether outcomes in [0, 1] are too few, or hold less than one success or less than one failure."""
    return too_few(y) or min(y.sum(), (1 - y).sum()) < 1


def log_loss(score: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Mean log loss of logits against outcomes in [0, 1]."""
    return float(np.mean(np.logaddexp(0, score) - y * score))


def poisson_loss(score: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Mean Poisson loss of logarithms of expected counts, up to a constant of the counts."""
    # Bounded, so that one wild extrapolation decides nothing but its own setting's rank.
    return float(np.mean(np.exp(np.minimum(score, 50.0)) - y * score))
