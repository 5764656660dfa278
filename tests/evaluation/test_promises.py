"""Promises: certified policies keep their limit as often as was said, whatever the log and however wrong the predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from router_ml.core.guarantee import Guarantee, GuaranteeKind
from router_ml.core.policy import Policy, Reference, Rule, Shortfall, Single, Threshold, Utility
from router_ml.evaluation.guarantees.promises import CalibrationSet, make_promises, policy_grid, prompts_to_certify
from router_ml.evaluation.off_policy import pseudo_outcomes
from router_ml.evaluation.tradeoff import Expectations

COST = np.array([1.0, 4.0, 20.0]) * 1e-4
REFERENCE = 2
RULE = Rule(Reference(), ("small", "medium", "large"), REFERENCE, reference_cost_usd=20e-4, novelty_threshold=1.0)
DELTA = 0.1
DRAWS = 100


def known(said: np.ndarray, cost: np.ndarray) -> Expectations:
    """Expectations of prompts that aren't novel, where quality is that an answer meets the bar."""
    return Expectations(said, said, cost, np.zeros(len(said)))


def calibration_set(said: np.ndarray, met: np.ndarray, cost: np.ndarray, **changes: Any) -> CalibrationSet:
    """What a router said of prompts, and what was observed."""
    given: dict[str, Any] = {"bound": 1.0, "note": "", "slices": {}, **changes}
    return CalibrationSet(known(said, cost), met, met, cost, **given)


def chances(x: np.ndarray) -> np.ndarray:
    """That each tier's answer is good (its quality is then 1, and meets the bar): easy prompts have a small x."""
    found: np.ndarray = np.stack([0.9 - 0.7 * x, 0.95 - 0.4 * x, 0.9 - 0.1 * x], axis=1)
    return found


def world(rng: np.random.Generator, n: int, *, skill: float = 0.1) -> tuple[np.ndarray, CalibrationSet]:
    """The true chances of n prompts, and what a router says of them (`skill`: its noise) and complete traffic shows."""
    x = rng.random(n)
    said = np.clip(chances(x) + skill * rng.normal(size=(n, 3)), 0, 1)
    met = (rng.random((n, 3)) < chances(x)).astype(float)
    return chances(x), calibration_set(said, met, np.tile(COST, (n, 1)))


TRUTH, POPULATION = world(np.random.default_rng(1), 50_000)
SHORTFALLS = policy_grid(world(np.random.default_rng(2), 2000)[1].expected, RULE)
THRESHOLDS = tuple(Threshold(p) for p in np.linspace(1, 0, 31).tolist())
UTILITIES = tuple(Utility(price) for price in [0.0, *np.geomspace(1, 1e4, 30).tolist()])


def true_losses(policies: Sequence[Policy]) -> dict[GuaranteeKind, np.ndarray]:
    """Of each policy, on the population."""
    picked = np.take_along_axis(TRUTH, POPULATION.choices(RULE, policies), axis=1).mean(axis=0)
    return {"loss": TRUTH[:, REFERENCE].mean() - picked, "violation": 1 - picked}


def promise(
    calibration: CalibrationSet, kind: GuaranteeKind, limit: float, policies: Sequence[Policy] = SHORTFALLS
) -> Guarantee:
    found = make_promises(calibration, policies, RULE, limits={kind: [limit]}, deltas=[DELTA], random_state=0)
    return found[0]


def boldness(found: Guarantee, policies: Sequence[Policy] = SHORTFALLS) -> int:
    """Where the certified policy stands among those tested, safest first; -1: none is certified."""
    return policies.index(found.policy) if found.certified else -1


def certified(
    draw: Callable[[np.random.Generator], CalibrationSet],
    policies: Sequence[Policy],
    kind: GuaranteeKind,
    limit: float,
    n_draws: int = DRAWS,
) -> np.ndarray:
    """The true losses of what was certified on calibration sets drawn again and again; NaN where nothing was."""
    truth, rng = np.append(true_losses(policies)[kind], np.nan), np.random.default_rng(3)
    return np.array([truth[boldness(promise(draw(rng), kind, limit, policies), policies)] for _ in range(n_draws)])


def within(broken: np.ndarray, delta: float = DELTA) -> bool:
    return bool(broken.mean() <= delta + 2 * np.sqrt(delta * (1 - delta) / len(broken)))


# The grid


