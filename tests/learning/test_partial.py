"""Logs with some tiers a prompt: weights that make up for the logging policy, and tables to compare policies on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from router_ml.learning.partial import MAX_WEIGHT, Comparable, LogDesign, comparable, design_log
from router_ml.learning.targets import Outputs, Targets

NAN = float("nan")


class Log(NamedTuple):
    """What a logging policy that looks at the prompt left of complete traffic."""

    quality: np.ndarray
    propensity: np.ndarray
    features: np.ndarray
    truth: np.ndarray


def draw(n: int, *, seed: int = 0, several: bool = False, never: bool = False) -> Log:
    """Hard prompts (x large) go to the dearer tiers; `never`: the cheapest isn't tried on the harder half at all."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    truth = (rng.random((n, 3)) < 1 / (1 + np.exp(-(np.array([0.0, 1.0, 2.0]) - 2 * x[:, None])))).astype(float)
    score = np.exp(x[:, None] * np.array([-0.8, 0.0, 0.8]))
    if never:
        score[x > 0, 0] = 0
    chance = score / score.sum(axis=1, keepdims=True)
    if several:
        tried = rng.random((n, 3)) < chance
    else:
        tried = (rng.random(n)[:, None] > chance.cumsum(axis=1)[:, :2]).sum(axis=1)[:, None] == np.arange(3)
    return Log(
        np.where(tried, truth, NAN),
        np.where(tried, chance, NAN),
        np.column_stack([x, rng.normal(size=n)]),
        truth,
    )


def design(log: Log, *, logged: bool = True) -> LogDesign:
    propensity = log.propensity if logged else np.full_like(log.propensity, NAN)
    return design_log(log.quality, propensity, log.features, np.arange(len(log.quality)) % 5, random_state=0)


def weighted_means(log: Log, weight: np.ndarray) -> np.ndarray:
    tried = ~np.isnan(log.quality)
    means: np.ndarray = np.where(tried, weight * log.quality, 0).sum(axis=0) / np.where(tried, weight, 0).sum(axis=0)
    return means


# Weights


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("logged", [True, False])
def test_weighted_tier_means_are_those_of_complete_traffic(logged: bool, several: bool) -> None:
    log = draw(6000, several=several)
    found, truth = design(log, logged=logged), log.truth.mean(axis=0)
    plain = np.nanmean(log.quality, axis=0) - truth
    assert np.abs(plain[[0, 2]]).min() > 0.08  # the plain means flatter the cheapest tier and wrong the dearest
    assert np.abs(weighted_means(log, found.weight) - truth).max() < 0.04
    assert (found.is_complete, found.is_estimated) == (False, not logged)


@pytest.mark.slow
def test_weighted_tier_means_are_unbiased_over_many_logs() -> None:
    logs = [draw(800, seed=seed) for seed in range(200)]
    errors = np.array([weighted_means(log, design(log).weight) - log.truth.mean(axis=0) for log in logs])
    plain = np.array([np.nanmean(log.quality, axis=0) - log.truth.mean(axis=0) for log in logs])
    # Clipping and normalising leave a little, by far less than what they take away.
    assert np.abs(errors.mean(axis=0)).max() < 0.01 < 0.08 < np.abs(plain.mean(axis=0)[[0, 2]]).min()


@pytest.mark.parametrize("logged", [True, False])
def test_a_tiers_weights_are_one_on_average(logged: bool) -> None:
    log = draw(1000)
    weight = np.where(np.isnan(log.quality), NAN, design(log, logged=logged).weight)
    np.testing.assert_allclose(np.nanmean(weight, axis=0), 1)


def test_weights_and_what_they_are_worth_by_hand() -> None:
    # Each tier twice, once with a chance of 1/2 and once of 1/6: weights 2 and 6 over their mean, 4.
    quality = np.array([[1.0, NAN], [0.0, NAN], [NAN, 1.0], [NAN, 0.0]])
    propensity = np.array([[1 / 2, NAN], [1 / 6, NAN], [NAN, 1 / 6], [NAN, 1 / 2]])
    found = design_log(quality, propensity, np.zeros((4, 1)), np.array([0, 1, 0, 1]), random_state=0)
    np.testing.assert_allclose(found.weight, [[0.5, 1], [1.5, 1], [1, 1.5], [1, 0.5]])
    np.testing.assert_allclose(found.effective_n, [4 / 2.5, 4 / 2.5])


