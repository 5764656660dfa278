"""Promises: certified knobs keep their limit as often as was said, whatever the log and however wrong the predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from router_ml.core.decision import Policy
from router_ml.core.guarantee import Guarantee, GuaranteeKind
from router_ml.core.policy import choose
from router_ml.evaluation.off_policy import pseudo_outcomes
from router_ml.learning.promising import CalibrationSet, knob_grid, make_promises

COST = np.array([1.0, 4.0, 20.0]) * 1e-4
REFERENCE = 2
DELTA = 0.1
DRAWS = 200


def chances(x: np.ndarray) -> np.ndarray:
    """That each tier's answer is good (its quality is then 1, and meets the bar): easy prompts have a small x."""
    found: np.ndarray = np.stack([0.9 - 0.7 * x, 0.95 - 0.4 * x, 0.9 - 0.1 * x], axis=1)
    return found


def world(rng: np.random.Generator, n: int, *, skill: float = 0.1) -> tuple[np.ndarray, CalibrationSet]:
    """The true chances of n prompts, and what a router says of them (`skill`: its noise) and complete traffic shows."""
    x = rng.random(n)
    said = np.clip(chances(x) + skill * rng.normal(size=(n, 3)), 0, 1)
    met = (rng.random((n, 3)) < chances(x)).astype(float)
    cost = np.tile(COST, (n, 1))
    return chances(x), CalibrationSet(said, said, cost, np.zeros(n, dtype=bool), met, met, cost, 1.0, "", {})


TRUTH, POPULATION = world(np.random.default_rng(1), 50_000)
GRIDS: dict[Policy, np.ndarray] = {
    policy: knob_grid(policy, training.p_meets, training.expected_quality, training.expected_cost_usd)
    for training in [world(np.random.default_rng(2), 2000)[1]]
    for policy in ("bar", "value")
}


def true_losses(policy: Policy) -> dict[GuaranteeKind, np.ndarray]:
    """Of each knob, on the population."""
    picked = np.take_along_axis(TRUTH, POPULATION.choices(policy, GRIDS[policy], REFERENCE), axis=1).mean(axis=0)
    return {"loss": TRUTH[:, REFERENCE].mean() - picked, "violation": 1 - picked}


def promise(calibration: CalibrationSet, policy: Policy, kind: GuaranteeKind, limit: float) -> Guarantee:
    found = make_promises(
        calibration, policy, GRIDS[policy], REFERENCE, limits={kind: [limit]}, deltas=[DELTA], random_state=0
    )
    return found[0]


def certified(
    draw: Callable[[np.random.Generator], CalibrationSet],
    policy: Policy,
    kind: GuaranteeKind,
    limit: float,
    n_draws: int = DRAWS,
) -> np.ndarray:
    """The true losses of what was certified on calibration sets drawn again and again; NaN where nothing was."""
    truth, rng = true_losses(policy)[kind], np.random.default_rng(3)
    found = []
    for _ in range(n_draws):
        knob = promise(draw(rng), policy, kind, limit).knob
        found.append(np.nan if knob is None else truth[np.flatnonzero(GRIDS[policy] == knob)[0]])
    return np.array(found)


def within(broken: np.ndarray, delta: float = DELTA) -> bool:
    return bool(broken.mean() <= delta + 2 * np.sqrt(delta * (1 - delta) / len(broken)))


# The grid


@pytest.mark.parametrize("policy", ["bar", "value"])
def test_knobs_go_from_the_safest_to_the_boldest(policy: Policy) -> None:
    knobs = GRIDS[policy]
    picked = POPULATION.choices(policy, knobs, REFERENCE)
    spent = COST[picked].mean(axis=0)
    assert (np.diff(knobs) < 0).all() if policy == "bar" else (np.diff(knobs) > 0).all()
    assert (np.diff(spent) <= 1e-12).all()
    assert 20 <= len(knobs) <= 40
    # The safest takes the best that is expected, the boldest nearly always the cheapest tier.
    assert (picked[:, 0] == POPULATION.expected_quality.argmax(axis=1)).mean() > 0.99
    assert (picked[:, -1] == 0).mean() > 0.95


@pytest.mark.parametrize("policy", ["bar", "value"])
def test_the_true_loss_grows_along_the_grid(policy: Policy) -> None:
    loss = true_losses(policy)["loss"]
    assert loss[0] < 0.02 < 0.2 < loss[-1]
    assert np.diff(loss).min() > -0.01


TABLES = st.tuples(st.integers(1, 30), st.integers(2, 4)).flatmap(
    lambda s: st.tuples(*[hnp.arrays(np.float64, s, elements=st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1))] * 2)
)


