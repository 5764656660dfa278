from __future__ import annotations

import json
import math

import numpy as np
import pytest

from router_ml.errors import InputError
from router_ml.evaluation import evaluate

TIERS = ["mini", "mid", "full"]


def evaluated(world, n_resamples=30, **changed):
    given = {
        "tiers": TIERS,
        "default_choice": world.quality_hat.argmax(axis=1),
        "meets": (world.quality >= 1).astype(float),
        "random_state": 0,
        "n_resamples": n_resamples,
    }
    return evaluate(
        world.quality_hat, world.quality_hat, world.cost_hat, world.quality, world.cost, **(given | changed)
    )


@pytest.fixture
def world(draw):
    return draw(np.random.default_rng(0), 1500, 1.0)


def test_a_router_with_skill_is_said_to_close_the_gap(world):
    found = evaluated(world)
    assert found.better
    assert found.headline.startswith("The router closes ")
    assert found.frontier["value"].gap_closed > 0.05


@pytest.mark.parametrize("predict", ["constant", "noise", "random"])
def test_a_router_without_skill_is_said_to_be_no_better(draw, predict):
    world = draw(np.random.default_rng(5), 400, 0.0)
    if predict == "constant":
        world = world._replace(quality_hat=np.tile(world.quality.mean(axis=0), (400, 1)))
    elif predict == "random":
        world = world._replace(quality_hat=np.random.default_rng(1).random((400, 3)))
    found = evaluated(world)
    assert not found.better
    assert found.headline.startswith("NO BETTER than the zero router")


def test_the_truth_as_prediction_closes_nearly_all_of_the_gap(world):
    found = evaluated(world._replace(quality_hat=world.quality, cost_hat=world.cost))
    assert found.frontier["value"].gap_closed == pytest.approx(1, abs=0.01)
    assert found.two_tier.cpt_80 < 0.5


def test_the_evaluation_goes_through_json_unchanged_in_meaning(draw):
    world = draw(np.random.default_rng(0), 60, 1.0)
    meets = (world.quality >= 1).astype(float)
    meets[:, 1] = np.nan
    found = evaluated(world, 20, meets=meets, slices={"source": np.where(np.arange(60) < 20, "a", "b")})
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert next(iter(again)) == "headline"
    assert again["calibration"][1]["error"]["ece"]["estimate"] is None
    assert again["frontier"]["value"]["aiq"] == found.frontier["value"].aiq
    assert again["confusion"]["n_unknown"] == found.confusion.n_unknown > 0
    assert [row["value"] for row in again["slices"]] == ["b", "a"]
    assert set(again["two_tier"]) == {"apgr", "cpt_50", "cpt_80"}


def test_trackers_get_flat_finite_numbers(world):
    found = evaluated(world).metrics()
    assert {
        "value/aiq", "value/gap_closed", "value/cost_save_95", "bar/gap_closed", "zero/aiq", "oracle/aiq",
        "value/cross_fitted/gap_closed", "value/cross_fitted/gap_closed_low", "default/share/mid",
        "calibration/ece/mini", "calibration/brier/full", "two_tier/apgr",
    } <= set(found)  # fmt: skip
    assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())


def test_hulls_are_thinned_after_their_figures_were_taken(world):
    found = evaluated(world)
    assert len(found.hulls["oracle"].cost) <= 200
    assert found.hulls["oracle"].quality[-1] == pytest.approx(world.quality.max(axis=1).mean())


def test_the_controls_name_settings_that_reach_the_best_tiers_quality(world):
    found = evaluated(world._replace(quality_hat=world.quality, cost_hat=world.cost))
    row = next(row for row in found.controls if row.name.startswith("router, at 100 % of the best tier"))
    assert row.quality >= world.quality.mean(axis=0).max() - 1e-12
    assert row.cost_usd < found.tier_points.cost[2]
    assert found.default.name == "router"


def test_the_same_seed_gives_the_same_evaluation(world):
    assert evaluated(world, 10).to_dict() == evaluated(world, 10).to_dict()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tiers": ["mini"]}, "got 1 tier names"),
        ({"meets": np.zeros((2, 3))}, "meets has shape"),
        ({"default_choice": np.zeros(3, dtype=int)}, "covers 3 prompts"),
        ({"slices": {"source": np.array(["a"])}}, "slice 'source'"),
    ],
)
def test_mistakes_are_named(world, changed, message):
    with pytest.raises(InputError, match=message):
        evaluated(world, 2, **changed)


def test_incomplete_observations_are_refused(world):
    quality = world.quality.copy()
    quality[3, 1] = np.nan
    with pytest.raises(InputError, match=r"quality holds 1 NaN .* prompt 3, tier 1"):
        evaluated(world._replace(quality=quality), 2, meets=np.zeros((1500, 3)))
    with pytest.raises(InputError, match="p_meets has shape"):
        evaluated(world._replace(quality_hat=world.quality_hat[:, :2]), 2, default_choice=np.zeros(1500, dtype=int))
