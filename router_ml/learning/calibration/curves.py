"""Four ways from a score to a calibrated logit, and the choice between them by cross-validated Brier score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from router_ml.learning.targets import expit, logit

__all__ = ["MAX_KNOTS", "Curve", "choose_curve", "fit_beta", "fit_isotonic", "fit_platt", "fit_temperature"]

FloatArray: TypeAlias = NDArray[np.float64]

MAX_KNOTS = 32
"""Of an isotonic curve: a graph evaluates all its pieces on every prompt."""
_N_CELLS = 100
"""That the range of the scores is divided into: knots are at least one apart, or a piece could magnify rounding errors."""
_N_FOLDS = 5
_MIN_OUTCOMES = 100
"""Of either kind: with fewer there is no telling one curve from another, and Platt's is taken."""
_N_ERRORS = 2.0
"""Standard errors that another curve has to be better by: on real scores one took curves that were worse on new rows."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A non-decreasing map from a score to a logit: a line, a bend at 0 (softplus), and rises between knots.

    ``slope * s + intercept + bend * softplus(s) + sum(rise * clip((s - start) / width, 0, 1))``

    Attributes
    ----------
    slope, intercept, bend : float
    steps : array [3, K]
        Start, width (> 0) and rise (>= 0) of each piece.
    """

    slope: float
    intercept: float
    bend: float
    steps: FloatArray

    @classmethod
    def line(cls, slope: float, intercept: float, bend: float = 0.0) -> Curve:
        """One without knots."""
        return cls(slope, intercept, bend, np.zeros((3, 0)))

    def __call__(self, score: FloatArray) -> FloatArray:
        """Logits of scores [n]."""
        start, width, rise = self.steps
        steps = np.clip((score[:, None] - start) / width, 0, 1) @ rise
        return np.asarray(self.slope * score + self.intercept + self.bend * np.logaddexp(0, score) + steps)


def choose_curve(score: FloatArray, y: FloatArray, weight: FloatArray) -> tuple[str, Curve]:
    """The name of a method and the curve it gives on all rows: Platt's, unless another is clearly better.

    Another is taken where its cross-validated Brier score is below Platt's by more than two standard errors of the
    difference; of several the one with the lowest.

    Parameters
    ----------
    score : array [n]
        Out-of-fold scores.
    y : array [n]
        Outcomes in [0, 1].
    weight : array [n]
        >= 0, about 1 on average.

    References
    ----------
    Breiman, Friedman, Olshen, Stone: Classification and regression trees (1984), section 3.4.3, for a rule of standard errors.
    """
    if min((weight * y).sum(), (weight * (1 - y)).sum()) < _MIN_OUTCOMES:
        return "platt", _METHODS["platt"](score, y, weight)
    fold = np.arange(len(score)) % _N_FOLDS
    loss = {name: np.zeros(len(score)) for name in _METHODS}
    for k in range(_N_FOLDS):
        here, out = fold != k, fold == k
        for name, fit in _METHODS.items():
            p = expit(fit(score[here], y[here], weight[here])(score[out]))
            loss[name][out] = weight[out] * (p - y[out]) ** 2
    gains = {name: loss["platt"] - losses for name, losses in loss.items() if name != "platt"}
    clear = {n: float(g.mean()) for n, g in gains.items() if g.mean() > _N_ERRORS * g.std(ddof=1) / np.sqrt(len(g))}
    best = max(clear, key=lambda name: clear[name], default="platt")
    return best, _METHODS[best](score, y, weight)


def fit_platt(score: FloatArray, y: FloatArray, weight: FloatArray | None = None) -> tuple[float, float]:
    """Slope and intercept that minimise the log loss of ``expit(slope * score + intercept)`` against outcomes in [0, 1].

    The slope is held to be at least 0: scores that rank the wrong way round on prompts not seen say nothing, and the
    best that is left is the mean. One success and one failure at the mean score are added, so that a tier with few
    answers isn't promised 0 or 1. NaN in y is left out.

    References
    ----------
    Platt: Probabilistic outputs for support vector machines (1999).
    """
    tried = ~np.isnan(y)
    if not tried.any():
        return 1.0, 0.0
    z = score[tried]
    slope, intercept = _fit_logistic(z[:, None], y[tried], np.ones(len(z)) if weight is None else weight[tried])
    return slope, intercept


