from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router_ml.errors import InputError
from router_ml.evaluation.off_policy import plan_exploration

SIZES = np.array([1000.0, 4000.0, 500.0])
SPREAD = np.array([[0.3, 0.4, 0.5], [0.1, 0.2, 0.2], [0.5, 0.5, 0.3]])
COST = np.array([[1.0, 2.0, 10.0]] * 3) * 1e-3
SERVED = np.array([0, 0, 2])


def objective(share):
    """The sum over tiers of the variance of the tier's mean reward, over what is explored."""
    tried = SPREAD * (np.arange(3) != SERVED[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(tried > 0, SIZES[:, None] * tried**2 / share, 0.0).sum()


def test_neymans_allocation_by_hand():
    # Calls go with N x spread / sqrt(extra price): 1000 x .4 / 1 and 1000 x .2 / 2 = 400 : 100, at 1 and 4 USD each,
    # 800 USD a unit; 40 USD buy a twentieth.
    plan = plan_exploration([1000, 1000], [[0, 0.4, 0], [0, 0, 0.2]], [[1, 2, 9], [1, 2, 5]], [0, 0], 40.0)
    assert plan.calls.round(6).tolist() == [[980, 20, 0], [995, 0, 5]]
    assert plan.epsilon.tolist() == pytest.approx([0.02, 0.005])
    assert plan.extra_cost_usd == pytest.approx(40)
    assert plan.share == pytest.approx(25 / 2000)
    # sqrt((1000 x .4)^2 / 20) / 2000
    assert plan.standard_error.tolist() == pytest.approx([0, 400 / np.sqrt(20) / 2000, 200 / np.sqrt(5) / 2000])


def test_the_budget_is_spent_and_the_cap_is_kept():
    plan = plan_exploration(SIZES, SPREAD, COST, SERVED, 1.0, max_epsilon=0.1)
    assert plan.extra_cost_usd == pytest.approx(1.0)
    assert (plan.epsilon <= 0.1 + 1e-9).all()
    # The last stratum is served by the dearest tier: trying others costs nothing more.
    assert plan.epsilon[2] == pytest.approx(0.1)
    np.testing.assert_allclose(plan.probability.sum(axis=1), 1)


def test_a_budget_that_is_too_large_is_not_spent():
    plan = plan_exploration(SIZES, SPREAD, COST, SERVED, 1e6, max_epsilon=0.1)
    assert plan.epsilon.tolist() == pytest.approx([0.1] * 3)
    assert plan.extra_cost_usd < 10


@pytest.mark.parametrize("budget", [0.2, 1.0, 3.0])
def test_no_other_plan_of_the_same_cost_is_better(budget):
    plan = plan_exploration(SIZES, SPREAD, COST, SERVED, budget, max_epsilon=0.1)
    explored = plan.probability * (np.arange(3) != SERVED[:, None])
    extra = np.maximum(COST - COST[np.arange(3), SERVED][:, None], 0)
    rng = np.random.default_rng(0)
    for _ in range(500):
        other = explored * rng.lognormal(0, 0.2, explored.shape)
        other *= np.minimum(1, 0.1 / other.sum(axis=1, keepdims=True))
        other *= min(1, budget / (SIZES @ (other * extra).sum(axis=1)))
        assert objective(other) >= objective(explored) * (1 - 1e-9)


def test_the_standard_error_is_what_a_log_of_the_plan_shows():
    plan = plan_exploration(SIZES, SPREAD, COST, SERVED, 1.0, max_epsilon=0.1)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        means = [
            rng.normal(0, SPREAD[s] / np.sqrt(np.maximum(rng.binomial(int(SIZES[s]), plan.probability[s]), 1)))
            for s in range(3)
        ]
        found.append(SIZES @ np.array(means) / SIZES.sum())
    np.testing.assert_allclose(np.std(found, axis=0), plan.standard_error, rtol=0.1)


def test_what_is_uncertain_and_left_untried_stays_unknown():
    plan = plan_exploration([100.0], [[0.3, 0.0]], [[1.0, 2.0]], [1], 1.0)
    assert plan.standard_error[0] < np.inf
    assert plan.standard_error[1] == 0


@settings(max_examples=15, deadline=None)
@given(
    arrays(np.float64, (4, 3), elements=st.floats(0, 0.5, allow_subnormal=False)),
    arrays(np.float64, (4, 3), elements=st.floats(0.001, 1)),
    st.floats(0.01, 100),
)
def test_plans_are_policies_within_the_budget(spread, cost, budget):
    plan = plan_exploration([100.0, 200.0, 50.0, 1000.0], spread, cost, [0, 1, 2, 0], budget)
    assert (plan.probability >= 0).all()
    np.testing.assert_allclose(plan.probability.sum(axis=1), 1)
    assert (plan.epsilon <= 0.2 + 1e-6).all()
    assert plan.extra_cost_usd <= budget * (1 + 1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"budget_usd": 0}, "budget_usd is 0"),
        ({"max_epsilon": 1.0}, "max_epsilon is 1"),
        ({"spread": -SPREAD}, "negative"),
        ({"cost_usd": COST[:2]}, "cost_usd has shape"),
        ({"n_prompts": [1.0]}, "n_prompts has shape"),
        ({"served": [0, 0, 3]}, "served is"),
    ],
)
def test_mistakes_are_named(changed, message):
    given_ = {"n_prompts": SIZES, "spread": SPREAD, "cost_usd": COST, "served": SERVED, "budget_usd": 1.0}
    with pytest.raises(InputError, match=message):
        plan_exploration(**(given_ | changed))
