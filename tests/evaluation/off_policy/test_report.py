from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from router_ml.evaluation.off_policy import Overlap
from router_ml.evaluation.off_policy.intervals import Estimate
from router_ml.evaluation.off_policy.report import Estimates, Gain, OffPolicyEvaluation, PolicyValue

SEEN = Overlap(1000, 400.0, 5.0, 0.01, 1.0, 0.0, (), ())
UNSEEN = Overlap(1000, 0.0, 0.0, float("nan"), 0.0, 1.0, (1,), ("the policy uses tiers that were never tried (large)",))


def estimate(value: float, half: float = 0.01) -> Estimate:
    return Estimate(value, half / 2, value - half, value + half, 1000, 400.0)


def policy(name: str, quality: float, cost_usd: float) -> PolicyValue:
    return PolicyValue(name, SEEN, *(Estimates(*[estimate(v, v / 10)] * 4) for v in (quality, cost_usd)))


def evaluation(gained: float, **changes) -> OffPolicyEvaluation:
    found = OffPolicyEvaluation(
        tiers=("small", "large"),
        setting="policy bar, knob 0.8",
        share=(0.75, 0.25),
        n_prompts=1000,
        level=0.95,
        propensities="logged",
        router=policy("router", 0.9 + gained, 0.001),
        constants=(policy("always small", 0.7, 0.0005), policy("always large", 0.9, 0.004)),
        gain=Gain("always large", estimate(gained), estimate(-0.003, 0.0001)),
        notes=("Something to know.",),
    )
    return dataclasses.replace(found, **changes)


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (0.05, "The router is BETTER than always large"),
        (-0.05, "The router is WORSE than always large"),
        (0.0, "This log can't tell the router's quality from that of always large"),
    ],
)
def test_the_headline_says_the_finding(gain, words):
    headline = evaluation(gain).headline
    assert headline.startswith(words)
    assert headline.endswith("at 75.0 % less cost.")


def test_a_dearer_router_is_said_to_be():
    assert evaluation(0.0, gain=Gain("always small", estimate(0.2), estimate(0.0005))).headline.endswith(
        "at 100.0 % more cost."
    )


def test_without_any_single_tier_to_compare_with_it_says_so():
    unseen = tuple(PolicyValue(f"always {name}", UNSEEN, None, None) for name in ("small", "large"))
    found = evaluation(0.0, constants=unseen, gain=None)
    assert "nothing to compare" in found.headline
    assert "can't answer for any single tier" in " ".join(found.to_text().split())


def test_the_text_begins_with_the_headline_and_says_why_a_policy_has_no_figures():
    found = evaluation(0.0)
    large = PolicyValue("always large", UNSEEN, None, None)
    text = dataclasses.replace(found, constants=(found.constants[0], large)).to_text()
    assert " ".join(text.split()).startswith(found.headline)
    assert "The log can't answer for always large: the policy uses tiers that were never tried (large)." in text
    row = next(line for line in text.splitlines() if line.startswith("always large"))
    assert row.split() == ["always", "large", "-", "-", "-", "-"]
    assert text.endswith("Something to know.\n")


def test_figures_stand_where_they_belong():
    text = evaluation(0.0).to_text()
    row = next(line for line in text.splitlines() if line.startswith("router "))
    assert row.split() == ["router", "0.9000", "0.8100", "to", "0.9900", "1", "0.9", "to", "1.1"]
    assert "its calls: small 75 %, large 25 %" in " ".join(text.split())


def test_the_dict_is_valid_json_without_nan():
    large = PolicyValue("always large", UNSEEN, None, None)
    found = dataclasses.replace(evaluation(0.0), constants=(policy("always small", 0.7, 0.0005), large))
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["headline"] == found.headline
    assert plain["constants"][1]["quality"] is None
    assert plain["constants"][1]["overlap"]["largest_share"] is None
    assert plain["router"]["quality"]["doubly_robust"]["value"] == pytest.approx(0.9)
    assert np.isfinite(plain["gain"]["cost_usd"]["low"])
