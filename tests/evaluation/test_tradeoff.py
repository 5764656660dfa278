"""Trade-offs against the reference tier: means worked by hand, intervals that cover, and the blind mix beside them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_ml.core.menu import OperatingPoint
from router_ml.core.policy import Reference, Rule, Shortfall, Single
from router_ml.evaluation.tradeoff import (
    Expectations,
    Outcomes,
    blind_mix,
    cheapest_within,
    measure_menu,
    mix_loss,
    standard_error,
    tradeoffs,
)

# Two tiers at 1 and 4 USD; the cheap one fails two of four prompts.
QUALITY = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
COST = np.tile([1.0, 4.0], (4, 1))


def outcomes(groups: list[int] | None = None) -> Outcomes:
    return Outcomes(QUALITY, COST, 1, np.arange(4) if groups is None else np.array(groups))


def test_means_are_those_of_the_chosen_tiers() -> None:
    (found,) = tradeoffs(np.array([[0, 1, 0, 0]]), outcomes(), random_state=0)
    assert (found.quality_drop, found.cost_usd, found.reference_cost_usd) == (0.25, 1.75, 4.0)
    assert (found.saving, found.share, found.n) == (1 - 1.75 / 4, (0.75, 0.25), 4)


def test_the_reference_tier_loses_and_saves_nothing_for_certain() -> None:
    (found,) = tradeoffs(np.ones((1, 4), dtype=int), outcomes(), random_state=0)
    assert (found.quality_drop, found.quality_drop_low, found.quality_drop_high, found.saving) == (0, 0, 0, 0)


def test_a_blind_mix_of_the_same_cost_loses_what_its_share_of_the_cheap_tier_does() -> None:
    # Half of the requests to the cheap tier cost 2.5, and half of its loss of 0.5 is lost.
    assert mix_loss(2.5, outcomes()) == pytest.approx(0.25)
    assert mix_loss(0.5, outcomes()) is None


def test_the_cheapest_blind_mix_that_keeps_a_loss() -> None:
    mix = blind_mix(outcomes(), 0.1)
    assert (mix.cheap, mix.costly, mix.share) == (0, 1, pytest.approx(0.2))
    assert (mix.cost_usd, mix.quality_drop) == (pytest.approx(3.4), pytest.approx(0.1))


def test_no_loss_takes_no_mix() -> None:
    assert blind_mix(outcomes(), 0.0).share == 0


@pytest.mark.parametrize(
    ("losses", "limit", "setting"),
    [
        ([0.0, 0.01, 0.02, 0.03], 0.02, 2),
        ([0.0, 0.03, 0.01, 0.05], 0.02, 0),  # not 2, whose loss is under the limit by luck
        ([0.05, 0.01], 0.02, 0),
        ([0.0, 0.0], 0.02, 1),
    ],
)
def test_the_setting_before_the_loss_first_exceeds_the_limit(losses: list[float], limit: float, setting: int) -> None:
    assert cheapest_within(np.array(losses), np.arange(len(losses)), limit) == setting


def test_of_settings_that_save_as_much_the_safest_is_taken() -> None:
    assert cheapest_within(np.array([0.0, 0.0, 0.0, 0.1]), np.array([0.0, 0.4, 0.4, 0.5]), 0.02) == 1


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), st.floats(-1, 1))
def test_a_larger_limit_never_takes_a_safer_setting(losses: list[float], limit: float) -> None:
    savings = np.arange(len(losses))
    small, large = (cheapest_within(np.array(losses), savings, end) for end in (limit, limit + 0.1))
    assert small <= large


def test_requests_of_one_group_are_drawn_together() -> None:
    choice = np.array([[0, 0, 0, 0] * 25])
    quality, cost = np.tile(QUALITY, (25, 1)), np.tile(COST, (25, 1))
    alone = Outcomes(quality, cost, 1, np.arange(100))
    # Prompts of one kind in each of ten groups: as few as ten independent prompts.
    joined = Outcomes(quality[np.argsort(quality[:, 0], kind="stable")], cost, 1, np.arange(100) // 10)
    (a,), (b,) = (tradeoffs(choice, o, random_state=0) for o in (alone, joined))
    assert b.quality_drop_high - b.quality_drop_low > 2 * (a.quality_drop_high - a.quality_drop_low)


def test_intervals_cover_the_true_loss() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        quality = np.column_stack([rng.random(150) < 0.7, rng.random(150) < 0.9]).astype(float)
        cost = np.column_stack([rng.exponential(1, 150), rng.exponential(4, 150)])
        choice = np.zeros((1, 150), dtype=int)
        (found,) = tradeoffs(choice, Outcomes(quality, cost, 1, np.arange(150)), random_state=seed)
        covered += found.quality_drop_low <= 0.2 <= found.quality_drop_high
    # Of 200 intervals of 95 %, fewer than 180 cover with probability 3e-4.
    assert covered >= 180


def test_a_reference_tier_without_a_price_saves_no_share_and_costs_what_is_spent() -> None:
    free = Outcomes(QUALITY, np.tile([1.0, 0.0], (4, 1)), 1, np.arange(4))
    (found,) = tradeoffs(np.array([[0, 0, 1, 1]]), free, random_state=0)
    assert (found.saving, found.saving_low, found.cost_usd) == (0.0, 0.0, 0.5)


def test_the_standard_error_is_of_independent_groups() -> None:
    values = np.repeat([0.0, 1.0, 0.0, 1.0], 10)
    alone, joined = standard_error(values, np.arange(40)), standard_error(values, np.arange(40) // 10)
    # Of 40 values, and of the means of 4 groups: 0.5 / sqrt(39) and 0.5 / sqrt(3).
    assert (alone, joined) == (pytest.approx(0.5 / 39**0.5), pytest.approx(0.5 / 3**0.5))


def test_a_menu_is_measured_with_the_policies_that_it_holds() -> None:
    rule = Rule(Reference(), ("mini", "full"), 1, 4.0)
    expected = Expectations(QUALITY, np.array([[0.9, 1.0], [0.2, 1.0], [0.9, 1.0], [0.9, 1.0]]), COST, np.zeros(4))
    # A saving of 3 of 4 USD is worth 0.75 of epsilon: at 0.2 a shortfall of 0.1 will do, and one of 0.8 won't.
    points = [
        OperatingPoint("a", Shortfall(0.2)),
        OperatingPoint("b", Single("mini")),
        OperatingPoint("c", Reference()),
    ]
    found = measure_menu(points, rule, expected, outcomes(), random_state=0)
    assert [p.expected and p.expected.share for p in found] == [(0.75, 0.25), (1.0, 0.0), (0.0, 1.0)]
    assert [p.policy for p in found] == [p.policy for p in points]