def test_policies_go_from_the_safest_to_the_boldest() -> None:
    epsilons = np.array([policy.parameter for policy in SHORTFALLS])
    picked = POPULATION.choices(RULE, SHORTFALLS)
    spent = COST[picked].mean(axis=0)
    assert {type(policy) for policy in SHORTFALLS} == {Shortfall}
    assert (np.diff(epsilons) > 0).all()
    assert (np.diff(spent) <= 1e-12).all()
    assert 20 <= len(SHORTFALLS) <= 40
    # The safest takes the best that is expected, the boldest nearly always the cheapest tier.
    assert (picked[:, 0] == POPULATION.expected.quality.argmax(axis=1)).mean() > 0.99
    assert (picked[:, -1] == 0).mean() > 0.95


def test_steps_of_the_grid_are_even_in_expected_cost() -> None:
    training = world(np.random.default_rng(2), 2000)[1]
    spent = COST[training.choices(RULE, SHORTFALLS)].mean(axis=0)
    steps = -np.diff(spent) * (len(SHORTFALLS) - 1) / (spent[0] - spent[-1])
    assert steps.min() > 0.5
    assert steps.max() < 1.5


def test_the_grid_of_two_prompts_by_hand() -> None:
    # The dear tier costs 9 more of its own 10, for 0.18 and 0.63 more quality: worth it up to an epsilon of 0.2 and 0.7.
    said, cost = np.array([[0.5, 0.68], [0.2, 0.83]]), np.tile([1.0, 10.0], (2, 1))
    safe, half, bold = policy_grid(known(said, cost), Rule(Reference(), ("mini", "full"), 1, 10.0))
    assert safe.parameter < 0.2 <= half.parameter < 0.7 <= bold.parameter


def test_the_grid_does_not_depend_on_the_currency() -> None:
    expected = world(np.random.default_rng(2), 300)[1].expected
    dollars = policy_grid(expected, RULE)
    cents = policy_grid(
        dataclasses.replace(expected, cost_usd=100 * expected.cost_usd),
        dataclasses.replace(RULE, reference_cost_usd=0.2),
    )
    assert [p.parameter for p in cents] == pytest.approx([p.parameter for p in dollars], rel=0.02)


@pytest.mark.parametrize("policies", [SHORTFALLS, THRESHOLDS, UTILITIES], ids=["shortfall", "threshold", "utility"])
def test_the_true_loss_grows_from_the_safest_to_the_boldest(policies: Sequence[Policy]) -> None:
    loss = true_losses(policies)["loss"]
    assert loss[0] < 0.02 < 0.2 < loss[-1]
    assert np.diff(loss).min() > -0.01


TABLES = st.tuples(st.integers(1, 30), st.integers(2, 4)).flatmap(
    lambda s: hnp.arrays(np.float64, s, elements=st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1))
)


@settings(max_examples=60)
@given(TABLES, st.integers(2, 20))
def test_any_grid_is_ordered_and_can_be_asked_for(said: np.ndarray, n_policies: int) -> None:
    cost = np.tile(np.geomspace(1e-4, 1e-2, said.shape[1]), (len(said), 1))
    rule = Rule(Reference(), tuple("abcd"[: said.shape[1]]), 0, 1e-4)
    policies = policy_grid(known(said, cost), rule, n_policies=n_policies)
    choices = [known(said, cost).choices(dataclasses.replace(rule, policy=policy)) for policy in policies]
    spent = [cost[np.arange(len(said)), choice].mean() for choice in choices]
    assert 1 <= len(policies) <= n_policies
    assert (np.diff([policy.parameter for policy in policies]) > 0).all()
    assert (np.diff(spent) <= 1e-12).all()


# The promise


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policies", "kind", "limit", "exact"),
    [
        (SHORTFALLS, "loss", 0.05, False),
        (SHORTFALLS, "loss", 0.05, True),
        (UTILITIES, "loss", 0.05, False),
        (THRESHOLDS, "violation", 0.22, False),
    ],
    ids=["shortfall", "shortfall, exact", "utility", "threshold"],
)
def test_on_complete_traffic_certified_policies_keep_the_limit(
    policies: Sequence[Policy], kind: GuaranteeKind, limit: float, exact: bool
) -> None:
    loss = certified(lambda rng: dataclasses.replace(world(rng, 500)[1], exact=exact), policies, kind, limit)
    assert within(loss > limit)
    # Nor are they vacuous: something is certified nearly always, not far below the limit.
    assert np.isnan(loss).mean() < 0.2
    assert np.nanmean(loss) > limit - 0.06