# How the log came about


def test_a_complete_log_counts_each_answer_once() -> None:
    log = draw(200)
    found = design(log._replace(quality=log.truth, propensity=np.full((200, 3), NAN)))
    assert (found.is_complete, found.is_estimated, found.summary(("a", "b", "c"))) == (True, False, "")
    assert (found.weight == 1).all()
    assert (found.propensity == 1).all()
    assert found.effective_n.tolist() == [200, 200, 200]


@pytest.mark.parametrize(("n_missing", "is_complete"), [(10, True), (11, False)])
def test_a_log_is_as_good_as_complete_with_at_least_95_percent(n_missing: int, is_complete: bool) -> None:
    log = draw(200)
    quality = log.truth.copy()
    quality[:n_missing, 1] = NAN
    assert design(log._replace(quality=quality), logged=False).is_complete is is_complete


def test_propensities_for_a_part_are_none() -> None:
    log = draw(400)
    some = log.propensity.copy()
    some[0] = NAN
    found = design(log._replace(propensity=some))
    assert found.is_estimated
    np.testing.assert_array_equal(found.propensity, design(log, logged=False).propensity)


def test_an_estimate_is_a_chance_for_each_cell() -> None:
    found = design(draw(2000), logged=False)
    np.testing.assert_allclose(found.propensity.sum(axis=1), 1)
    assert found.propensity.min() > 0


def test_estimates_are_near_the_logging_policy() -> None:
    log = draw(4000)
    estimated = np.where(np.isnan(log.propensity), NAN, design(log, logged=False).propensity)
    assert np.nanmean(np.abs(estimated - log.propensity)) < 0.03


def test_a_tier_that_was_never_tried_on_some_prompts_is_seen_to_be_unsupported() -> None:
    gap, none = (design(draw(3000, never=never), logged=False) for never in (True, False))
    assert gap.unsupported[0] > 0.1
    assert max(*gap.unsupported[1:], *none.unsupported) < 0.02
    text = gap.summary(("nano", "mini", "full"))
    assert "of which nothing can be promised: nano (" in text
    assert "mini (" not in text
    assert "nothing can be promised" not in none.summary(("nano", "mini", "full"))