def fit_temperature(score: FloatArray, y: FloatArray, weight: FloatArray) -> Curve:
    """A slope (>= 0) without an intercept: right where scores are too bold or too timid, but not biased.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks (2017), https://arxiv.org/abs/1706.04599.
    """
    slope, _ = _fit_logistic(score[:, None], y, weight, intercept=False)
    return Curve.line(slope, 0.0)


def fit_beta(score: FloatArray, y: FloatArray, weight: FloatArray) -> Curve:
    """Beta calibration: slopes (>= 0) of their own towards 0 and towards 1; Platt's is the case of equal ones.

    References
    ----------
    Kull, Silva Filho, Flach: Beta calibration (2017), https://proceedings.mlr.press/v54/kull17a.html; with
    ``ln p = s - softplus(s)`` and ``-ln(1 - p) = softplus(s)`` for the score s.
    """
    positive = np.logaddexp(0, score)
    low, high, intercept = _fit_logistic(np.column_stack([score - positive, positive]), y, weight)
    return Curve.line(low, intercept, high - low)


def fit_isotonic(score: FloatArray, y: FloatArray, weight: FloatArray) -> Curve:
    """Centred isotonic regression: pools of scores at their mean outcome, and straight lines between their centres.

    Between the outermost centres it rises everywhere, so that ranks stay; beyond them it is constant. Rows are binned first
    (equal mass, equal scores together), which bounds the number of knots and how steep a piece can be, and each bin is given
    one more row at the mean of all, so that no probability is 0 or 1. Lines are drawn between logits, not probabilities.

    References
    ----------
    Oron, Flournoy: Centered isotonic regression (2017), https://arxiv.org/abs/1701.05964.
    """
    from sklearn.isotonic import isotonic_regression

    grid = max(float(np.ptp(score)) / _N_CELLS, 1e-9)
    cell, row_cell = np.unique(np.round(score / grid), return_inverse=True)
    mass, success = np.bincount(row_cell, weights=weight), np.bincount(row_cell, weights=weight * y)
    mid_rank = (mass.cumsum() - mass / 2) / max(mass.sum(), 1e-9)
    _, bin_ = np.unique((mid_rank * MAX_KNOTS).astype(np.intp), return_inverse=True)
    moment = np.bincount(bin_, weights=mass * grid * cell)
    mass, success = np.bincount(bin_, weights=mass), np.bincount(bin_, weights=success)
    prior = success.sum() / max(mass.sum(), 1e-9)
    fitted = isotonic_regression((success + prior) / (mass + 1), sample_weight=mass + 1)
    level, pool = np.unique(fitted, return_inverse=True)
    x = np.bincount(pool, weights=moment) / np.bincount(pool, weights=mass)
    u = logit(level)
    return Curve(0.0, float(u[0]), 0.0, np.array([x[:-1], np.diff(x), np.diff(u)]))


_METHODS: Mapping[str, Callable[[FloatArray, FloatArray, FloatArray], Curve]] = {
    "platt": lambda score, y, weight: Curve.line(*fit_platt(score, y, weight)),
    "temperature": fit_temperature,
    "beta": fit_beta,
    "isotonic": fit_isotonic,
}


def _fit_logistic(Z: FloatArray, y: FloatArray, weight: FloatArray, *, intercept: bool = True) -> tuple[float, ...]:
    """Weights (>= 0) of the columns of Z [n, k], and an intercept: the least log loss with a success and a failure added."""
    from scipy.optimize import minimize

    k = Z.shape[1]
    mean = weight @ Z / max(weight.sum(), 1e-9)
    rows = np.column_stack([np.vstack([Z, mean, mean]), np.full(len(Z) + 2, float(intercept))])
    target, mass = np.append(y, [0.0, 1.0]), np.append(weight, [1.0, 1.0])

    def loss(line: FloatArray) -> tuple[float, FloatArray]:
        u = rows @ line
        residual = mass * (expit(u) - target)
        return float(mass @ (np.logaddexp(0, u) - target * u)) / len(rows), residual @ rows / len(rows)

    bounds = [(0.0, None)] * k + [(None, None)]
    result = minimize(loss, np.append(np.ones(k), 0.0), jac=True, method="L-BFGS-B", bounds=bounds)
    return tuple(float(v) for v in result.x)
