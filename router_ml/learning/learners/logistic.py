"""Logistic regression per tier: the default, since it is exact, fast and hard to beat on small logs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, PoissonRegressor

from router_ml.evaluation.frontier import sweep_value
from router_ml.evaluation.metrics import frontier_metrics
from router_ml.graph.builder import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.learners.base import (
    log_loss,
    mean_log_tokens,
    nothing_to_separate,
    poisson_loss,
    shrunken_logit,
    too_few,
)
from router_ml.learning.targets import Scores, Targets, expit

__all__ = ["LogisticLearner"]

_MIN_COMPLETE = 100
"""Fewer prompts than this that every tier answered, and an AIQ is too noisy to choose by."""


class LogisticLearner(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Three L2-regularised linear models per tier, on standardised features.

    ``meets``: logistic regression. ``quality``: logistic regression on fractional outcomes (quasi-likelihood; Papke and
    Wooldridge 1996, doi:10.1002/(SICI)1099-1255(199611)11:6<619), which for 0/1 outcomes is the same thing, but more
    strongly regularised: the value policy ranks tiers by *differences* of quality, which are smaller and noisier than
    quality itself. ``output_tokens``: Poisson regression, whose mean is right whatever the distribution, and cost is
    linear in the mean.

    Parameters
    ----------
    C : float or sequence of float [T]
        Inverse regularisation of `meets`; per tier where a sequence.
    C_quality : float
        Inverse regularisation of `quality`, the same for all tiers.
    alpha : float or sequence of float [T]
        Regularisation of the Poisson models.
    """

    C_grid = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    alpha_grid = (0.003, 0.03, 0.3, 3.0)

    def __init__(
        self, C: float | Sequence[float] = 1e-3, C_quality: float = 3e-4, alpha: float | Sequence[float] = 0.03
    ) -> None:
        self.C = C
        self.C_quality = C_quality
        self.alpha = alpha

    def tune(self, X: Inputs, targets: Targets, folds: NDArray[np.intp]) -> Self:
        """Choose C by log loss and alpha by Poisson deviance, each per tier, and C_quality by AIQ, all out of fold.

        Where fewer than 100 prompts were answered by every tier, C_quality is the median of the C.
        """
        Z = _standardize(X.features, *_moments(X.features))
        out_of_fold = partial(_out_of_fold, Z, folds=folds, weight=targets.weight)
        meets = [out_of_fold(targets.meets, fit=_fit_logistic, setting=C) for C in self.C_grid]
        C = _best_per_tier(self.C_grid, meets, targets.meets, log_loss)
        tokens = [out_of_fold(targets.output_tokens, fit=_fit_poisson, setting=alpha) for alpha in self.alpha_grid]
        alpha = _best_per_tier(self.alpha_grid, tokens, targets.output_tokens, poisson_loss)
        complete = targets.complete
        C_quality = sorted(C)[len(C) // 2]
        if complete.sum() >= _MIN_COMPLETE and targets.n_tiers > 1:
            quality = meets
            if not np.array_equal(targets.meets, targets.quality, equal_nan=True):
                quality = [out_of_fold(targets.quality, fit=_fit_logistic, setting=C) for C in self.C_grid]
            log_cost = out_of_fold(targets.cost_usd, fit=_fit_poisson, setting=float(np.median(alpha)))[complete]
            seen = targets.take(complete)
            aiq = [
                frontier_metrics(sweep_value(expit(q[complete]), np.exp(log_cost)), seen.quality, seen.cost_usd).aiq
                for q in quality
            ]
            C_quality = self.C_grid[int(np.nanargmax(aiq))]
        tuned: Self = clone(self).set_params(C=C, C_quality=C_quality, alpha=alpha)
        return tuned

    def fit(self, X: Inputs, targets: Targets) -> Self:
        """Fit the models of each tier on the prompts that it answered."""
        mean, scale = _moments(X.features)
        Z = _standardize(X.features, mean, scale)
        n_tiers = targets.n_tiers
        C = np.broadcast_to(np.asarray(self.C, dtype=np.float64), n_tiers)
        alpha = np.broadcast_to(np.asarray(self.alpha, dtype=np.float64), n_tiers)
        tiers = [(t, targets.weight[:, t]) for t in range(n_tiers)]
        meets = [_fit_logistic(Z, targets.meets[:, t], weight, C[t]) for t, weight in tiers]
        quality = [_fit_logistic(Z, targets.quality[:, t], weight, self.C_quality) for t, weight in tiers]
        tokens = [_fit_poisson(Z, targets.output_tokens[:, t], weight, alpha[t]) for t, weight in tiers]
        weights = np.column_stack([w[1:] for w in (*meets, *quality, *tokens)])
        intercepts = np.array([w[0] for w in (*meets, *quality, *tokens)])
        # Standardisation folded in, so that one product is all that is left to do.
        self.coef_ = weights / scale[:, None]
        self.intercept_ = intercepts - mean @ self.coef_
        return self

    def predict(self, X: Inputs) -> Scores:
        """Scores for n prompts."""
        return Scores(*np.split(X.features.astype(np.float64) @ self.coef_ + self.intercept_, 3, axis=1))

    def to_graph(self, graph: Graph, x: InputNames) -> str:
        """One product."""
        return graph.linear(x.features, self.coef_, self.intercept_)


def _moments(X: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scale = X.std(axis=0, dtype=np.float64)
    # A constant column says nothing; scaling it up would say noise.
    return X.mean(axis=0, dtype=np.float64), np.where(scale > 1e-6, scale, 1e6)


def _standardize(X: NDArray[np.float32], mean: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    return (X - mean) / scale


def _fit_logistic(
    Z: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64], C: float
) -> NDArray[np.float64]:
    """Intercept and weights [1 + d] of a logistic regression on outcomes in [0, 1]; NaN rows are left out."""
    tried = ~np.isnan(y)
    Z, y, weight = Z[tried], y[tried], weight[tried]
    if nothing_to_separate(y):
        return np.concatenate([[shrunken_logit(y, weight)], np.zeros(Z.shape[1])])
    outcome = np.round(y)
    if not np.array_equal(outcome, y):
        # An outcome of 0.7 counts as 0.7 of a success and 0.3 of a failure.
        Z, outcome = np.vstack([Z, Z]), np.repeat([1.0, 0.0], len(y))
        weight = np.concatenate([y * weight, (1 - y) * weight])
    model = LogisticRegression(C=C, solver="newton-cholesky", max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(Z, outcome, sample_weight=weight)
    return np.concatenate([model.intercept_, model.coef_[0]])


def _fit_poisson(
    Z: NDArray[np.float64], tokens: NDArray[np.float64], weight: NDArray[np.float64], alpha: float
) -> NDArray[np.float64]:
    """Intercept and weights [1 + d] of a Poisson regression of token counts; NaN rows are left out."""
    logged = ~np.isnan(tokens)
    Z, tokens, weight = Z[logged], tokens[logged], weight[logged]
    if too_few(tokens) or tokens.sum() == 0:
        return np.concatenate([[mean_log_tokens(tokens, weight)], np.zeros(Z.shape[1])])
    scale = tokens.mean()
    model = PoissonRegressor(alpha=alpha, solver="newton-cholesky", max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(Z, tokens / scale, sample_weight=weight)
    return np.concatenate([[model.intercept_ + np.log(scale)], model.coef_])


def _out_of_fold(
    Z: NDArray[np.float64],
    Y: NDArray[np.float64],
    *,
    folds: NDArray[np.intp],
    weight: NDArray[np.float64],
    fit: Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float], NDArray[np.float64]],
    setting: float,
) -> NDArray[np.float64]:
    """Scores [n, T] of each prompt by models that were fitted without its fold."""
    scores = np.zeros_like(Y)
    for fold in np.unique(folds):
        out = folds == fold
        for t in range(Y.shape[1]):
            line = fit(Z[~out], Y[~out, t], weight[~out, t], setting)
            scores[out, t] = Z[out] @ line[1:] + line[0]
    return scores


def _best_per_tier(
    grid: Sequence[float],
    scores: Sequence[NDArray[np.float64]],
    Y: NDArray[np.float64],
    loss: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
) -> list[float]:
    """The setting with the least out-of-fold loss for each tier; the first where a tier has no target at all."""
    best = []
    for t in range(Y.shape[1]):
        known = ~np.isnan(Y[:, t])
        losses = [loss(s[known, t], Y[known, t]) for s in scores] if known.any() else [0.0]
        best.append(grid[int(np.argmin(losses))])
    return best