def test_the_boldest_policy_that_looks_good_would_not_keep_it() -> None:
    # The same simulation refutes a choice without a test, so it could refute ours.
    truth, rng = true_losses(SHORTFALLS)["loss"], np.random.default_rng(3)
    broken = []
    for _ in range(DRAWS):
        calibration = world(rng, 500)[1]
        seen = calibration.losses(calibration.choices(RULE, SHORTFALLS), REFERENCE)["loss"].mean(axis=0)
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
@pytest.mark.parametrize(
    ("policies", "kind", "limit"),
    [(SHORTFALLS, "loss", 0.1), (THRESHOLDS, "violation", 0.27)],
    ids=["shortfall", "threshold"],
)
def test_on_one_answer_a_prompt_certified_policies_keep_the_limit(
    policies: Sequence[Policy], kind: GuaranteeKind, limit: float
) -> None:
    loss = certified(lambda rng: partial(rng, 1200), policies, kind, limit)
    assert within(loss > limit)
    assert np.isnan(loss).mean() < 0.5


def test_by_predictions_alone_they_would_not() -> None:
    loss = certified(lambda rng: partial(rng, 1200, weighted=False), SHORTFALLS, "loss", 0.1, n_draws=30)
    assert (loss > 0.1).mean() > 0.9


def with_novel(calibration: CalibrationSet, novel: np.ndarray) -> CalibrationSet:
    expected = dataclasses.replace(calibration.expected, novelty=np.where(novel, 1.1, 0.9))
    return dataclasses.replace(calibration, expected=expected)


def test_the_promise_is_kept_with_novel_prompts_sent_to_safety() -> None:
    # A half of the prompts loses nothing, so that the same policy's true loss is half of it.
    loss = (
        certified(lambda rng: with_novel(world(rng, 500)[1], rng.random(500) < 0.5), SHORTFALLS, "loss", 0.05, 60) / 2
    )
    assert within(loss > 0.05)
    assert np.nanmean(loss) > 0.01


@pytest.mark.parametrize("policies", [SHORTFALLS, THRESHOLDS], ids=["shortfall", "threshold"])
def test_novel_prompts_go_to_the_reference_tier_by_each_policy(policies: Sequence[Policy]) -> None:
    calibration = world(np.random.default_rng(0), 100)[1]
    some = np.arange(100) < 30
    picked = with_novel(calibration, some).choices(RULE, policies)
    assert (picked[some] == REFERENCE).all()
    np.testing.assert_array_equal(picked[~some], calibration.choices(RULE, policies)[~some])


def test_the_rules_own_policy_does_not_matter() -> None:
    calibration = world(np.random.default_rng(0), 400)[1]
    other = dataclasses.replace(RULE, policy=Threshold(0.0))
    asked: dict[str, Any] = {"limits": {"loss": [0.1]}, "deltas": [DELTA], "random_state": 0}
    assert make_promises(calibration, SHORTFALLS, other, **asked) == (promise(calibration, "loss", 0.1),)


def test_an_exact_test_certifies_more() -> None:
    rng = np.random.default_rng(0)
    drawn = [world(rng, 500)[1] for _ in range(10)]
    by_bets, exactly = (
        [boldness(promise(dataclasses.replace(c, exact=exact), "loss", 0.05)) for c in drawn] for exact in (False, True)
    )
    assert np.mean(by_bets) < np.mean(exactly)


def in_sessions(rng: np.random.Generator, n_sessions: int, size: int) -> CalibrationSet:
    """Sessions of `size` prompts that are all as hard, and the cheap tier fails on all of a session or on none."""
    x = np.repeat(rng.random(n_sessions), size)
    said = chances(x)
    met = (np.repeat(rng.random((n_sessions, 3)), size, axis=0) < said).astype(float)
    cost = np.tile(COST, (len(x), 1))
    return calibration_set(said, met, cost, unit=np.repeat(np.arange(n_sessions), size))


