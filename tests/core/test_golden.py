"""Golden decisions: each way of deciding in Python gives what was worked out by hand; tests/test_node_client.py replays them in Node."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_ml.core.artifact import Metadata
from router_ml.core.decide import Decider, Predicted
from router_ml.core.menu import OperatingPoint
from router_ml.core.policy import Reference, policy_from_dict
from router_ml.core.request import Request, resolve
from router_ml.ladder import Ladder

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "decisions.json").read_text(encoding="utf-8"))
TIERS: list[dict[str, Any]] = GOLDEN["metadata"]["ladder"]
ROWS: list[dict[str, Any]] = GOLDEN["rows"]
METADATA = Metadata(
    **{k: v for k, v in GOLDEN["metadata"].items() if k != "ladder"},
    ladder=Ladder.from_dicts(TIERS),
    bar={"kind": "absolute", "value": 0.8, "reference": None},
    points=(OperatingPoint("reference", Reference(), 0.0),),
    default="reference",
    guarantees=(),
    inputs=("input_ids", "log_n_chars"),
    pad_id=0,
    max_tokens=None,
    add_special_tokens=False,
    encoder={},
    learner={},
)
DECIDER = Decider(METADATA)
EACH_ROW = pytest.mark.parametrize("row", ROWS, ids=[f"{i}: {row['why']}" for i, row in enumerate(ROWS)])


# The policies once more, in exact fractions and plain lists: nothing here is shared with router_ml.


def worked_costs(row: dict[str, Any]) -> list[Fraction]:
    """Expected cost in USD of each tier."""
    return [
        tokens * Fraction(tier["input_usd_per_mtok"]) / 10**6
        + Fraction(answer) * Fraction(tier["output_usd_per_mtok"]) / 10**6
        + Fraction(tier["request_usd"])
        for tokens, answer, tier in zip(worked_tokens(row), row["output_tokens"], TIERS, strict=True)
    ]


def worked_tokens(row: dict[str, Any]) -> list[Fraction]:
    """Expected tokens of the prompt, for each tier."""
    known = GOLDEN["metadata"]
    lengths = zip(known["input_tokens_base"], known["input_tokens_per_char"], strict=True)
    return [Fraction(base) + Fraction(per_char) * row["n_chars"] for base, per_char in lengths]


def worked_tiers(row: dict[str, Any]) -> list[int]:
    """The tiers that may take the request, cheapest first."""
    return [
        t
        for t, (tier, tokens) in enumerate(zip(TIERS, worked_tokens(row), strict=True))
        if (row["allowed"] is None or tier["name"] in row["allowed"])
        and (tier["supports"] is None or set(row["needs"]) <= set(tier["supports"]))
        and tokens < tier["context_window"]
    ]


def worked_decision(row: dict[str, Any]) -> tuple[str, str]:
    """Tier and reason."""
    tiers, policy, known = worked_tiers(row), row["policy"], GOLDEN["metadata"]
    names = [tier["name"] for tier in TIERS]
    p_meets, quality = ([Fraction(v) for v in row[field]] for field in ("p_meets", "quality"))

    def first_of_largest(values: list[Fraction]) -> int:
        return min(tiers, key=lambda t: (-values[t], t))

    def stand_in(name: str) -> int:
        return names.index(name) if names.index(name) in tiers else first_of_largest(quality)

    if Fraction(row["novelty"]) > Fraction(known["novelty_threshold"]) and not row["ignore_novelty"]:
        tier, reason = stand_in(known["reference"]), "novel"
    elif policy["kind"] == "reference":
        tier, reason = stand_in(known["reference"]), "reference"
    elif policy["kind"] == "single":
        tier, reason = stand_in(policy["tier"]), "single"
    elif policy["kind"] == "threshold":
        reaching = [t for t in tiers if p_meets[t] >= Fraction(policy["p_meets"])]
        tier = reaching[0] if reaching else first_of_largest(p_meets)
        reason = "meets_bar" if reaching else "none_meets_bar"
    else:
        of_shortfall = policy["kind"] == "shortfall"
        price = (
            Fraction(policy["epsilon"]) / Fraction(known["reference_cost_usd"])
            if of_shortfall
            else Fraction(policy["quality_per_usd"])
        )
        tier = first_of_largest([q - price * c for q, c in zip(quality, worked_costs(row), strict=True)])
        reason = "will_do" if of_shortfall else "best_utility"
    return names[tier], "only_tier" if len(tiers) == 1 else reason


def request_of(row: dict[str, Any]) -> Request:
    policy = policy_from_dict(row["policy"])
    return resolve(METADATA, policy=policy, allowed=row["allowed"], ignore_novelty=row["ignore_novelty"])


def predicted(rows: list[dict[str, Any]]) -> Predicted:
    """What the graph would give for these requests: single precision."""
    names = ("p_meets", "quality", "output_tokens", "novelty")
    outputs = [np.array([row[name] for row in rows], dtype=np.float32) for name in names]
    said = DECIDER.prediction(outputs, [row["n_chars"] for row in rows])
    return Predicted(said, [frozenset(row["needs"]) for row in rows])


def by_request() -> list[list[dict[str, Any]]]:
    """The rows, those of equal policy and options together."""

    def asked(row: dict[str, Any]) -> str:
        return json.dumps([row["policy"], row["allowed"], row["ignore_novelty"]])

    return [list(rows) for _, rows in groupby(sorted(ROWS, key=asked), key=asked)]


@EACH_ROW
def test_what_was_worked_out_by_hand_is_what_exact_arithmetic_gives(row: dict[str, Any]) -> None:
    assert worked_decision(row) == (row["tier"], row["reason"])


@EACH_ROW
def test_decide_gives_it(row: dict[str, Any]) -> None:
    (decision,) = DECIDER.decide(predicted([row]), request_of(row))
    assert (decision.tier, decision.reason) == (row["tier"], row["reason"])


@pytest.mark.parametrize("row", [row for row in ROWS if len(worked_tiers(row)) == len(TIERS)], ids=lambda r: r["why"])
def test_the_fast_path_gives_it_where_no_limit_applies(row: dict[str, Any]) -> None:
    outputs = [*row["p_meets"], *row["quality"], *row["output_tokens"], row["novelty"]]
    decision = DECIDER.decide_row(outputs, row["n_chars"], request_of(row))
    assert (decision.tier, decision.reason) == (row["tier"], row["reason"])


@pytest.mark.parametrize("rows", by_request(), ids=lambda rows: str(rows[0]["policy"]))
def test_the_rule_gives_it_for_many_at_once(rows: list[dict[str, Any]]) -> None:
    said, rule = predicted(rows).prediction, request_of(rows[0]).rule
    allowed = np.array([[t in worked_tiers(row) for t in range(len(TIERS))] for row in rows])
    chosen = rule.choose(said.p_meets, said.quality, said.cost_usd, said.novelty, allowed)
    assert [rule.tiers[t] for t in chosen] == [row["tier"] for row in rows]


@EACH_ROW
def test_its_numbers_are_exact_so_that_no_rounding_decides(row: dict[str, Any]) -> None:
    for name in ("p_meets", "quality", "output_tokens"):
        assert np.array(row[name], dtype=np.float32).tolist() == row[name]
    assert float(np.float32(row["novelty"])) == row["novelty"]
    assert predicted([row]).prediction.cost_usd[0].tolist() == worked_costs(row)


def test_they_hold_every_policy_every_reason_and_the_ends_of_the_threshold() -> None:
    assert {row["policy"]["kind"] for row in ROWS} == {"shortfall", "threshold", "utility", "reference", "single"}
    reasons = "will_do meets_bar none_meets_bar best_utility reference single novel only_tier"
    assert {row["reason"] for row in ROWS} == set(reasons.split())
    assert {0, 1} <= {row["policy"]["p_meets"] for row in ROWS if row["policy"]["kind"] == "threshold"}
