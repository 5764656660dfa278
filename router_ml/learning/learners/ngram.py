"""Ridge regression on words: tokens, pairs of tokens, and the embedding beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import Ridge

from router_ml.graph.builder import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.learners.base import P_MIN, bounded_logit, difference_rows, pseudo_table, too_few
from router_ml.learning.ngrams import NgramCounts, add_to_graph
from router_ml.learning.targets import Scores, Targets

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["NgramLearner", "WordDesign", "fit_tiers", "ridge"]

_DENSE_SCALE = 0.3
"""Norm of the standardised dense features beside the words' of 1: a tenth of the variance, for what words alone miss."""


class NgramLearner(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Linear in TF-IDF of tokens and pairs of tokens, and in the dense features: words and meaning carry different things.

    Three ridge regressions a tier: of `meets` and `quality` (linear probability models, cut to probabilities), and of the
    square root of the output tokens, which steadies their variance. Convex, so that the result depends on nothing but the
    data; its graph looks up one row of numbers per token and pair, and adds.

    Parameters
    ----------
    alpha : float
        Regularisation, in prompts: a word seen in so many is halfway believed.

    References
    ----------
    Wang, Manning: Baselines and bigrams (2012), https://aclanthology.org/P12-2018, for how far words and pairs go.
    """

    alpha_grid = (3.0, 10.0, 30.0, 100.0)

    def __init__(self, alpha: float = 10.0) -> None:
        self.alpha = alpha

    def tune(self, X: Inputs, targets: Targets, folds: NDArray[np.intp]) -> Self:
        """Choose alpha by the squared error of differences of quality between tiers, out of fold.

        Differences are what the choice of a tier hangs on; their error is far less noisy than an AIQ, and asks for more
        regularisation than the error of quality itself. Where prompts were answered by one tier each, pseudo-outcomes stand for them.
        """
        outcome, weight = targets.quality, targets.weight
        predicted = {a: np.zeros_like(outcome) for a in self.alpha_grid}
        counts = NgramCounts.of(X.tokens)
        for fold in np.unique(folds):
            out = folds == fold
            design = WordDesign.fit(counts, X, ~out)
            train, held = design.transform(counts, X, ~out), design.transform(counts, X, out)
            for alpha, scores in predicted.items():
                scores[out] = held @ (fitted := fit_tiers(train, outcome[~out], weight[~out], alpha))[1:] + fitted[0]
        if np.isnan(difference_rows(outcome)).all():
            outcome = pseudo_table(outcome, predicted[self.alpha_grid[-2]], weight)
        best = min(self.alpha_grid, key=lambda a: _difference_error(predicted[a], outcome))
        tuned: Self = clone(self).set_params(alpha=best)
        return tuned

    def fit(self, X: Inputs, targets: Targets) -> Self:
        """Fit the models of each tier on the prompts that it answered."""
        counts, everyone = NgramCounts.of(X.tokens), np.ones(len(X), dtype=bool)
        design = WordDesign.fit(counts, X, everyone)
        Z = design.transform(counts, X, everyone)
        weight = targets.weight
        meets = fit_tiers(Z, targets.meets, weight, self.alpha)
        same = np.array_equal(targets.meets, targets.quality, equal_nan=True)
        quality = meets if same else fit_tiers(Z, targets.quality, weight, self.alpha)
        weights = np.hstack([meets, quality, fit_tiers(Z, np.sqrt(targets.output_tokens), weight, self.alpha)])
        self.idf_ = design.idf
        self.word_coef_, self.dense_coef_, self.intercept_ = design.unfold(weights)
        return self

    def predict(self, X: Inputs) -> Scores:
        """Scores for n prompts."""
        words = NgramCounts.of(X.tokens).tf_idf(self.idf_) @ self.word_coef_.astype(np.float64)
        linear = words + X.features.astype(np.float64) @ self.dense_coef_ + self.intercept_
        meets, quality, root_tokens = np.split(linear, 3, axis=1)
        return Scores(bounded_logit(meets), bounded_logit(quality), 2 * np.log(np.maximum(root_tokens, 1)))

    def to_graph(self, graph: Graph, x: InputNames) -> str:
        """Look up and add the words' numbers, one product for the dense features, and one that takes what is cut to logits.

        Beside what is expected (meets, quality, root of the tokens) the first product gives what is missing to certainty, so
        that one cut and one logarithm do for all. The tokens are cut at a million, which `predict` doesn't.
        """
        words = add_to_graph(graph, x, self.word_coef_, self.idf_)
        n_tiers = len(self.intercept_) // 3
        n_shares = 2 * n_tiers
        sign = np.concatenate([np.ones(n_shares), np.full(n_tiers, P_MIN)])
        weight = np.vstack([np.eye(3 * n_tiers), self.dense_coef_]) * sign
        intercept = self.intercept_ * sign
        weight = np.hstack([weight, -weight[:, :n_shares]])
        intercept = np.concatenate([intercept, 1 - intercept[:n_shares]])
        linear = graph.linear(graph.node("Concat", words, x.features, axis=1), weight, intercept)
        log = graph.node("Log", graph.node("Clip", linear, graph.floats(P_MIN), graph.floats(1 - P_MIN)))
        of_expected = np.diag(np.concatenate([np.ones(n_shares), np.full(n_tiers, 2.0)]))
        of_missing = -np.eye(n_shares, 3 * n_tiers)
        shift = np.concatenate([np.zeros(n_shares), np.full(n_tiers, -2 * np.log(P_MIN))])
        return graph.linear(log, np.vstack([of_expected, of_missing]), shift)


class WordDesign:
    """What turns prompts into rows of a linear model: fitted on some of them."""

    def __init__(self, idf: NDArray[np.float64], mean: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
        self.idf, self.mean, self.scale = idf, mean, scale

    @classmethod
    def fit(cls, counts: NgramCounts, X: Inputs, rows: NDArray[np.bool_]) -> Self:
        """Take the frequencies of words, and the moments of the dense features, from the given rows."""
        features = X.features[rows]
        spread = features.std(axis=0, dtype=np.float64)
        # A constant column says nothing; scaling it up would say noise.
        scale = np.where(spread > 1e-6, spread, 1e6) * np.sqrt(features.shape[1]) / _DENSE_SCALE
        return cls(counts[rows].inverse_frequency(), features.mean(axis=0, dtype=np.float64), scale)

    def unfold(
        self, weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
        """Of weights [1 + d, m]: those of words, of the dense features as they are, and the intercept."""
        n_dense = len(self.scale)
        dense = weights[1 : 1 + n_dense] / self.scale[:, None]
        return weights[1 + n_dense :].astype(np.float32), dense, weights[0] - self.mean @ dense

    def transform(self, counts: NgramCounts, X: Inputs, rows: NDArray[np.bool_]) -> csr_matrix:
        """The given rows: dense features first, then words; sparse [n, d]."""
        from scipy.sparse import csr_matrix, hstack

        dense = (X.features[rows] - self.mean) / self.scale
        return hstack([csr_matrix(dense), counts[rows].tf_idf(self.idf)], format="csr")


def fit_tiers(Z: csr_matrix, Y: NDArray[np.float64], weight: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Intercepts and weights [1 + d, T]; NaN cells are left out."""
    weights = np.zeros((1 + Z.shape[1], Y.shape[1]))
    tried = ~np.isnan(Y)
    if tried.all() and (weight == 1).all() and not too_few(Y):
        return ridge(Z, Y, None, alpha)
    for t in range(Y.shape[1]):
        rows = tried[:, t]
        known = Y[rows, t]
        if not too_few(known):
            weights[:, [t]] = ridge(Z[rows], known[:, None], weight[rows, t], alpha)
        else:
            # One answer at the mean of all tiers', so that no tier is promised anything.
            prior = float(np.average(Y[tried], weights=weight[tried])) if tried.any() else 0.0
            weights[0, t] = (known.sum() + prior) / (len(known) + 1)
    return weights


def ridge(
    Z: csr_matrix, Y: NDArray[np.float64], weight: NDArray[np.float64] | None, alpha: float
) -> NDArray[np.float64]:
    """Intercepts and weights [1 + d, T] of least squares with a penalty on the weights."""
    model = Ridge(alpha=alpha, solver="sparse_cg", tol=1e-4).fit(Z, Y, sample_weight=weight)
    return np.vstack([np.atleast_1d(model.intercept_), np.atleast_2d(model.coef_).T])


def _difference_error(scores: NDArray[np.float64], Y: NDArray[np.float64]) -> float:
    """Mean squared error of differences between tiers, where both are known."""
    error = difference_rows(scores) - difference_rows(Y)
    known = error[~np.isnan(error)]
    return float(np.mean(known**2)) if len(known) else 0.0
