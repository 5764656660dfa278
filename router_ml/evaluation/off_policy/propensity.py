"""The logging policy, estimated where it wasn't logged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_ml.errors import InputError, MissingExtraError
from router_ml.evaluation.inputs import FloatArray

__all__ = ["estimate_propensities"]

# Inverse strengths of the penalty, on standardised features. The first gives the tiers' base rates, all but exactly:
# a log in which the prompt didn't matter has to be seen as such.
_STRENGTHS = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_DEFAULT_FOLDS = 5
# Coefficients up to which Newton's method is taken: its cost goes with their square, but L-BFGS is slow and stops early where
# features are nearly collinear (tiers' predictions beside each other; chances were off by up to 0.05 at the weakest penalty).
_MAX_NEWTON = 120


def estimate_propensities(
    features: ArrayLike,
    action: ArrayLike,
    n_tiers: int,
    *,
    folds: ArrayLike | None = None,
    random_state: int | np.random.Generator | None,
) -> FloatArray:
    """The chance of each tier for each prompt, by cross-fitted multinomial logistic regression.

    Parameters
    ----------
    features : array-like [n, d]
        What the logging policy may have looked at: embeddings, lengths, categories.
    action : array-like [n] of int
        The tier that answered, 0 to n_tiers - 1.
    n_tiers : int
        At least 2; a tier may be missing from the log.
    folds : array-like [n] of int, optional
        Two or more labels; rows are predicted by models of the other folds. Rows that belong together (a conversation)
        share a fold. Default: 5 random ones.
    random_state : int, Generator or None
        Draws the folds where none are given.

    Returns
    -------
    array [n, n_tiers]
        Rows sum to 1; positive for every tier that was logged outside the row's fold.

    Raises
    ------
    InputError
        Features, actions or folds that don't fit each other.
    MissingExtraError
        scikit-learn isn't installed.

    Notes
    -----
    Propensities have to be honest rather than sharp, since they divide. Cross-fitting keeps a row's own action out, and
    the penalty is the one of least out-of-fold log loss, among them one that ignores the features. Whatever the logging
    policy looked at beyond the features (a user's plan, an outage) biases every estimate that uses these.

    An action's share (the base rates) is mixed in with the weight of one row, so that no tier that was logged gets 0.
    """
    X, tried, fold = _checked(features, action, n_tiers, folds, random_state)
    candidates = _cross_fitted(X, tried, n_tiers, fold)
    rows = np.arange(len(tried))
    with np.errstate(divide="ignore"):
        losses = [-np.log(p[rows, tried]).mean() for p in candidates]
    best: FloatArray = candidates[int(np.argmin(losses))]
    return best


def _cross_fitted(X: FloatArray, action: NDArray[np.intp], n_tiers: int, fold: NDArray[np.intp]) -> FloatArray:
    """Chances [S, n, n_tiers] by each of the S strengths."""
    predicted = np.empty((len(_STRENGTHS), len(X), n_tiers))
    for held_out in np.unique(fold):
        mine, others = fold == held_out, fold != held_out
        n = int(others.sum())
        rates = np.bincount(action[others], minlength=n_tiers) / n
        n_tried = int((rates > 0).sum())
        centre, scale = X[others].mean(axis=0), X[others].std(axis=0)
        Z = (X - centre) / np.where(scale > 0, scale, 1.0)
        for s, strength in enumerate(_STRENGTHS):
            fitted = np.tile(rates, (int(mine.sum()), 1))
            if n_tried > 1:
                model = _logistic(strength, X.shape[1] * n_tried).fit(Z[others], action[others])
                fitted[:, model.classes_] = model.predict_proba(Z[mine])
            predicted[s, mine] = (n * fitted + rates) / (n + 1)
    return np.asarray(predicted / predicted.sum(axis=2, keepdims=True), dtype=np.float64)


def _logistic(strength: float, n_coefficients: int) -> Any:
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as exc:
        raise MissingExtraError("train", "Estimating propensities") from exc
    solver = "newton-cholesky" if n_coefficients <= _MAX_NEWTON else "lbfgs"
    return LogisticRegression(C=strength, max_iter=1000, solver=solver)


def _checked(
    features: ArrayLike,
    action: ArrayLike,
    n_tiers: int,
    folds: ArrayLike | None,
    random_state: int | np.random.Generator | None,
) -> tuple[FloatArray, NDArray[np.intp], NDArray[np.intp]]:
    X, tried = np.asarray(features, dtype=np.float64), np.asarray(action)
    if X.ndim != 2 or len(X) < 2 or not np.isfinite(X).all():
        raise InputError(
            f"features has shape {X.shape} or holds NaN; needed a complete table [n, d] of two rows or more."
        )
    if (
        n_tiers < 2
        or tried.shape != X.shape[:1]
        or tried.dtype.kind not in "iu"
        or tried.min() < 0
        or tried.max() >= n_tiers
    ):
        raise InputError(
            f"action has shape {tried.shape} and type {tried.dtype}; needed {len(X)} tier indices from 0 to {n_tiers - 1}, "
            "and two tiers or more."
        )
    if folds is None:
        rng = np.random.default_rng(random_state)
        fold = rng.permutation(np.arange(len(X)) % min(_DEFAULT_FOLDS, len(X)))
    else:
        fold = np.asarray(folds)
    if fold.shape != tried.shape or fold.dtype.kind not in "iu" or len(np.unique(fold)) < 2:
        raise InputError(
            f"folds has shape {fold.shape}; needed {len(X)} integer labels, at least two of them different."
        )
    return X, tried.astype(np.intp), fold.astype(np.intp)
