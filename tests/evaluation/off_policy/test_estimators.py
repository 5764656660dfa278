"""What all estimators promise."""

from __future__ import annotations

import numpy as np
import pytest

from router_ml.errors import InputError
from router_ml.evaluation.off_policy import Logged, direct, doubly_robust, ips, snips

ESTIMATORS = {
    "ips": lambda log, pi, model, **options: ips(log, pi, **options),
    "snips": lambda log, pi, model, **options: snips(log, pi, **options),
    "direct": lambda log, pi, model, **options: direct(log, pi, model),
    "doubly_robust": doubly_robust,
}


@pytest.fixture(params=ESTIMATORS)
def estimator(request):
    return ESTIMATORS[request.param]


@pytest.fixture(params=["ips", "snips", "doubly_robust"])
def weighted(request):
    return ESTIMATORS[request.param]


@pytest.mark.parametrize(("n", "epsilon"), [(300, 0.3), (300, 0.6), (1000, 0.1), (3000, 0.1)])
def test_the_interval_covers(estimator, draw_log, truth, n, epsilon):
    rng = np.random.default_rng(7)
    covered = []
    for _ in range(400):
        world = draw_log(rng, n, epsilon)
        model = world.right if estimator is ESTIMATORS["direct"] else world.wrong
        found = estimator(world.logged, world.pi, model)
        covered.append(found.low <= truth <= found.high)
    # Allowing for one standard error of 400 draws.
    assert np.mean(covered) >= 0.93 - 0.012


@pytest.mark.parametrize("max_weight", [5.0, 20.0])
def test_the_interval_covers_though_weights_are_clipped(weighted, draw_log, truth, max_weight):
    rng = np.random.default_rng(1)
    covered, clipped = [], []
    for _ in range(200):
        world = draw_log(rng, 300, 0.1)
        found = weighted(world.logged, world.pi, world.wrong, max_weight=max_weight)
        covered.append(found.low <= truth <= found.high)
        clipped.append(found.clipped_mass)
    assert np.mean(covered) >= 0.93
    assert np.mean(clipped) > 0.05


def test_the_interval_narrows_with_n(estimator, draw_log):
    rng = np.random.default_rng(2)
    widths = []
    for n in (500, 8000):
        world = draw_log(rng, n)
        found = estimator(world.logged, world.pi, world.right)
        widths.append(found.high - found.low)
    # By sqrt(16), or a little more where the rare rows' allowance fades.
    assert 3.2 < widths[0] / widths[1] < 7


def test_a_constant_policy_that_logged_everything_has_the_mean(estimator):
    reward = np.array([1.0, 0.0, 0.5, 1.0])
    logged = Logged(np.ones(4, dtype=int), reward, np.ones(4))
    model = np.stack([np.zeros(4), reward], axis=1)
    found = estimator(logged, np.tile([0.0, 1.0], (4, 1)), model)
    assert found.value == pytest.approx(0.625)
    assert found.standard_error == pytest.approx(reward.std(ddof=1) / 2)
    assert found.effective_n == 4
    assert found.n == 4


def test_zero_variance_is_survived(estimator):
    logged = Logged(np.zeros(100, dtype=int), np.full(100, 0.7), np.ones(100))
    found = estimator(logged, np.tile([1.0, 0.0], (100, 1)), np.full((100, 2), 0.7))
    assert found.value == pytest.approx(0.7)
    assert found.standard_error == pytest.approx(0, abs=1e-12)
    assert found.low - 1e-12 <= 0.7 <= found.high + 1e-12
    assert found.high - found.low < 0.06


def test_costs_are_estimated_as_well_as_qualities(estimator, draw_log):
    world = draw_log(np.random.default_rng(3), 4000, 0.6)
    price = np.array([1e-4, 3e-4, 1e-3])
    logged = Logged(world.logged.action, price[world.logged.action], world.logged.propensity)
    found = estimator(logged, world.pi, np.tile(price, (4000, 1)))
    assert found.low <= (world.pi @ price).mean() <= found.high
    assert found.value == pytest.approx((world.pi @ price).mean(), rel=0.1)


def test_a_higher_level_gives_a_wider_interval(weighted, draw_log):
    world = draw_log(np.random.default_rng(4), 500)
    narrow, wide = (weighted(world.logged, world.pi, world.right, level=level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_clipping_that_clips_nothing_changes_nothing(weighted, draw_log):
    world = draw_log(np.random.default_rng(5), 500)
    assert weighted(world.logged, world.pi, world.right, max_weight=1e6) == weighted(
        world.logged, world.pi, world.right
    )


def test_clipping_raises_the_effective_sample_size(weighted, draw_log):
    world = draw_log(np.random.default_rng(6), 500, 0.1)
    clipped, full = (weighted(world.logged, world.pi, world.right, max_weight=m) for m in (3.0, None))
    assert clipped.effective_n > full.effective_n
    assert clipped.standard_error < full.standard_error


LOG = Logged([0, 1], [0.5, 1.0], [0.5, 0.5])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Logged([0, 1], [0.5, 1.0], [0.5, 0.0]), r"outside \(0, 1\]"),
        (lambda: Logged([0, 1], [0.5, np.nan], [0.5, 0.5]), "reward holds NaN"),
        (lambda: Logged([0, 1, 1], [0.5, 1.0], [0.5, 0.5]), "needed 2 tier indices"),
        (lambda: Logged([0.0, 1.0], [0.5, 1.0], [0.5, 0.5]), "type float64"),
        (lambda: Logged([0, 1], [0.5, 1.0], [0.5]), "propensity has shape"),
        (lambda: ips(LOG, [[0.5, 0.5]]), "one row per logged row"),
        (lambda: ips(LOG, [[0.5, 0.6]] * 2), "sum to 1"),
        (lambda: ips(LOG, [[0.0, 0.0, 1.0]] * 2), "never did what this policy would do"),
        (lambda: snips(LOG, [[0.5, 0.5]] * 2, max_weight=0), "max_weight is 0"),
        (lambda: direct(LOG, [[0.5, 0.5]] * 2, [[0.5, 0.5, 0.5]] * 2), "q_hat has shape"),
        (lambda: doubly_robust(LOG, [[0.5, 0.5]] * 2, [[0.5, np.nan]] * 2), "q_hat holds 2 NaN"),
        (lambda: ips(LOG, [[0.5, 0.5]] * 2, level=1.0), "level is 1"),
        (lambda: ips(Logged([0], [0.5], [0.5]), [[0.5, 0.5]]), "one logged row"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
