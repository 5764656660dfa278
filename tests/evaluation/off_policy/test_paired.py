from __future__ import annotations

import numpy as np
import pytest

from router_ml.errors import InputError
from router_ml.evaluation.off_policy import Logged, doubly_robust, influence, paired_difference

LOG = Logged([0, 1, 1], [1.0, 1.0, 0.0], [0.5, 0.5, 0.25])
MODEL = [[0.5, 0.25]] * 3


def test_by_hand():
    first = influence(LOG, [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], MODEL)
    second = influence(LOG, [[0.0, 1.0]] * 3, MODEL)
    found = paired_difference(first, second)
    # The first prompt alone differs: .5 + 2 x (1 - .5) against .25.
    assert found.value == pytest.approx((1.5 - 0.25) / 3)
    assert found.standard_error == pytest.approx(np.std([1.25, 0, 0], ddof=1) / np.sqrt(3))


def test_a_policy_differs_by_nothing_from_itself():
    own = influence(LOG, [[0.0, 1.0]] * 3, MODEL)
    found = paired_difference(own, own)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_other_way_round_has_the_other_sign(draw_log):
    world = draw_log(np.random.default_rng(0), 500)
    ours = influence(world.logged, world.pi, world.right)
    other = influence(world.logged, np.eye(3)[np.full(500, 1)], world.right)
    found, reverse = paired_difference(ours, other), paired_difference(other, ours)
    assert (found.value, found.low, found.high) == pytest.approx((-reverse.value, -reverse.high, -reverse.low))


def test_it_is_sharper_than_two_estimates(draw_log):
    world = draw_log(np.random.default_rng(1), 1000)
    nearly = world.pi.copy()
    nearly[:50] = np.eye(3)[0]
    both = [influence(world.logged, pi, world.right) for pi in (world.pi, nearly)]
    found = paired_difference(*both)
    apart = [doubly_robust(world.logged, pi, world.right) for pi in (world.pi, nearly)]
    assert found.standard_error < 0.5 * min(e.standard_error for e in apart)
    assert found.value == pytest.approx(apart[0].value - apart[1].value)


@pytest.mark.parametrize("max_weight", [None, 10.0])
def test_the_interval_covers(draw_log, max_weight):
    rng = np.random.default_rng(2)
    x = (np.arange(100_000) + 0.5) / 100_000
    covered = []
    for _ in range(300):
        world = draw_log(rng, 500, 0.2)
        always = np.eye(3)[np.full(500, 1)]
        both = (influence(world.logged, pi, world.wrong, max_weight=max_weight) for pi in (world.pi, always))
        found = paired_difference(*both)
        # Of the fixture's chances: tier 0 below .3, tier 2 above .7, each against tier 1.
        truth = np.where(x < 0.3, 0.9 - 0.7 * x, np.where(x > 0.7, 0.9 - 0.1 * x, 0.95 - 0.4 * x)) - (0.95 - 0.4 * x)
        covered.append(found.low <= truth.mean() <= found.high)
    assert np.mean(covered) >= 0.93


def test_the_logs_must_be_the_same():
    with pytest.raises(InputError, match="3 and 2 rows"):
        paired_difference(
            influence(LOG, [[0.0, 1.0]] * 3, MODEL),
            influence(Logged([1, 0], [1.0, 0.0], [0.5, 0.5]), [[0.0, 1.0]] * 2, MODEL[:2]),
        )