@pytest.mark.parametrize(("counted", "exact", "kept"), [(True, False, True), (True, True, True), (False, False, False)])
def test_prompts_of_a_session_are_not_taken_for_independent(counted: bool, exact: bool, kept: bool) -> None:
    # The same draws refute a test that takes them so.
    truth, rng = np.append(true_losses(SHORTFALLS)["loss"], np.nan), np.random.default_rng(5)
    broken = []
    for _ in range(60):
        calibration = dataclasses.replace(in_sessions(rng, 60, 20), exact=exact)
        if not counted:
            calibration = dataclasses.replace(calibration, unit=np.arange(len(calibration.unit)))
        broken.append(truth[boldness(promise(calibration, "loss", 0.05))] > 0.05)
    assert within(np.array(broken)) is kept


# What a promise says

TWO_TIERS = Rule(Reference(), ("mini", "full"), 1, reference_cost_usd=10.0)


def test_a_session_counts_as_one_by_the_mean_of_its_prompts() -> None:
    # 400 sessions: every tenth has three prompts, of which the cheaper tier loses one; the others have one, and lose nothing.
    unit = np.repeat(np.arange(400), np.where(np.arange(400) % 10 == 0, 3, 1))
    first = np.r_[True, np.diff(unit) > 0]
    failed = first & (np.bincount(unit)[unit] == 3)
    quality = np.column_stack([1.0 - failed, np.ones(len(unit))])
    cost = np.tile([1.0, 10.0], (len(unit), 1))
    calibration = calibration_set(quality, quality, cost, unit=unit)
    found = make_promises(
        calibration, [Single("mini")], TWO_TIERS, limits={"loss": [0.1]}, deltas=[0.05], random_state=0
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
            world(rng, 150)[1], SHORTFALLS, RULE, limits={kind: limits}, deltas=deltas, random_state=0
        )
        index = {(g.limit, g.delta): boldness(g) for g in found}
        table = np.array([[index[limit, delta] for delta in deltas] for limit in limits])
        assert (np.diff(table, axis=0) >= 0).all()
        assert (np.diff(table, axis=1) >= 0).all()
        assert all(g.rows_needed >= 1 and g.policy == Reference() for g in found if not g.certified)


