"""The default settings: the cheapest knob of each policy that keeps the quality, and the better policy first."""

from __future__ import annotations

import numpy as np

from router_ml.core.artifact import Setting
from router_ml.core.policy import choose_by_bar, choose_by_value
from router_ml.learning.settings import choose_settings

# Four prompts, two tiers at 1 and 4 USD. The small tier does well on the first two, where it is likeliest to.
P_MEETS = np.array([[0.9, 0.95], [0.7, 0.9], [0.4, 0.9], [0.2, 0.8]])
QUALITY = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
COST = np.tile([1.0, 4.0], (4, 1))


def choose(target: float, *, p_meets: np.ndarray = P_MEETS, quality: np.ndarray = QUALITY) -> dict[str, Setting]:
    return {s.policy: s for s in choose_settings(p_meets, p_meets, COST, quality, COST, quality_target=target)}


def test_cheapest_knob_that_keeps_the_quality_is_chosen() -> None:
    # The large tier alone: quality 1 at 4 USD. All of it takes large on prompts 3 and 4: (1 + 1 + 4 + 4) / 4 = 2.5 USD,
    # for any threshold over 0.4 and up to 0.7.
    setting = choose(1.0)["bar"]

    assert 0.4 < setting.knob <= 0.7
    assert (setting.quality, setting.cost_usd) == (1.0, 2.5)
    assert (setting.best_single_quality, setting.best_single_cost_usd) == (1.0, 4.0)


def test_value_has_a_knob_of_its_own() -> None:
    # Large is worth its 3 USD more on prompts 3 and 4 where lam < 0.5 / 3, and not on prompt 2 where lam > 0.2 / 3.
    setting = choose(1.0)["value"]

    assert 0.2 / 3 < setting.knob < 0.5 / 3
    assert (setting.quality, setting.cost_usd) == (1.0, 2.5)


def test_lower_target_saves_more() -> None:
    # Three quarters of the quality: large on prompt 4 alone, (1 + 1 + 1 + 4) / 4 = 1.75 USD.
    setting = choose(0.75)["bar"]

    assert 0.2 < setting.knob <= 0.4
    assert (setting.quality, setting.cost_usd) == (0.75, 1.75)


def test_target_out_of_reach_gives_the_best_quality_there_is() -> None:
    # The router sends the prompts the wrong way round, so that no setting reaches the large tier's 0.75; the
    # likeliest tier is the small one everywhere, which is right on one prompt in four.
    quality = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    setting = choose(1.0, p_meets=np.tile([0.6, 0.4], (4, 1)), quality=quality)["bar"]

    assert (setting.quality, setting.cost_usd) == (0.25, 1.0)


def test_the_policy_of_the_larger_aiq_is_the_default() -> None:
    # What is expected of quality says nothing here, what is expected of meeting the bar says all.
    flat = np.tile([0.5, 0.9], (4, 1))
    by_bar = choose_settings(P_MEETS, flat, COST, QUALITY, COST, quality_target=1.0)
    by_value = choose_settings(flat, P_MEETS, COST, QUALITY, COST, quality_target=1.0)

    assert (by_bar[0].policy, by_value[0].policy) == ("bar", "value")


def test_a_threshold_can_be_used_as_it_is_by_the_core() -> None:
    # All thresholds tie here, those over 1 among them.
    threshold = choose(0.1, p_meets=np.full((4, 2), 0.5))["bar"].knob

    assert choose_by_bar(np.full((1, 2), 0.5), threshold).tolist() == [0]


def test_a_lam_can_be_used_as_it_is_by_the_core() -> None:
    lam = choose(0.1)["value"].knob

    assert choose_by_value(P_MEETS, COST, lam).tolist() == [0, 0, 0, 0]


def test_nothing_to_compare_gives_the_plain_default() -> None:
    empty = np.empty((0, 3))
    (setting,) = choose_settings(empty, empty, empty, empty, empty, quality_target=1.0)

    assert (setting.policy, setting.knob) == ("bar", 0.5)


def test_one_tier_leaves_nothing_to_choose() -> None:
    one = np.full((4, 1), 0.5)

    assert choose_settings(one, one, one, one, one, quality_target=1.0)[0].knob == 0.5