@settings(max_examples=60)
@given(TABLES, st.sampled_from(["bar", "value"]), st.integers(2, 20))
def test_any_grid_is_ordered_and_can_be_asked_for(tables: Any, policy: Policy, n_knobs: int) -> None:
    said, _ = tables
    cost = np.tile(np.geomspace(1e-4, 1e-2, said.shape[1]), (len(said), 1))
    knobs = knob_grid(policy, said, said, cost, n_knobs=n_knobs)
    rows = np.arange(len(said))
    spent = [cost[rows, choose(policy, k, said, said, cost)].mean() for k in knobs.tolist()]
    assert 1 <= len(knobs) <= n_knobs
    assert np.isfinite(knobs).all()
    assert ((knobs >= 0) & (knobs <= 1)).all() if policy == "bar" else (knobs >= 0).all()
    assert (np.diff(knobs) < 0).all() if policy == "bar" else (np.diff(knobs) > 0).all()
    assert (np.diff(spent) <= 1e-12).all()


# The promise


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "kind", "limit", "exact"),
    [("value", "loss", 0.05, False), ("value", "loss", 0.05, True), ("bar", "violation", 0.22, False)],
)
def test_on_complete_traffic_certified_knobs_keep_the_limit(
    policy: Policy, kind: GuaranteeKind, limit: float, exact: bool
) -> None:
    loss = certified(lambda rng: dataclasses.replace(world(rng, 500)[1], exact=exact), policy, kind, limit)
    assert within(loss > limit)
    # Nor are they vacuous: something is certified nearly always, not far below the limit.
    assert np.isnan(loss).mean() < 0.2
    assert np.nanmean(loss) > limit - 0.06


def test_the_boldest_knob_that_looks_good_would_not_keep_it() -> None:
    # The same simulation refutes a choice without a test, so it could refute ours.
    truth, rng = true_losses("value")["loss"], np.random.default_rng(3)
    broken = []
    for _ in range(DRAWS):
        calibration = world(rng, 500)[1]
        picked = np.take_along_axis(calibration.quality, calibration.choices("value", GRIDS["value"], REFERENCE), 1)
        seen = calibration.quality[:, REFERENCE].mean() - picked.mean(axis=0)
        broken.append(truth[np.flatnonzero(seen <= 0.1)[-1]] > 0.1)
    assert not within(np.array(broken))


def partial(rng: np.random.Generator, n: int, *, weighted: bool = True) -> CalibrationSet:
    """One answer a prompt by a logging policy that looks at it, and predictions that flatter the cheap tiers."""
    truth, calibration = world(rng, n)
    hard = (0.9 - truth[:, 2])[:, None] * 10
    behaviour = 0.15 + 0.55 * np.hstack([1 - hard, np.zeros_like(hard), hard])
    tried = (rng.random(n)[:, None] > behaviour.cumsum(axis=1)[:, :2]).sum(axis=1)[:, None] == np.arange(3)
    wrong = np.clip(truth + np.array([0.15, 0.1, -0.1]), 0, 1)
    seen = np.where(tried, calibration.quality, np.nan)
    outcome = pseudo_outcomes(seen, behaviour, wrong) if weighted else wrong
    return dataclasses.replace(calibration, quality=outcome, meets=outcome, bound=1 + 1 / 0.15)


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "kind", "limit"), [("value", "loss", 0.1), ("bar", "violation", 0.27)])
def test_on_one_answer_a_prompt_certified_knobs_keep_the_limit(
    policy: Policy, kind: GuaranteeKind, limit: float
) -> None:
    loss = certified(lambda rng: partial(rng, 1200), policy, kind, limit)
    assert within(loss > limit)
    assert np.isnan(loss).mean() < 0.5


def test_by_predictions_alone_they_would_not() -> None:
    loss = certified(lambda rng: partial(rng, 1200, weighted=False), "value", "loss", 0.1, n_draws=30)
    assert (loss > 0.1).mean() > 0.9


def test_the_promise_is_kept_with_novel_prompts_sent_to_safety() -> None:
    def draw(rng: np.random.Generator) -> CalibrationSet:
        calibration = world(rng, 500)[1]
        return dataclasses.replace(calibration, to_safety=rng.random(500) < 0.5)

    # A half of the prompts loses nothing, so that the same knob's true loss is half of it.
    loss = certified(draw, "value", "loss", 0.05, n_draws=60) / 2
    assert within(loss > 0.05)
    assert np.nanmean(loss) > 0.01


