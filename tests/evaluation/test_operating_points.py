"""The menu: what each point keeps, on whom, and when one tier for everything takes its place."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from router_ml.core.policy import Reference, Rule, Shortfall, Single
from router_ml.evaluation.operating_points import MENU, build_menu, default_point
from router_ml.evaluation.tradeoff import Expectations, Outcomes, tradeoffs

TIERS = ("mini", "full")
USD = np.array([1.0, 10.0])


def world(n: int, seed: int, *, signal: float = 1.0) -> tuple[Expectations, Outcomes]:
    """Prompts whose cheap answer is right with a chance that a router knows as far as `signal` says; the expensive one with 0.9."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(1.5, 1.0, n)
    known = signal * chance + (1 - signal) * chance.mean()
    quality = np.column_stack([rng.random(n) < chance, rng.random(n) < 0.9]).astype(float)
    cost = USD * rng.lognormal(0, 0.3, (n, 1))
    p = np.column_stack([known, np.full(n, 0.9)])
    return Expectations(p, p, cost, np.zeros(n)), Outcomes(quality, cost, 1, np.arange(n))


def rule(threshold: float = np.inf) -> Rule:
    return Rule(Reference(), TIERS, 1, 10.5, threshold)


def test_every_loss_of_the_menu_has_a_point_named_by_it() -> None:
    points = build_menu(*world(400, 0), rule(), random_state=0)
    assert [p.name for p in points] == ["0pt", "0.5pt", "1pt", "2pt", "5pt"]
    assert tuple(p.max_quality_drop for p in points) == MENU


def test_the_default_is_the_point_that_keeps_the_loss_asked_for() -> None:
    menu = build_menu(*world(400, 0), rule(), random_state=0)
    assert default_point(menu, 0.02).max_quality_drop == 0.02


def test_a_larger_loss_saves_more() -> None:
    points = build_menu(*world(2000, 1), rule(), random_state=0)
    savings = [p.expected.saving for p in points if p.expected]
    assert len(savings) == len(points)
    assert savings == sorted(savings)


def test_the_loss_is_kept_on_new_prompts() -> None:
    """The largest loss on prompts that chose the point would, on average, be exceeded on others."""
    lost = []
    for seed in range(30):
        (point,) = build_menu(*world(400, seed), rule(), drops=[0.02], random_state=0)
        expected, outcomes = world(4000, 1000 + seed)
        choice = expected.choices(Rule(point.policy, TIERS, 1, 10.5))
        lost.append(outcomes.losses(choice).mean())
    assert np.mean(lost) <= 0.02 + 2 * np.std(lost) / np.sqrt(len(lost))
    # And it isn't kept by sending everything to the reference tier.
    assert np.mean(lost) > 0.008


def test_what_is_expected_is_what_new_prompts_give() -> None:
    said, got = [], []
    for seed in range(30):
        (point,) = build_menu(*world(400, seed), rule(), drops=[0.05], random_state=0)
        expected, outcomes = world(4000, 1000 + seed)
        choice = expected.choices(Rule(point.policy, TIERS, 1, 10.5))[None]
        assert point.expected is not None
        said.append(point.expected.saving)
        got.append(tradeoffs(choice, outcomes, random_state=0)[0].saving)
    assert np.mean(said) == pytest.approx(np.mean(got), abs=0.03)


def test_a_cheaper_tier_is_not_taken_by_luck() -> None:
    """Three tiers that a router can't tell apart: `mini` is 3 points worse, and on 150 prompts often looks no worse."""
    lost = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        quality = (rng.random((150, 3)) < np.array([0.87, 0.88, 0.90])).astype(float)
        expected = np.tile([0.87, 0.88, 0.90], (150, 1)) + rng.normal(0, 0.02, (150, 3))
        cost = np.array([1.0, 2.0, 10.0]) * rng.lognormal(0, 0.3, (150, 1))
        three = Rule(Reference(), ("mini", "mid", "full"), 2, 10.0)
        said = Expectations(expected, expected, cost, np.zeros(150))
        (point,) = build_menu(said, Outcomes(quality, cost, 2, np.arange(150)), three, drops=[0.01], random_state=0)
        share = said.choices(dataclasses.replace(three, policy=point.policy))
        lost.append(0.90 - np.array([0.87, 0.88, 0.90])[share].mean())
    # Taking the cheapest tier that looks good enough loses 1.5 points on average.
    assert np.mean(lost) <= 0.01 + 2 * np.std(lost) / np.sqrt(60)


