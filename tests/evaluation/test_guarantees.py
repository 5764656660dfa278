from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, multinomial

from router_ml.errors import InputError
from router_ml.evaluation import sweep_value
from router_ml.evaluation.guarantees import (
    betting_p_value,
    binomial_p_value,
    certify,
    hoeffding_bentkus_p_value,
    rows_needed,
    trinomial_p_value,
)
from router_ml.evaluation.guarantees.trinomial import _statistic


def drawn_losses(rng, n, mean, moved):
    """Losses in {-1, 0, 1} [n, K] of K settings: `moved` is the share that isn't 0. One draw of the prompts for all."""
    u, mean, moved = rng.random((n, 1)), np.asarray(mean), np.asarray(moved)
    return (u < (moved + mean) / 2).astype(float) - (u > 1 - (moved - mean) / 2)


def within(share, allowed, n):
    return share <= allowed + 2 * np.sqrt(allowed * (1 - allowed) / n)


@pytest.mark.parametrize(
    ("mean", "n", "limit", "expected"),
    [
        # e P(Binomial(10, .3) <= 1) = e (.7^10 + 10 x .3 x .7^9) is over the Hoeffding bound, (.7/.9)^9 (.3/.1)^1.
        (0.1, 10, 0.3, min((0.7 / 0.9) ** 9 * 3, np.e * (0.7**10 + 3 * 0.7**9))),
        (0.0, 10, 0.3, 0.7**10),
        (0.5, 10, 0.3, 1.0),
        (1.0, 10, 0.3, 1.0),
    ],
)
def test_hoeffding_bentkus_by_hand(mean, n, limit, expected):
    assert hoeffding_bentkus_p_value(mean, n, limit) == pytest.approx(expected)


def test_the_binomial_p_value_by_hand():
    assert binomial_p_value([0, 0, 1], 0.5).tolist() == pytest.approx([0.5])  # (1 + 3) / 8
    assert binomial_p_value([0, 0, 0], 0.1).tolist() == pytest.approx([0.9**3])


def test_the_first_bets_by_hand():
    # Two rows without loss, limit .5: the first bet is pdf(d) / (.05 sqrt(2 x .25)) with d = ndtri(.05) = -1.6449, so
    # .10314 / .035355 = 2.917, beyond the largest, .75 / .5; so is the second. (1 + 1.5 x .5)^2 = 3.0625.
    assert betting_p_value([0.0, 0.0], 0.5, random_state=0) == pytest.approx(1 / 3.0625)


def test_betting_never_loses_more_than_it_has():
    assert betting_p_value(np.ones(50), 0.5, random_state=0).tolist() == [1.0]


@settings(max_examples=30)
@given(
    arrays(np.float64, st.tuples(st.integers(1, 40), st.integers(1, 3)), elements=st.floats(-1, 1)),
    st.floats(-0.9, 0.9),
)
def test_p_values_are_in_0_1(losses, limit):
    p = betting_p_value(losses, limit, random_state=0)
    assert p.shape == (losses.shape[1],)
    assert ((p > 0) & (p <= 1)).all()
    p = hoeffding_bentkus_p_value((losses.mean(axis=0) + 1) / 2, len(losses), (limit + 1) / 2)
    assert ((p >= 0) & (p <= 1)).all()


@pytest.mark.parametrize("delta", [0.05, 0.2])
@pytest.mark.parametrize(
    ("mean", "moved"),
    [(0.02, 0.1), (0.02, 0.02), (0.3, 0.3), (-0.2, 0.6)],  # balanced, rare, violations, a limit below 0
)
def test_betting_rejects_a_true_null_with_probability_at_most_its_level(mean, moved, delta):
    # At the limit itself, the hardest null. Each column is an experiment of its own.
    rng = np.random.default_rng(0)
    u = rng.random((400, 2000))
    losses = (u < (moved + mean) / 2).astype(float) - (u > 1 - (moved - mean) / 2)
    p = betting_p_value(losses, mean, tuned_for=delta, random_state=rng)
    for read_at in (0.05, 0.2, 0.5):
        assert within(np.mean(p <= read_at), read_at, 2000)


def test_the_other_p_values_reject_a_true_null_with_probability_at_most_their_level():
    losses = (np.random.default_rng(0).random((300, 5000)) < 0.2).astype(float)
    for p in (binomial_p_value(losses, 0.2), hoeffding_bentkus_p_value(losses.mean(axis=0), 300, 0.2)):
        assert within(np.mean(p <= 0.05), 0.05, 5000)


def test_betting_sees_what_hoeffding_bentkus_can_not():
    # The docstring's example; a z-test without guarantee has power .63.
    rng = np.random.default_rng(0)
    u = rng.random((1000, 2000))
    losses = (u < 0.05).astype(float) - (u > 0.95)
    assert np.mean(betting_p_value(losses, 0.02, random_state=rng) <= 0.05) == pytest.approx(0.54, abs=0.04)
    assert hoeffding_bentkus_p_value((losses.mean(axis=0) + 1) / 2, 1000, 0.51).min() > 0.05