def test_novel_prompts_go_to_the_reference_tier_at_each_knob() -> None:
    calibration = world(np.random.default_rng(0), 100)[1]
    some = np.arange(100) < 30
    picked = dataclasses.replace(calibration, to_safety=some).choices("bar", GRIDS["bar"], REFERENCE)
    assert (picked[some] == REFERENCE).all()
    np.testing.assert_array_equal(picked[~some], calibration.choices("bar", GRIDS["bar"], REFERENCE)[~some])


def test_an_exact_test_certifies_more() -> None:
    rng = np.random.default_rng(0)
    drawn = [world(rng, 500)[1] for _ in range(10)]
    knobs = [
        [promise(dataclasses.replace(c, exact=exact), "value", "loss", 0.05).knob or 0.0 for c in drawn]
        for exact in (False, True)
    ]
    assert np.mean(knobs[0]) < np.mean(knobs[1])


def in_sessions(rng: np.random.Generator, n_sessions: int, size: int) -> CalibrationSet:
    """Sessions of `size` prompts that are all as hard, and the cheap tier fails on all of a session or on none."""
    x = np.repeat(rng.random(n_sessions), size)
    said = chances(x)
    met = (np.repeat(rng.random((n_sessions, 3)), size, axis=0) < said).astype(float)
    cost = np.tile(COST, (len(x), 1))
    novel = np.zeros(len(x), dtype=bool)
    return CalibrationSet(said, said, cost, novel, met, met, cost, 1.0, "", {}, np.repeat(np.arange(n_sessions), size))


@pytest.mark.parametrize(("counted", "exact", "kept"), [(True, False, True), (True, True, True), (False, False, False)])
def test_prompts_of_a_session_are_not_taken_for_independent(counted: bool, exact: bool, kept: bool) -> None:
    # The same draws refute a test that takes them so.
    truth, rng = true_losses("value")["loss"], np.random.default_rng(5)
    broken = []
    for _ in range(100):
        calibration = dataclasses.replace(in_sessions(rng, 60, 20), exact=exact)
        if not counted:
            calibration = dataclasses.replace(calibration, unit=np.arange(len(calibration.unit)))
        knob = promise(calibration, "value", "loss", 0.05).knob
        broken.append(knob is not None and truth[np.flatnonzero(GRIDS["value"] == knob)[0]] > 0.05)
    assert within(np.array(broken)) is kept


# What a promise says


def test_a_session_counts_as_one_by_the_mean_of_its_prompts() -> None:
    # 400 sessions: every tenth has three prompts, of which the cheaper tier loses one; the others have one, and lose nothing.
    unit = np.repeat(np.arange(400), np.where(np.arange(400) % 10 == 0, 3, 1))
    first = np.r_[True, np.diff(unit) > 0]
    failed = first & (np.bincount(unit)[unit] == 3)
    quality = np.column_stack([1.0 - failed, np.ones(len(unit))])
    cost = np.tile([1.0, 10.0], (len(unit), 1))
    calibration = CalibrationSet(
        quality, quality, cost, np.zeros(len(unit), dtype=bool), quality, quality, cost, 1.0, "", {}, unit
    )
    found = make_promises(
        calibration, "bar", np.array([0.0]), 1, limits={"loss": [0.1]}, deltas=[0.05], random_state=0
    )[0]
    assert found.n == 400
    assert found.mean_loss == pytest.approx(0.1 / 3)


def test_what_is_not_known_counts_as_lost_but_not_against_itself() -> None:
    _, calibration = world(np.random.default_rng(0), 4)
    supported = np.array([[True, True, True], [False, True, True], [True, True, False], [True, True, False]])
    some = dataclasses.replace(calibration, supported=supported)
    picked = np.array([[0], [0], [0], [REFERENCE]])
    losses = some.losses(picked, REFERENCE)
    plain = calibration.losses(picked, REFERENCE)
    assert losses["loss"].ravel().tolist() == [plain["loss"][0, 0], 1, 1, 0]
    assert losses["violation"].ravel().tolist() == [plain["violation"][0, 0], 1, plain["violation"][2, 0], 1]


@pytest.mark.parametrize("kind", ["loss", "violation"])
def test_a_stricter_promise_is_never_the_bolder_one(kind: GuaranteeKind) -> None:
    rng = np.random.default_rng(0)
    limits, deltas = (0.02, 0.05, 0.1, 0.3), (0.05, 0.1, 0.2)
    for _ in range(20):
        found = make_promises(
            world(rng, 150)[1], "value", GRIDS["value"], REFERENCE, limits={kind: limits}, deltas=deltas, random_state=0
        )
        knob = {(g.limit, g.delta): -1.0 if g.knob is None else g.knob for g in found}
        table = np.array([[knob[limit, delta] for delta in deltas] for limit in limits])
        assert (np.diff(table, axis=0) >= 0).all()
        assert (np.diff(table, axis=1) >= 0).all()
        assert all(g.rows_needed >= 1 for g in found if g.knob is None)


