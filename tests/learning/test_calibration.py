"""Calibration: planted lines are recovered, useless scores are turned to the mean, and few rows promise nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.base import clone

from router_ml.learning.calibration import Calibration, fit_platt
from router_ml.learning.learners import make_learner
from router_ml.learning.model import crossfit
from router_ml.learning.targets import Scores, Targets, expit


def test_planted_slope_and_intercept_are_recovered() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=20_000)
    y = (rng.random(20_000) < expit(0.5 * score - 1)).astype(float)

    # Standard errors are about 0.02.
    assert fit_platt(score, y) == pytest.approx((0.5, -1), abs=0.08)


def test_fractional_outcomes_are_fitted_as_they_are() -> None:
    score = np.linspace(-3, 3, 5000)

    assert fit_platt(score, expit(0.7 * score + 0.2)) == pytest.approx((0.7, 0.2), abs=0.01)


def test_scores_that_rank_the_wrong_way_round_give_the_mean() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=5000)
    y = (rng.random(5000) < expit(-score - 1)).astype(float)
    slope, intercept = fit_platt(score, y)

    assert slope == 0
    assert expit(np.array(intercept)) == pytest.approx(y.mean(), abs=1e-3)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_few_answers_of_one_kind_promise_neither_0_nor_1(outcome: float) -> None:
    slope, intercept = fit_platt(np.array([-1.0, 0.5, 2.0]), np.full(3, outcome))

    assert 0.05 < expit(np.array(intercept)) < 0.95
    assert np.isfinite(slope)


def test_tier_without_outcomes_keeps_its_scores() -> None:
    assert fit_platt(np.zeros(5), np.full(5, np.nan)) == (1.0, 0.0)


def test_rows_not_tried_do_not_count() -> None:
    rng = np.random.default_rng(0)
    score, y = rng.normal(size=200), rng.integers(0, 2, 200).astype(float)
    masked = np.concatenate([y, np.full(50, np.nan)])

    assert fit_platt(np.concatenate([score, np.full(50, 9.0)]), masked) == fit_platt(score, y)


def test_total_of_expected_tokens_is_the_total_seen() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.poisson(50, (300, 1)).astype(float)
    zeros = np.zeros((300, 1))
    scores = Scores(zeros, zeros, rng.normal(3, 0.1, (300, 1)))
    calibration = Calibration.fit(scores, Targets(zeros, zeros, tokens, zeros))

    assert calibration.apply(scores)[2].sum() == pytest.approx(tokens.sum())


def test_calibration_on_out_of_fold_scores_improves_the_brier_score_of_an_overconfident_learner(
    draw: Callable[..., tuple[np.ndarray, Targets]],
) -> None:
    X, targets = draw(120, strength=0.7)
    X_new, new = draw(2000, seed=1, strength=0.7)
    # So weakly regularised that 120 rows are all but memorised.
    learner = make_learner("logistic", C=1e4)
    scores = Scores(*(np.zeros_like(targets.meets) for _ in range(3)))
    for fold in range(5):
        out = np.arange(120) % 5 == fold
        predicted = clone(learner).fit(X[~out], targets.take(~out)).predict(X[out])
        for name in ("meets", "quality", "log_tokens"):
            getattr(scores, name)[out] = getattr(predicted, name)
    calibrated = Calibration.fit(scores, targets)
    raw = learner.fit(X, targets).predict(X_new)

    def brier(p: np.ndarray) -> float:
        return float(np.mean((p - new.meets) ** 2))

    assert brier(calibrated.apply(raw)[0]) < brier(expit(raw.meets))


def test_crossfitted_probabilities_have_the_mean_of_the_outcomes(
    draw: Callable[..., tuple[np.ndarray, Targets]],
) -> None:
    X, targets = draw(400)
    fitted = crossfit("logistic", make_learner("logistic"), X, targets, np.arange(400) % 5)

    # Exact but for the one success and one failure that are added.
    assert fitted.outputs.p_meets.mean(axis=0) == pytest.approx(targets.meets.mean(axis=0), abs=0.01)
