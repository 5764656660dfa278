from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from router_ml.errors import InputError, TrafficError
from router_ml.evaluation.off_policy import Logged, doubly_robust
from router_ml.evaluation.off_policy.policies import Evidence, judge_policies

TIERS = ("small", "middle", "large")


def evidence_of(world, **changes):
    """The fixture's log as a table by tier; what a tier costs is known."""
    n = len(world.pi)
    tried = np.eye(3, dtype=bool)[world.logged.action]
    cost = np.tile([1.0, 3.0, 10.0], (n, 1))
    fields = {
        "tiers": TIERS,
        "quality": np.where(tried, world.logged.reward[:, None], np.nan),
        "cost_usd": np.where(tried, cost, np.nan),
        "propensity": np.where(tried, world.logged.propensity[:, None], np.nan),
        "expected_quality": world.right,
        "expected_cost_usd": cost,
    }
    return Evidence(**{**fields, **changes})


def test_one_answer_a_prompt_gives_the_plain_estimate(draw_log):
    world = draw_log(np.random.default_rng(0), 800)
    found = evidence_of(world).value("router", world.pi.argmax(axis=1))
    assert found.quality.doubly_robust == doubly_robust(world.logged, world.pi, world.right)
    assert found.cost_usd.doubly_robust.value == pytest.approx((world.pi @ [1.0, 3.0, 10.0]).mean())


def test_prompts_that_no_tier_was_tried_on_are_prompts(draw_log, truth):
    # Every third prompt went to a model outside the ladder, whatever it was like.
    world = draw_log(np.random.default_rng(1), 6000, 0.6)
    ladder = (np.arange(6000) % 3 > 0)[:, None]
    evidence = evidence_of(world)
    tables = {name: np.where(ladder, getattr(evidence, name), np.nan) for name in ("quality", "cost_usd", "propensity")}
    thinned = dataclasses.replace(evidence, **{**tables, "propensity": tables["propensity"] * 2 / 3})
    found = thinned.value("router", world.pi.argmax(axis=1))
    assert found.overlap.mean_weight == pytest.approx(1, abs=0.1)
    assert found.quality.doubly_robust.low <= truth <= found.quality.doubly_robust.high


def test_intervals_cover_where_several_tiers_answer(draw_log, truth):
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(200):
        world = draw_log(rng, 500)
        reward = (rng.random((500, 3)) < world.right).astype(float)
        # What served is as before, and each tier is asked as well with a chance of .1.
        chance = world.behaviour + (1 - world.behaviour) * 0.1
        tried = np.eye(3, dtype=bool)[world.logged.action] | (rng.random((500, 3)) < 0.1)
        evidence = evidence_of(
            world,
            quality=np.where(tried, reward, np.nan),
            cost_usd=np.where(tried, 1.0, np.nan),
            propensity=np.where(tried, chance, np.nan),
            expected_quality=world.wrong,
        )
        found = evidence.value("router", world.pi.argmax(axis=1))
        if found.overlap.answerable:
            covered.append(found.quality.doubly_robust.low <= truth <= found.quality.doubly_robust.high)
    assert len(covered) >= 195
    assert np.mean(covered) >= 0.93


def test_the_rare_costs_of_other_tiers_do_not_widen_a_tier_s_own(draw_log):
    world = draw_log(np.random.default_rng(3), 800, 0.6)
    cost = np.tile([1.0, 3.0, 10.0], (800, 1))
    cost[:, 2] *= np.random.default_rng(3).lognormal(sigma=2, size=800)
    evidence = evidence_of(world)
    evidence = dataclasses.replace(evidence, cost_usd=np.where(np.isnan(evidence.quality), np.nan, cost))
    found = evidence.value("always small", np.zeros(800, dtype=int)).cost_usd.doubly_robust
    assert (found.low, found.high) == pytest.approx((1, 1))


def test_the_best_single_tier_is_compared_with(draw_log):
    world = draw_log(np.random.default_rng(4), 3000, 0.6)
    found = judge_policies(evidence_of(world), world.pi.argmax(axis=1), setting="planted")
    qualities = {c.name: c.quality.doubly_robust.value for c in found.constants}
    assert found.gain.against == max(qualities, key=qualities.get) == "always large"
    assert found.gain.quality.value == pytest.approx(
        found.router.quality.doubly_robust.value - qualities["always large"]
    )
    assert sum(found.share) == pytest.approx(1)


def test_a_router_that_the_log_has_not_seen_is_refused_with_the_reason(draw_log):
    world = draw_log(np.random.default_rng(5), 800, 1e-9)
    with pytest.raises(TrafficError, match=r"can't answer for the router \(planted\): .*never tried \(large\)"):
        judge_policies(evidence_of(world), world.pi.argmax(axis=1), setting="planted").require_router()


def test_a_log_that_can_answer_for_nothing_is_refused(draw_log):
    world = draw_log(np.random.default_rng(5), 30, 0.6)
    with pytest.raises(TrafficError, match=r"can't answer for the router \(planted\): .*at least 50 will do"):
        judge_policies(evidence_of(world), world.pi.argmax(axis=1), setting="planted")


def test_no_interval_leaves_the_range_of_what_it_is_of(draw_log):
    # All answers are good and few are the policy's: the plain intervals reach beyond 1.
    world = draw_log(np.random.default_rng(6), 400, 0.4)
    logged = Logged(world.logged.action, np.ones(400), world.logged.propensity)
    world = world._replace(logged=logged)
    choice = world.pi.argmax(axis=1)
    plain = doubly_robust(logged, world.pi, world.right)
    evidence = evidence_of(world)
    found = evidence.value("router", choice).quality
    assert plain.high > found.doubly_robust.high == 1
    assert (found.doubly_robust.value, found.doubly_robust.low) == (plain.value, plain.low)
    assert found.ips.high == 1
    gain = evidence.gain(choice, "always large", np.full(400, 2)).quality
    assert -1 <= gain.low <= gain.high <= 1


def test_tables_must_fit(draw_log):
    world = draw_log(np.random.default_rng(6), 100)
    with pytest.raises(InputError, match=r"expected_quality has shape \(100, 2\); needed \(100, 3\)"):
        evidence_of(world, expected_quality=world.right[:, :2])


def test_another_log_of_the_same_policy_is_no_other_policy():
    # Guards the pairing: prompts on which two policies agree add nothing, whatever was tried on them.
    logged = Logged([0, 0, 1, 1] * 100, [1.0, 0.0] * 200, [0.5] * 400)
    tried = np.eye(2, dtype=bool)[logged.action]
    tables = {name: np.where(tried, 0.5, np.nan) for name in ("quality", "cost_usd", "propensity")}
    flat = np.full((400, 2), 0.5)
    evidence = Evidence(("small", "large"), **tables, expected_quality=flat, expected_cost_usd=flat)
    found = evidence.gain(np.zeros(400, dtype=int), "always small", np.zeros(400, dtype=int))
    assert (found.quality.value, found.quality.low, found.quality.high) == (0, 0, 0)