def test_the_interval_of_the_saving_covers_what_the_point_saves_on_new_prompts() -> None:
    covered = 0
    for seed in range(40):
        (point,) = build_menu(*world(400, seed), rule(), drops=[0.03], random_state=0)
        expected, outcomes = world(8000, 500 + seed)
        choice = expected.choices(Rule(point.policy, TIERS, 1, 10.5))[None]
        saving = float(outcomes.saved_usd(choice).mean()) / outcomes.reference_cost_usd
        assert point.expected is not None
        covered += point.expected.saving_low <= saving <= point.expected.saving_high
    # Of 40 intervals of 95 %, fewer than 33 cover with probability 2e-3.
    assert covered >= 33


def test_one_cheaper_tier_that_keeps_the_loss_takes_all() -> None:
    """`mid` is as good as `full` on every prompt, though a router, misled by noise, would send half to `full`."""
    rng = np.random.default_rng(0)
    quality = np.column_stack([np.zeros(400), np.ones(400), np.ones(400)])
    noise = np.where(rng.random(400) < 0.5, 0.9, 0.2)
    expected = np.column_stack([noise - 0.05, noise, np.full(400, 0.9)])
    cost = np.tile([1.0, 2.0, 10.0], (400, 1))
    (point,) = build_menu(
        Expectations(expected, expected, cost, np.zeros(400)),
        Outcomes(quality, cost, 2, np.arange(400)),
        Rule(Reference(), ("mini", "mid", "full"), 2, 10.0),
        drops=[0.01],
        random_state=0,
    )
    assert point.policy == Single("mid")
    assert point.expected is not None
    assert (point.expected.saving, point.expected.quality_drop) == (pytest.approx(0.8), 0)


def test_a_router_that_a_blind_mix_beats_gives_way_to_one_tier() -> None:
    """Expectations that are wrong way round: the router sends to the cheap tier what only the expensive one can do."""
    expected, outcomes = world(2000, 3)
    wrong = expected.quality.copy()
    wrong[:, 0] = wrong[:, 0].max() + wrong[:, 0].min() - wrong[:, 0]
    (point,) = build_menu(
        Expectations(wrong, wrong, expected.cost_usd, expected.novelty), outcomes, rule(), drops=[0.05], random_state=0
    )
    assert point.policy == Reference()
    assert "blind mix" in point.note


def test_without_observed_outcomes_the_expectations_choose_and_nothing_is_claimed() -> None:
    expected, _ = world(400, 0)
    (point,) = build_menu(expected, None, rule(), drops=[0.02], random_state=0)
    assert isinstance(point.policy, Shortfall)
    assert point.expected is None
    assert "nothing could be compared" in point.note
    choice = expected.choices(Rule(point.policy, TIERS, 1, 10.5))
    shortfall = (expected.quality[:, 1] - expected.quality[np.arange(400), choice]).mean()
    assert 0.01 < shortfall <= 0.02


def test_novel_prompts_count_at_the_reference_tiers_cost() -> None:
    expected, outcomes = world(400, 0)
    novel = Expectations(expected.p_meets, expected.quality, expected.cost_usd, np.full(400, 2.0))
    (point,) = build_menu(novel, outcomes, rule(threshold=1.0), drops=[0.05], random_state=0)
    assert point.expected is not None
    assert point.expected.share == (0.0, 1.0)


def test_a_ladder_of_one_tier_has_a_menu() -> None:
    one = np.ones((30, 1))
    points = build_menu(
        Expectations(one, one, one, np.zeros(30)),
        Outcomes(one, one, 0, np.arange(30)),
        Rule(Reference(), ("only",), 0, 1.0),
        random_state=0,
    )
    assert {p.expected and p.expected.saving for p in points} == {0.0}


def test_the_same_seed_gives_the_same_menu() -> None:
    assert build_menu(*world(300, 5), rule(), random_state=1) == build_menu(*world(300, 5), rule(), random_state=1)


def test_more_signal_saves_more_at_the_same_loss() -> None:
    known, guessed = (
        build_menu(*world(1500, 2, signal=signal), rule(), drops=[0.02], random_state=0)[0].expected
        for signal in (1.0, 0.3)
    )
    assert known is not None
    assert guessed is not None
    assert known.saving > guessed.saving + 0.03