def test_limits_and_deltas_are_all_tested_once_and_in_order() -> None:
    found = make_promises(
        world(np.random.default_rng(0), 400)[1],
        THRESHOLDS,
        RULE,
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
    assert {(g.n, g.slice, g.note) for g in found} == {(400, None, "")}


def test_what_was_lost_and_saved_by_hand() -> None:
    # 400 prompts: the cheaper tier is as good on all but 4, costs a tenth, and is taken where p_meets reaches the threshold.
    n = 400
    p_meets = np.column_stack([np.where(np.arange(n) < 300, 0.9, 0.2), np.ones(n)])
    quality = np.column_stack([np.where(np.arange(n) < 4, 0.0, 1.0), np.ones(n)])
    cost = np.tile([1.0, 10.0], (n, 1))
    calibration = calibration_set(p_meets, quality, cost, note="a note")
    policies = Threshold(1.0), Threshold(0.5)
    found = make_promises(calibration, policies, TWO_TIERS, limits={"loss": [0.05]}, deltas=[0.05], random_state=0)[0]
    assert (found.policy, found.certified, found.mean_loss, found.note) == (Threshold(0.5), True, 0.01, "a note")
    assert found.saving == pytest.approx(0.75 * 0.9)


def test_where_nothing_is_certified_it_says_how_many_more_prompts_it_would_take() -> None:
    found = promise(world(np.random.default_rng(0), 60)[1], "loss", 0.05)
    assert (found.policy, found.certified, found.mean_loss, found.saving) == (Reference(), False, None, None)
    assert 0 < found.rows_needed < np.inf


def test_more_prompts_certify_bolder_policies() -> None:
    few, many = (boldness(promise(world(np.random.default_rng(0), n)[1], "loss", 0.05)) for n in (300, 20_000))
    assert few < many


def test_slices_with_enough_prompts_get_promises_of_their_own() -> None:
    calibration = world(np.random.default_rng(0), 1000)[1]
    values = np.array(["law"] * 300 + ["art"] * 299 + [""] * 401)
    sliced = dataclasses.replace(calibration, slices={"category": values, "source": np.full(1000, "logs")})
    found = make_promises(sliced, SHORTFALLS, RULE, limits={"loss": [0.1]}, deltas=[0.1], random_state=0)
    assert [(g.slice, g.n) for g in found] == [(None, 1000), ("category=law", 300)]


def test_a_slices_promise_is_what_its_prompts_alone_would_give() -> None:
    rng = np.random.default_rng(0)
    law, all_of_it = world(rng, 400)[1], world(rng, 1000)[1]
    said, met, cost = (
        np.concatenate(pair)
        for pair in (
            (law.expected.quality, all_of_it.expected.quality),
            (law.quality, all_of_it.quality),
            (law.cost_usd, all_of_it.cost_usd),
        )
    )
    both = calibration_set(said, met, cost, slices={"category": np.array(["law"] * 400 + ["art"] * 1000)})
    found = make_promises(both, SHORTFALLS, RULE, limits={"loss": [0.1]}, deltas=[DELTA], random_state=0)
    own = next(g for g in found if g.slice == "category=law")
    assert dataclasses.replace(own, slice=None) == promise(law, "loss", 0.1)


def test_promises_are_seeded() -> None:
    calibration = world(np.random.default_rng(0), 400)[1]
    assert promise(calibration, "loss", 0.05) == promise(calibration, "loss", 0.05)


@pytest.mark.parametrize(
    ("is_certified", "saving", "useful"),
    [(True, 0.01, True), (True, 0.009, False), (True, -0.2, False), (True, None, True), (False, None, False)],
)
def test_a_promise_is_useful_where_it_saves_a_hundredth(is_certified: bool, saving: float | None, useful: bool) -> None:
    found = Guarantee("loss", 0.05, 0.1, Single("small"), certified=is_certified, n=400, saving=saving)
    assert found.is_useful is useful


# How many prompts it takes


def losing_one_in_ten(n: int, **changes: Any) -> CalibrationSet:
    """The cheaper tier, that each prompt is sent to, loses on every tenth."""
    quality = np.column_stack([np.arange(n) % 10 > 0, np.ones(n)]).astype(float)
    return calibration_set(quality, quality, np.tile([1.0, 10.0], (n, 1)), **changes)


def needed(calibration: CalibrationSet, limit: float) -> float:
    return prompts_to_certify(calibration, TWO_TIERS, Single("mini"), limit, 0.05)[1]


@pytest.mark.parametrize("limit", [0.01, 0.1])
def test_no_number_of_prompts_certifies_a_loss_that_is_not_under_the_limit(limit: float) -> None:
    loss, n = prompts_to_certify(losing_one_in_ten(100), TWO_TIERS, Single("mini"), limit, 0.05)
    assert (loss, n) == (pytest.approx(0.1), np.inf)


def test_the_wider_the_gap_the_fewer_prompts_it_takes() -> None:
    n = [needed(losing_one_in_ten(100), limit) for limit in (0.11, 0.12, 0.15, 0.2)]
    assert n == sorted(set(n), reverse=True)
    # A gap twice as wide takes a quarter of the prompts, as for any mean.
    assert n[0] / n[1] == pytest.approx(4, rel=0.01)


def test_the_prompts_at_hand_count_among_those_it_takes() -> None:
    assert needed(losing_one_in_ten(100), 0.12) == needed(losing_one_in_ten(200), 0.12)
    assert needed(losing_one_in_ten(5000), 0.2) == 5000


def test_prompts_of_a_session_are_needed_once() -> None:
    pairs = losing_one_in_ten(200).take(np.repeat(np.arange(100), 2))
    assert needed(dataclasses.replace(pairs, unit=np.repeat(np.arange(100), 2)), 0.12) == needed(
        losing_one_in_ten(100), 0.12
    )


def test_about_as_many_prompts_as_are_said_to_be_needed_certify() -> None:
    # An estimate, and a rough one: of so many draws two thirds are certified. A fifth of the prompts seldom do, twice as many mostly.
    rng, n = np.random.default_rng(0), int(needed(losing_one_in_ten(100), 0.15))

    def share_certified(size: int) -> float:
        drawn = [losing_one_in_ten(100).take(rng.integers(0, 100, size)) for _ in range(60)]
        asked: dict[str, Any] = {"limits": {"loss": [0.15]}, "deltas": [0.05], "random_state": 0}
        each = [dataclasses.replace(c, unit=np.arange(size)) for c in drawn]
        return float(np.mean([make_promises(c, [Single("mini")], TWO_TIERS, **asked)[0].certified for c in each]))

    assert share_certified(n // 5) < 0.35
    assert share_certified(2 * n) > 0.8
