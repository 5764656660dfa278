"""Near duplicates: on one side of each split, with the sessions that they stand in."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.errors import TrafficError
from router_ml.ladder import Ladder, Tier
from router_ml.learning.model import group_folds
from router_ml.traffic.labels import Bar
from router_ml.traffic.observations import Observations, observe
from router_ml.traffic.schema import SCHEMA
from router_ml.traffic.split import MAX_GROUP_SHARE, connected_groups, keep_together, split_by_hash
from router_ml.workflow.data import prepare, split_traffic

LADDER = Ladder((Tier("small", "small", 1.0, 1.0), Tier("large", "large", 10.0, 10.0)))


def unrelated(i: int) -> str:
    return hashlib.sha256(f"{i}".encode()).hexdigest()


def nearly(i: int, variant: int) -> str:
    """One of several texts of 256 characters that differ in their last one."""
    return "".join(unrelated(1000 + 4 * i + k) for k in range(4)) + f"{variant}"


def traffic(rows: list[tuple[str, str]]) -> pl.DataFrame:
    """Both tiers' answers to prompts (text, session), the small one's good for every other."""
    return pl.DataFrame(
        [
            {
                "prompt_id": f"p{i:04d}",
                "prompt": prompt,
                "model": model,
                "quality": float(model == "large" or i % 2 == 0),
                "session_id": session or None,
            }
            for i, (prompt, session) in enumerate(rows)
            for model in LADDER.models
        ],
        schema=SCHEMA,
    )


def kept(rows: list[tuple[str, str]]) -> Observations:
    return keep_together(observe(traffic(rows), LADDER))


def alone(n: int) -> list[tuple[str, str]]:
    return [(unrelated(i), "") for i in range(n)]


def test_near_duplicates_belong_together() -> None:
    rows = [(nearly(0, 1), ""), (nearly(1, 1), ""), (nearly(0, 2), ""), *alone(30)]

    assert kept(rows).session_id.tolist() == ["p0000", "", "p0000", *[""] * 30]


def test_sessions_that_hold_near_duplicates_belong_together() -> None:
    rows = [(nearly(0, 1), "s"), (nearly(1, 1), "s"), (nearly(0, 2), "t"), (nearly(2, 1), "t"), *alone(50)]

    assert kept(rows).session_id[:4].tolist() == ["p0000"] * 4


def test_template_of_many_prompts_is_split() -> None:
    n = 40
    n_near = int(MAX_GROUP_SHARE * n) + 1
    rows = [*((nearly(0, i), "") for i in range(n_near)), *alone(n - n_near)]

    assert set(kept(rows).session_id) == {""}


def test_equal_texts_and_sessions_of_a_template_stay_together() -> None:
    rows = [(nearly(0, 0), ""), (nearly(0, 0), ""), (nearly(0, 1), "s"), (nearly(0, 2), "s"), *alone(16)]

    assert kept(rows).session_id[:4].tolist() == ["p0000", "p0000", "p0002", "p0002"]


some_rows = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.sampled_from(["", "s", "t"])), max_size=15)


@settings(deadline=None, max_examples=25)
@given(some_rows, st.integers(0, 5))
def test_no_group_is_on_both_sides_of_a_split_or_in_two_folds(
    drawn: list[tuple[int, int, str]], random_state: int
) -> None:
    # So many others that no group is too large to be held together.
    seen = kept([*((nearly(i, variant), session) for i, variant, session in drawn), *alone(150)])
    test = split_by_hash(seen.prompt, seen.session_id, test_share=0.5, random_state=random_state)
    folds = group_folds(connected_groups(seen.prompt, seen.session_id), random_state=random_state)
    places: dict[tuple[str, object], set[tuple[bool, int]]] = {}
    for (i, _, session), *place in zip(drawn, test.tolist(), folds.tolist(), strict=False):
        places.setdefault(("near", i), set()).add(tuple(place))
        if session:
            places.setdefault(("session", session), set()).add(tuple(place))

    assert all(len(p) == 1 for p in places.values())


def test_split_of_traffic_keeps_near_duplicates_on_one_side() -> None:
    rows = [(nearly(i, variant), "") for i in range(100) for variant in range(3)]

    split = split_traffic(traffic(rows), LADDER, test_share=0.5, random_state=0)

    # Texts differ in their last character.
    train, test = (set(side["prompt"].str.head(256)) for side in (split.train, split.test))
    assert not train & test
    assert min(len(train), len(test)) > 30


def test_what_is_learned_from_knows_near_duplicates() -> None:
    rows = [(nearly(i, variant), "") for i in range(20) for variant in range(2)]

    seen = prepare(traffic(rows), LADDER, Bar(0.5)).observations

    assert len(np.unique(seen.session_id)) == 20


@pytest.mark.parametrize("n_sessions", [1, 9])
def test_too_few_sessions_to_cross_validate_are_refused(n_sessions: int) -> None:
    rows = [(prompt, f"s{i % n_sessions}") for i, (prompt, _) in enumerate(alone(60))]

    with pytest.raises(TrafficError, match=f"belong to {n_sessions} session"):
        prepare(traffic(rows), LADDER, Bar(0.5))