@pytest.mark.parametrize(("n", "limit"), [(20, 0.1), (30, 0.3)])
def test_the_trinomial_rejects_a_true_null_with_probability_at_most_its_level(n, limit):
    # Exactly, over all samples, along the whole edge of the null.
    samples = [(i, j) for i in range(n + 1) for j in range(n + 1 - i)]
    p = np.array([trinomial_p_value(np.repeat([1.0, -1.0, 0.0], [i, j, n - i - j]), limit) for i, j in samples])
    up, down = np.array(samples).T
    assert (p <= 0.1).sum() > 10
    for b in np.linspace(0, (1 - limit) / 2, 25):
        chance = multinomial.pmf(np.column_stack([up, down, n - up - down]), n, [b + limit, b, abs(1 - 2 * b - limit)])
        for level in (0.05, 0.1):
            assert chance[p <= level].sum() <= level


@given(st.integers(0, 40), st.integers(0, 40), st.integers(100, 2000), st.floats(0.001, 0.9))
def test_the_trinomials_order_is_one_of_evidence(ups, downs, n, limit):
    here, worse, better = (_statistic(*at, n, limit) for at in ((ups, downs), (ups + 1, downs), (ups, downs + 1)))
    if worse <= 0:
        assert better <= here + 1e-12 <= worse + 2e-12


def test_the_trinomial_comes_near_a_z_test():
    # The docstring's example, in which the z-test has power .69, betting .60.
    rng = np.random.default_rng(0)
    u = rng.random((1000, 200))
    losses = (u < 0.05).astype(float) - (u > 0.95)
    assert np.mean([trinomial_p_value(row, 0.02) <= 0.05 for row in losses.T]) == pytest.approx(0.65, abs=0.07)


def test_the_trinomial_rounds_graded_losses_up():
    losses = np.repeat([0.4, -0.4, 0.0, -1.0], [3, 5, 100, 20])
    assert trinomial_p_value(losses, 0.1) == trinomial_p_value(np.ceil(losses), 0.1)


def test_columns_are_tested_alike_whatever_stands_beside_them():
    losses = drawn_losses(np.random.default_rng(0), 500, [-0.02, 0.0, 0.01], [0.1, 0.1, 0.1])
    together = betting_p_value(losses, 0.02, random_state=5)
    alone = [betting_p_value(losses[:, k], 0.02, random_state=5)[0] for k in range(3)]
    np.testing.assert_allclose(together, alone)


def test_the_boldest_setting_before_the_first_failure_is_certified():
    losses = np.repeat([[0.0, 0.0, 1.0, 0.0]], 400, axis=0)
    found = certify(losses, 0.02, 0.05, random_state=0)
    assert found.certified.tolist() == [True, True, False, False]
    assert (found.index, found.mean_loss, found.rows_needed, found.n) == (1, 0.0, 0.0, 400)


MEANS = np.array([0.001, 0.004, 0.0201, 0.012, 0.03, 0.05])
MOVED = np.array([0.01, 0.04, 0.05, 0.1, 0.2, 0.3])


@pytest.mark.parametrize("method", ["betting", "trinomial"])
def test_certified_settings_keep_the_limit_and_are_not_vacuous(method):
    # The third setting is just over the limit, the fourth under it again: no monotone risk.
    rng = np.random.default_rng(1)
    delta, broken, some = 0.1, [], []
    for _ in range(80):
        found = certify(drawn_losses(rng, 1500, MEANS, MOVED), 0.02, delta, method=method, random_state=rng)
        broken.append((found.certified & (MEANS > 0.02)).any())
        some.append(found.index is not None and found.index >= 1)
    assert within(np.mean(broken), delta, 80)
    assert np.mean(some) > 0.7


def test_a_router_is_certified_on_prompts_it_was_not_fitted_on(draw):
    rng = np.random.default_rng(0)
    lams = np.concatenate(([0.0], np.geomspace(1, 300, 25)))
    many = draw(rng, 100_000, 1.0)
    cost = many.cost_hat[0]

    def losses(world):
        choices = sweep_value(world.quality_hat, world.cost_hat, lams).choices[: len(lams)].T
        return world.quality[:, [2]] - np.take_along_axis(world.quality, choices, axis=1)

    truth = losses(many).mean(axis=0)
    paid = np.array([cost[c].mean() for c in sweep_value(many.quality_hat, many.cost_hat, lams).choices[: len(lams)]])
    hindsight = 1 - paid[truth <= 0.02].min() / cost[2]
    broken, saved = [], []
    for _ in range(50):
        found = certify(losses(draw(rng, 2000, 1.0)), 0.02, 0.1, random_state=rng)
        broken.append(found.certified[truth > 0.02].any())
        saved.append(0.0 if found.index is None else 1 - paid[found.index] / cost[2])
    assert within(np.mean(broken), 0.1, 50)
    assert np.mean(saved) > 0.6 * hindsight