def test_limits_and_deltas_are_all_tested_once_and_in_order() -> None:
    found = make_promises(
        world(np.random.default_rng(0), 400)[1],
        "bar",
        GRIDS["bar"],
        REFERENCE,
        limits={"loss": (0.1, 0.02, 0.1), "violation": (0.3,)},
        deltas=(0.1, 0.05, 0.05),
        random_state=0,
    )
    assert [(g.kind, g.limit, g.delta) for g in found] == [
        ("loss", 0.02, 0.05),
        ("loss", 0.02, 0.1),
        ("loss", 0.1, 0.05),
        ("loss", 0.1, 0.1),
        ("violation", 0.3, 0.05),
        ("violation", 0.3, 0.1),
    ]
    assert {(g.policy, g.n, g.slice, g.note) for g in found} == {("bar", 400, None, "")}


def test_what_was_lost_and_saved_by_hand() -> None:
    # 400 prompts: the cheaper tier is as good on all but 4, costs a tenth, and is taken where p_meets reaches the knob.
    n = 400
    p_meets = np.column_stack([np.where(np.arange(n) < 300, 0.9, 0.2), np.ones(n)])
    quality = np.column_stack([np.where(np.arange(n) < 4, 0.0, 1.0), np.ones(n)])
    cost = np.tile([1.0, 10.0], (n, 1))
    calibration = CalibrationSet(
        p_meets, p_meets, cost, np.zeros(n, dtype=bool), quality, quality, cost, 1.0, "a note", {}
    )
    found = make_promises(
        calibration, "bar", np.array([1.0, 0.5]), 1, limits={"loss": [0.05]}, deltas=[0.05], random_state=0
    )[0]
    assert (found.knob, found.mean_loss, found.note) == (0.5, 0.01, "a note")
    assert found.saving == pytest.approx(0.75 * 0.9)


def test_where_nothing_is_certified_it_says_how_many_more_prompts_it_would_take() -> None:
    found = promise(world(np.random.default_rng(0), 60)[1], "value", "loss", 0.05)
    assert (found.knob, found.mean_loss, found.saving) == (None, None, None)
    assert 0 < found.rows_needed < np.inf


def test_more_prompts_certify_bolder_knobs() -> None:
    few, many = (promise(world(np.random.default_rng(0), n)[1], "value", "loss", 0.05).knob for n in (300, 20_000))
    assert few is None or (many is not None and few < many)
    assert many is not None


def test_slices_with_enough_prompts_get_promises_of_their_own() -> None:
    calibration = world(np.random.default_rng(0), 1000)[1]
    values = np.array(["law"] * 300 + ["art"] * 299 + [""] * 401)
    sliced = dataclasses.replace(calibration, slices={"category": values, "source": np.full(1000, "logs")})
    found = make_promises(
        sliced, "value", GRIDS["value"], REFERENCE, limits={"loss": [0.1]}, deltas=[0.1], random_state=0
    )
    assert [(g.slice, g.n) for g in found] == [(None, 1000), ("category=law", 300)]


def test_a_slices_promise_is_what_its_prompts_alone_would_give() -> None:
    rng = np.random.default_rng(0)
    law, all_of_it = world(rng, 400)[1], world(rng, 1000)[1]
    tables = {
        name: np.concatenate([getattr(law, name), getattr(all_of_it, name)])
        for name in ("p_meets", "expected_quality", "expected_cost_usd", "to_safety", "quality", "meets", "cost_usd")
    }
    values = np.array(["law"] * 400 + ["art"] * 1000)
    both = CalibrationSet(**tables, bound=1.0, note="", slices={"category": values})
    found = make_promises(
        both, "value", GRIDS["value"], REFERENCE, limits={"loss": [0.1]}, deltas=[DELTA], random_state=0
    )
    own = next(g for g in found if g.slice == "category=law")
    assert dataclasses.replace(own, slice=None) == promise(law, "value", "loss", 0.1)


def test_promises_are_seeded() -> None:
    calibration = world(np.random.default_rng(0), 400)[1]
    assert promise(calibration, "value", "loss", 0.05) == promise(calibration, "value", "loss", 0.05)
