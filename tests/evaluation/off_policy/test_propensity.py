from __future__ import annotations

import numpy as np
import pytest

from router_ml.errors import InputError
from router_ml.evaluation import ece
from router_ml.evaluation.off_policy import Logged, check_overlap, doubly_robust, estimate_propensities


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def logged_by(rng, n, weights):
    X = rng.normal(size=(n, len(weights)))
    behaviour = softmax(X @ weights)
    action = (rng.random(n)[:, None] > behaviour.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return X, action, behaviour


def test_base_rates_by_hand():
    # One constant feature, two folds. Of the other fold's four rows 3 went to tier 0 (fold 0 is predicted from
    # [0, 0, 0, 1]) and 2 (fold 1, from [0, 0, 1, 1]); a row of base rates more changes nothing.
    action, folds = [0, 0, 1, 1, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1, 1, 1]
    found = estimate_propensities(np.zeros((8, 1)), action, 3, folds=folds, random_state=None)
    np.testing.assert_allclose(found, [[0.75, 0.25, 0]] * 4 + [[0.5, 0.5, 0]] * 4, atol=1e-4)


def test_they_are_calibrated_and_near_the_truth():
    rng = np.random.default_rng(0)
    X, action, behaviour = logged_by(rng, 3000, rng.normal(size=(5, 3)))
    found = estimate_propensities(X, action, 3, random_state=0)
    assert np.abs(found - behaviour).mean() < 0.02
    for t in range(3):
        assert ece(found[:, t], action == t) < 0.03


def test_features_that_did_not_matter_are_not_believed():
    # 64 features, 400 rows: an unpenalised fit would be sure of every row.
    rng = np.random.default_rng(1)
    action = rng.choice(3, 400, p=[0.6, 0.3, 0.1])
    found = estimate_propensities(rng.normal(size=(400, 64)), action, 3, random_state=0)
    assert np.abs(found - [0.6, 0.3, 0.1]).max() < 0.12


def test_they_serve_an_estimate_as_the_known_ones_do(draw_log, truth):
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(5):
        world = draw_log(rng, 1000)
        chance = estimate_propensities(
            world.features, world.logged.action, 3, folds=np.arange(1000) % 2, random_state=None
        )
        action = world.logged.action
        logged = Logged(action, world.logged.reward, chance[np.arange(1000), action])
        assert check_overlap(logged, world.pi, logging_policy=chance).answerable
        found = doubly_robust(logged, world.pi, world.wrong)
        covered.append(found.low <= truth <= found.high)
    assert np.mean(covered) >= 0.8


def test_a_tier_that_prompts_of_a_kind_never_went_to_is_seen_as_unsupported():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(2000, 1))
    action = np.where(X[:, 0] > 0, 1, 0)
    chance = estimate_propensities(X, action, 2, random_state=0)
    logged = Logged(action, np.ones(2000), chance[np.arange(2000), action])
    swapped = np.eye(2)[1 - action]
    assert check_overlap(logged, swapped, logging_policy=chance).unsupported > 0.5


def test_folds_are_drawn_by_the_seed():
    rng = np.random.default_rng(4)
    X, action, _ = logged_by(rng, 200, rng.normal(size=(2, 3)))
    first, again, other = (estimate_propensities(X, action, 3, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features": np.zeros(4)}, "features has shape"),
        ({"action": [0, 1, 2, 3]}, "from 0 to 2"),
        ({"action": [0, 1]}, "needed 4 tier indices"),
        ({"n_tiers": 1}, "two tiers or more"),
        ({"folds": [0, 0, 0, 0]}, "at least two of them different"),
    ],
)
def test_mistakes_are_named(changed, message):
    given = {"features": np.zeros((4, 1)), "action": [0, 1, 2, 0], "n_tiers": 3, "random_state": 0} | changed
    with pytest.raises(InputError, match=message):
        estimate_propensities(**given)