def test_violations_are_certified_by_the_binomial():
    rng = np.random.default_rng(2)
    chance = np.array([0.1, 0.2, 0.26, 0.35, 0.5])
    found = [
        certify((rng.random((500, 1)) < chance).astype(float), 0.3, 0.1, method="binomial", lowest=0, random_state=None)
        for _ in range(300)
    ]
    assert within(np.mean([row.certified[3:].any() for row in found]), 0.1, 300)
    assert np.mean([row.index == 2 for row in found]) > 0.5


def test_rows_needed_is_about_enough():
    rng = np.random.default_rng(3)
    losses = drawn_losses(rng, 600, [0.008], [0.1])
    losses -= losses.mean() - 0.008  # as observed: mean .008, variance about .1
    assert certify(losses.clip(-1, 1), 0.02, 0.05, random_state=0).index is None
    total = 600 + rows_needed(losses.clip(-1, 1), 0.02, 0.05)
    assert total == pytest.approx((1.645 + 0.842) ** 2 * losses.var() / 0.012**2, rel=0.05)
    u = rng.random((int(total), 400))
    again = (u < 0.054).astype(float) - (u > 0.954)
    assert 0.65 < np.mean(betting_p_value(again, 0.02, random_state=rng) <= 0.05) < 0.9


def test_rows_needed_where_nothing_is_ever_lost_is_what_the_largest_bet_takes():
    # (1 + .75 x .02 / .98)^n = 20
    assert rows_needed(np.zeros(10), 0.02, 0.05) == np.ceil(np.log(20) / np.log(1 + 0.015 / 0.98)) - 10


def test_rows_needed_is_infinite_above_the_limit_and_0_once_there_are_enough():
    assert rows_needed(np.full(10, 0.02), 0.02, 0.05) == np.inf
    assert rows_needed(np.zeros(1000), 0.02, 0.05) == 0
    found = certify(np.ones((50, 2)), 0.02, 0.05, random_state=0)
    assert (found.index, found.mean_loss, found.rows_needed) == (None, None, np.inf)


def test_the_same_seed_gives_the_same_certificate():
    losses = drawn_losses(np.random.default_rng(0), 700, MEANS, MOVED)
    first, second = (certify(losses, 0.02, 0.1, random_state=4) for _ in range(2))
    np.testing.assert_array_equal(first.p_values, second.p_values)


def test_hoeffding_bentkus_of_a_certificate_is_rescaled():
    losses = drawn_losses(np.random.default_rng(0), 700, MEANS, MOVED)
    found = certify(losses, 0.4, 0.1, method="hoeffding-bentkus", random_state=None)
    np.testing.assert_allclose(found.p_values, hoeffding_bentkus_p_value((losses.mean(axis=0) + 1) / 2, 700, 0.7))
    sums = np.round(700 * (losses.mean(axis=0) + 1) / 2 + 0.499)
    assert (found.p_values <= np.e * binom.cdf(sums, 700, 0.7) + 1e-12).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: certify([[0.0, np.nan]], 0.02, 0.05, random_state=0), "NaN"),
        (lambda: certify([[0.0, 1.5]], 0.02, 0.05, random_state=0), "needed -1 to 1"),
        (lambda: certify([[0.0, 0.5]], 1.0, 0.05, random_state=0), "limit is 1"),
        (lambda: certify([[0.0, 0.5]], 0.02, 0.0, random_state=0), "delta is 0"),
        (lambda: trinomial_p_value([[0.0, 1.0]], 0.02), "those of one setting"),
        (lambda: trinomial_p_value([0.0], 0.0), "limit is 0"),
        (lambda: certify([[0.0, 0.5]], 0.02, 0.05, method="best", random_state=0), "method is 'best'"),
        (lambda: certify([[0.0, 0.5]], 0.02, 0.05, method="binomial", lowest=0, random_state=0), "other than 0 and 1"),
        (lambda: betting_p_value([0.1], 1.0, random_state=0), "below 1"),
        (lambda: rows_needed([0.1], 1.0, 0.05), "below 1"),
        (lambda: hoeffding_bentkus_p_value([-0.1], 10, 0.1), "means in"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_what_is_not_certified_needs_at_least_one_more_prompt():
    rng = np.random.default_rng(0)
    found = [certify((rng.random((300, 1)) < 0.03) * 1.0, 0.05, 0.05, random_state=0) for _ in range(100)]
    assert all(c.rows_needed >= 1 for c in found if c.index is None)
    assert any(c.index is None for c in found)
