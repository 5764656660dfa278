"""One difficulty for all tiers: what makes a prompt hard is learned from every answer, whichever tier gave it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression

from router_ml.graph.builder import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.learners.base import nothing_to_separate
from router_ml.learning.learners.ngram import WordDesign, fit_tiers, ridge
from router_ml.learning.ngrams import NgramCounts, add_to_graph
from router_ml.learning.targets import Scores, Targets

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["OrdinalLearner"]

_N_FOLDS = 3
_WEAK = 100.0
"""Inverse regularisation of the few numbers of the link: next to none."""


class OrdinalLearner(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Tier t does well on prompt x with probability ``expit(level_t + slope * ease(x))``, one slope and one `ease` for all tiers.

    The structure that tiers share: a prompt that a cheap tier got right is an easy one for the dearer tiers, too, and one that a
    dear tier got wrong is hard for the cheap ones. In a log with one tier a prompt that is worth as many answers as there are
    prompts, for all tiers at once; where tiers differ by topic it is wrong. Tokens are learned per tier.

    Parameters
    ----------
    alpha : float
        Regularisation of the ease and of the tokens, in prompts.
    random_state : int
        Deals the folds on which the link is fitted.

    References
    ----------
    McCullagh: Regression models for ordinal data (1980), JRSS B 42, for one slope and a level each.
    """

    alpha_grid = (10.0, 30.0, 100.0)

    def __init__(self, alpha: float = 30.0, random_state: int = 0) -> None:
        self.alpha = alpha
        self.random_state = random_state

    def tune(self, X: Inputs, targets: Targets, folds: NDArray[np.intp]) -> Self:
        """Choose alpha by the squared error of quality about each tier's mean, out of fold."""
        centred = _centred(targets.quality, targets.weight)
        known = ~np.isnan(centred)
        untuned: Self = clone(self)
        if not known.any():
            return untuned
        counts = NgramCounts.of(X.tokens)
        losses = dict.fromkeys(self.alpha_grid, 0.0)
        for fold in np.unique(folds):
            out = folds == fold
            design = WordDesign.fit(counts, X, ~out)
            train, held = design.transform(counts, X, ~out), design.transform(counts, X, out)
            for alpha in losses:
                fitted = _fit_ease(train, centred[~out], alpha)
                error = np.where(known[out], (held @ fitted[1:] + fitted[0]) - centred[out], 0.0)
                losses[alpha] += float((error**2).sum())
        tuned: Self = untuned.set_params(alpha=min(losses, key=lambda a: losses[a]))
        return tuned

    def fit(self, X: Inputs, targets: Targets) -> Self:
        """Fit the ease on all answers, and the link on ease out of fold."""
        counts, everyone = NgramCounts.of(X.tokens), np.ones(len(X), dtype=bool)
        design = WordDesign.fit(counts, X, everyone)
        Z = design.transform(counts, X, everyone)
        centred = _centred(targets.quality, targets.weight)
        fold = np.random.default_rng(self.random_state).permutation(len(X)) % _N_FOLDS
        ease = np.zeros(len(X))
        for k in range(min(_N_FOLDS, len(X))):
            out = fold == k
            fitted = _fit_ease(Z[~out], centred[~out], self.alpha)
            ease[out] = (Z[out] @ fitted[1:] + fitted[0])[:, 0]
        links = [_link(ease, Y, targets.weight) for Y in (targets.meets, targets.quality)]
        self.level_, self.slope_ = np.array([level for level, _ in links]), np.array([slope for _, slope in links])
        tokens = fit_tiers(Z, np.sqrt(targets.output_tokens), targets.weight, self.alpha)
        self.idf_ = design.idf
        weights = np.hstack([_fit_ease(Z, centred, self.alpha), tokens])
        self.word_coef_, self.dense_coef_, self.intercept_ = design.unfold(weights)
        return self

    def predict(self, X: Inputs) -> Scores:
        """Scores for n prompts."""
        words = NgramCounts.of(X.tokens).tf_idf(self.idf_) @ self.word_coef_.astype(np.float64)
        linear = words + X.features.astype(np.float64) @ self.dense_coef_ + self.intercept_
        ease, root_tokens = linear[:, :1], linear[:, 1:]
        meets, quality = (level + slope * ease for level, slope in zip(self.level_, self.slope_, strict=True))
        return Scores(meets, quality, 2 * np.log(np.maximum(root_tokens, 1)))

    def to_graph(self, graph: Graph, x: InputNames) -> str:
        """The words' numbers and one product, then the links."""
        words = add_to_graph(graph, x, self.word_coef_, self.idf_)
        linear = graph.node("Add", words, graph.linear(x.features, self.dense_coef_, self.intercept_))
        n_tiers = self.level_.shape[1]
        ease, root_tokens = graph.split(linear, 1, n_tiers)
        logits = graph.linear(ease, np.repeat(self.slope_, n_tiers)[None, :], self.level_.ravel())
        log_root = graph.node("Log", graph.node("Max", root_tokens, graph.floats(1)))
        return graph.node("Concat", logits, graph.node("Add", log_root, log_root), axis=1)


def _centred(quality: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quality less each tier's weighted mean; NaN where not known."""
    w = np.where(np.isnan(quality), 0.0, weight)
    mean = (np.nan_to_num(quality) * w).sum(axis=0) / np.maximum(w.sum(axis=0), 1e-12)
    return np.asarray(quality - mean)


def _fit_ease(Z: csr_matrix, centred: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Intercept and weights [1 + d, 1] on all answers alike: weights would only add noise to what is the same for all tiers."""
    rows, tiers = np.nonzero(~np.isnan(centred))
    if len(rows) == 0:
        return np.zeros((1 + Z.shape[1], 1))
    return ridge(Z[rows], centred[rows, tiers][:, None], None, alpha)


def _link(
    ease: NDArray[np.float64], Y: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """A level for each tier and one slope >= 0: logistic regression on outcomes in [0, 1]."""
    rows, tiers = np.nonzero(~np.isnan(Y))
    y, w, n_tiers = Y[rows, tiers], weight[rows, tiers], Y.shape[1]
    if nothing_to_separate(y) or np.ptp(ease) == 0:
        return np.full(n_tiers, float(np.log((w @ y + 1) / (w @ (1 - y) + 1)))), 0.0
    scale = float(ease.std())
    design = np.column_stack([ease[rows] / scale, tiers[:, None] == np.arange(n_tiers)]).astype(np.float64)
    # An outcome of 0.7 counts as 0.7 of a success and 0.3 of a failure.
    model = LogisticRegression(C=_WEAK, fit_intercept=False, max_iter=500).fit(
        np.vstack([design, design]), np.repeat([1.0, 0.0], len(y)), sample_weight=np.concatenate([y * w, (1 - y) * w])
    )
    return model.coef_[0, 1:], max(float(model.coef_[0, 0]) / scale, 0.0)