def shadow(chance: tuple[float, ...], *, n: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quality, chances of inclusion and features of a log in which each tier is asked on its own; prompts without an answer are no rows."""
    rng = np.random.default_rng(seed)
    tried = rng.random((n, len(chance))) < chance
    tried = tried[tried.any(axis=1)]
    quality = np.where(tried, rng.integers(0, 2, tried.shape), NAN)
    return quality, np.where(tried, chance, NAN), rng.normal(size=(len(tried), 3))


@pytest.mark.parametrize("chance", [(0.3, 0.3, 1.0), (0.6, 0.6, 0.6), (0.05, 0.5, 1.0)])
def test_a_sure_tier_takes_no_chance_from_those_that_are_asked_beside_it(chance: tuple[float, ...]) -> None:
    # Shadow traffic: the propensities of a prompt add up to more than 1, or to 1 by chance, and tell nothing of who wasn't asked.
    quality, propensity, features = shadow(chance)
    folds = np.arange(len(quality)) % 5
    found = design_log(quality, propensity, features, folds, random_state=0)
    alone = design_log(quality, np.full_like(propensity, NAN), features, folds, random_state=0)
    assert found.unsupported.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(found.support, alone.support)
    np.testing.assert_array_equal(found.propensity, propensity)


@pytest.mark.parametrize("n_twice", [0, 5])
def test_where_one_tier_answers_a_sure_one_leaves_the_others_no_chance(n_twice: int) -> None:
    # No policy with chance, and nothing in the features by which it chose: the estimate alone would see support everywhere. A few prompts
    # that came twice, and went elsewhere the second time, are no shadow traffic.
    rng = np.random.default_rng(0)
    tried = rng.random(1200) < 0.5
    tried = np.column_stack([tried, ~tried])
    tried[:n_twice] = True
    quality = np.where(tried, rng.integers(0, 2, tried.shape), NAN)
    features, folds = rng.normal(size=(1200, 2)), np.arange(1200) % 5
    found = design_log(quality, np.where(tried, 1.0, NAN), features, folds, random_state=0)
    np.testing.assert_array_equal(found.support == 0, ~tried)
    assert (design_log(quality, np.full_like(quality, NAN), features, folds, random_state=0).unsupported == 0).all()


def test_a_tier_that_was_never_tried_at_all_stops_nothing() -> None:
    log = draw(600)
    quality = np.where(np.arange(3) == 1, NAN, log.quality)
    found = design(log._replace(quality=quality), logged=False)
    assert found.effective_n[1] == 0
    assert found.unsupported[1] == 1
    assert np.isfinite(found.weight).all()


@pytest.mark.parametrize(("logged", "where"), [(True, "as logged"), (False, "estimated from the prompts")])
def test_the_summary_says_where_weights_are_from_and_what_answers_are_worth(logged: bool, where: str) -> None:
    found = design(draw(600), logged=logged)
    text = found.summary(("nano", "mini", "full"))
    assert f"weighted by propensities {where}, worth so many prompts: nano {found.effective_n[0]:,.0f}, mini" in text


def test_the_design_of_some_prompts_is_that_of_all() -> None:
    found = design(draw(300))
    part = found.take(np.arange(300) < 7)
    assert part.weight.shape == part.propensity.shape == (7, 3)
    assert part.effective_n is found.effective_n


def test_the_estimate_is_seeded() -> None:
    log = draw(500)
    np.testing.assert_array_equal(design(log, logged=False).weight, design(log, logged=False).weight)


# What policies are compared on


def compare(log: Log, n_complete: int) -> Comparable:
    """The first `n_complete` prompts answered by all tiers; of the next two no answer was judged."""
    quality = log.quality.copy()
    quality[:n_complete] = log.truth[:n_complete]
    quality[n_complete : n_complete + 2] = NAN
    n = len(quality)
    cost = np.where(np.isnan(quality), NAN, 0.001)
    targets = Targets(quality, quality, quality, cost)
    propensity = np.where(np.isnan(quality), NAN, np.where(np.isnan(log.propensity), 1.0, log.propensity))
    outputs = Outputs(*(np.full((n, 3), 0.5) for _ in range(3)), np.ones(n))
    return comparable(
        targets, design(log._replace(quality=quality, propensity=propensity)), outputs, np.full((n, 3), 0.002)
    )


def test_with_enough_complete_prompts_those_alone_are_compared_on() -> None:
    log = draw(1000)
    found = compare(log, 200)
    assert (found.is_estimated, found.rows.tolist()) == (False, [True] * 200 + [False] * 800)
    np.testing.assert_array_equal(found.quality, log.truth[:200])
    assert (found.cost_usd == 0.001).all()


def test_with_fewer_all_judged_prompts_are_with_pseudo_outcomes() -> None:
    log = draw(1000)
    found = compare(log, 199)
    assert found.is_estimated
    assert found.rows.tolist() == [True] * 199 + [False] * 2 + [True] * 799
    assert found.quality.shape == found.cost_usd.shape == (998, 3)
    assert (found.cost_usd == 0.002).all()
    assert not np.isnan(found.quality).any()
    assert set(found.quality[199:].ravel()) > {0.5}


def test_pseudo_outcomes_tell_what_each_tier_is_worth() -> None:
    log = draw(6000)
    found = compare(log, 0)
    np.testing.assert_allclose(found.quality.mean(axis=0), log.truth.mean(axis=0), atol=0.05)


def test_no_answer_counts_more_than_the_clip_allows() -> None:
    quality, propensity = np.full((1000, 2), np.nan), np.full((1000, 2), np.nan)
    rows, tier = np.arange(1000), np.arange(1000) % 2
    quality[rows, tier], propensity[rows, tier] = 1.0, 0.5
    propensity[0, 0] = 1e-4
    design = design_log(quality, propensity, np.zeros((1000, 1)), rows % 5, random_state=0)

    assert design.weight.max() <= MAX_WEIGHT
    assert design.effective_n[0] > 250


def test_a_tier_tried_in_one_fold_only_has_finite_weights() -> None:
    rng = np.random.default_rng(0)
    tried = rng.integers(0, 2, 300)
    tried[0] = 2
    quality = np.where(tried[:, None] == np.arange(3), 1.0, np.nan)
    unknown = np.full((300, 3), np.nan)
    design = design_log(quality, unknown, rng.normal(size=(300, 2)), np.arange(300) % 5, random_state=0)

    assert np.isfinite(design.weight).all()
    assert (design.propensity[~np.isnan(quality)] > 0).all()
