from __future__ import annotations

import numpy as np
import pytest

from router_ml.errors import InputError
from router_ml.evaluation.off_policy import Logged, direct, doubly_robust, influence, ips, paired_difference, snips
from router_ml.evaluation.off_policy.intervals import estimate_mean

PI = np.array([[0.0, 1.0]])
EXPECTED = np.full((600, 2), 0.4)


def sessions(rng, n_sessions=60, size=10):
    """One answer a prompt; all of a session were given by the same tier, and are about as good."""
    unit = np.repeat(np.arange(n_sessions), size)
    level = np.repeat(rng.random(n_sessions), size)
    action = np.repeat(rng.integers(0, 2, n_sessions), size)
    return Logged(action, (rng.random(len(unit)) < level).astype(float), np.full(len(unit), 0.5), unit)


def test_sums_of_units_by_hand():
    # Residuals -1, -1, 1, 1: two units of sums -2 and 2. Variance of the mean: 2 / (2 - 1) x (4 + 4) / 4^2.
    found = estimate_mean(np.array([0.0, 0.0, 2.0, 2.0]), level=0.95, unit=np.array([7, 7, 3, 3]))
    assert found.standard_error == pytest.approx(1.0)


def test_an_interval_is_cut_where_the_truth_must_lie_and_the_value_is_not():
    found = estimate_mean(np.array([0.9, 1.3, 1.0, 0.9]), level=0.95)
    cut = found.within(0.0, 1.0)
    assert (cut.low, cut.high, cut.value) == (found.low, 1.0, found.value)
    assert found.high > found.value > 1
    assert (found.within(0.0, 0.1).low, found.within(0.0, 0.1).high) == (0.1, 0.1)


def test_units_of_one_row_change_nothing():
    values = np.random.default_rng(0).random(50)
    assert estimate_mean(values, level=0.9, unit=np.arange(50)[::-1].copy()) == estimate_mean(values, level=0.9)


@pytest.mark.parametrize(
    ("estimate", "truth"),
    [
        (ips, 0.5),
        (snips, 0.5),
        (lambda logged, pi: doubly_robust(logged, pi, EXPECTED), 0.5),
        (lambda logged, pi: paired_difference(*(influence(logged, p, EXPECTED) for p in (pi, 1 - pi))), 0.0),
    ],
    ids=["ips", "snips", "doubly robust", "paired difference"],
)
@pytest.mark.parametrize("told", [True, False])
def test_intervals_allow_for_sessions_that_hang_together(estimate, truth, told):
    # The same logs refute intervals that take the prompts for independent. Both tiers are worth 0.5.
    rng, pi, covered = np.random.default_rng(0), np.repeat(PI, 600, axis=0), []
    for _ in range(150):
        logged = sessions(rng)
        if not told:
            logged = Logged(logged.action, logged.reward, logged.propensity)
        found = estimate(logged, pi)
        covered.append(found.low <= truth <= found.high)
    assert bool(np.mean(covered) >= 0.95 - 3 * 0.018) is told


def test_the_direct_method_varies_by_session():
    logged = sessions(np.random.default_rng(0))
    predicted = np.repeat(np.random.default_rng(1).random(60), 10)[:, None] * np.ones(2)
    alone = Logged(logged.action, logged.reward, logged.propensity)
    pi = np.repeat(PI, 600, axis=0)
    ratio = direct(logged, pi, predicted).standard_error / direct(alone, pi, predicted).standard_error
    assert ratio == pytest.approx(np.sqrt(10), rel=0.02)


def test_one_session_is_no_evidence():
    with pytest.raises(InputError, match="one session"):
        estimate_mean(np.ones(5), level=0.95, unit=np.zeros(5, dtype=int))
    with pytest.raises(InputError, match="unit has shape"):
        Logged([0, 1], [1.0, 0.0], [0.5, 0.5], np.zeros(3, dtype=int))
