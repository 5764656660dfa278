"""The cascade's policy: what it does, and that serving and evaluation go by the same one."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from router_ml.core.acceptance import CAUTION_KEY, PROBES_KEY, seen_states
from router_ml.core.artifact import read_artifact
from router_ml.core.cascade import Answered, next_call, next_step, opening, step, worth_asking
from router_ml.core.decision import Prediction
from router_ml.core.policy import Policy, Reference, Rule, Single, Threshold, Utility, choose_by_utility
from router_ml.core.probes import Probes
from router_ml.core.router import Router
from router_ml.evaluation.cascade import simulate_cascade

Table = NDArray[np.float64]
Mask = NDArray[np.bool_]
ANYONE = np.ones(3, dtype=bool)

# Few different values, so that ties come up often.
UNIT = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1)


class Requests(NamedTuple):
    quality: Table
    worth: Table
    seen: Mask
    allowed: Mask


@st.composite
def some_requests(draw: st.DrawFn) -> Requests:
    shape = draw(st.tuples(st.integers(1, 6), st.integers(2, 5)))
    quality, price = (draw(hnp.arrays(np.float64, shape, elements=UNIT)) for _ in range(2))
    seen, allowed = (draw(hnp.arrays(np.bool_, shape)) for _ in range(2))
    seen[np.arange(shape[0]), draw(st.integers(0, shape[1] - 1))] = True
    return Requests(quality, quality - price, seen, allowed)


def test_the_best_answer_at_hand_and_what_is_worth_more_than_it() -> None:
    quality = np.array([[0.4, 0.6, 0.9]] * 2)
    seen = np.array([[True, False, False], [True, True, False]])
    found = step(quality, np.array([[0.3, 0.5, 0.45]] * 2), seen=seen)
    assert (found.at_hand.tolist(), found.following.tolist()) == ([0, 1], [1, -1])


def test_ties_go_to_the_cheaper_and_what_is_worth_as_much_is_not_asked() -> None:
    quality, worth = np.array([[0.5, 0.5, 0.75, 0.75]]), np.array([[0.5, 0.5, 0.625, 0.625]])
    found = step(quality, worth, seen=np.array([True, True, False, False]))
    assert (found.at_hand.tolist(), found.following.tolist()) == ([0], [2])
    found = step(quality, np.full((1, 4), 0.5), seen=np.array([True, True, False, False]))
    assert found.following.tolist() == [-1]


def test_a_tier_without_a_price_is_not_asked_and_hides_no_other() -> None:
    quality = np.array([[0.25, 0.5, 0.75]])
    worth = worth_asking(quality, np.array([[1.0, np.nan, 2.0]]), quality_per_usd=0.125, caution=1.0)
    assert step(quality, worth, seen=np.array([True, False, False])).following.tolist() == [2]


def test_caution_multiplies_the_price_of_another_call() -> None:
    assert worth_asking(np.array([0.5]), np.array([2.0]), quality_per_usd=0.0625, caution=2.0).tolist() == [0.25]


@given(some_requests())
def test_many_requests_go_on_as_each_alone_does(requests: Requests) -> None:
    together = step(requests.quality, requests.worth, seen=requests.seen, allowed=requests.allowed)
    for i, (quality, worth, seen, allowed) in enumerate(zip(*requests, strict=True)):
        at_hand, following = next_step(quality, worth, np.flatnonzero(seen).tolist(), allowed)
        assert (at_hand, -1 if following is None else following) == (together.at_hand[i], together.following[i])


@given(some_requests())
def test_it_is_what_plain_lists_say(requests: Requests) -> None:
    together = step(requests.quality, requests.worth, seen=requests.seen, allowed=requests.allowed)
    for i, (quality, worth, seen, allowed) in enumerate(zip(*(table.tolist() for table in requests), strict=True)):
        tiers = range(len(quality))
        at_hand = max((t for t in tiers if seen[t]), key=lambda t: (quality[t], -t))
        better = [t for t in tiers if allowed[t] and not seen[t] and worth[t] > quality[at_hand]]
        following = max(better, key=lambda t: (worth[t], -t), default=-1)
        assert (at_hand, following) == (together.at_hand[i], together.following[i])


@given(some_requests())
def test_only_answers_seen_are_at_hand_and_only_allowed_tiers_are_asked_and_none_twice(requests: Requests) -> None:
    found = step(requests.quality, requests.worth, seen=requests.seen, allowed=requests.allowed)
    rows = np.arange(len(found.at_hand))
    assert requests.seen[rows, found.at_hand].all()
    goes_on = found.following >= 0
    asked = rows[goes_on], found.following[goes_on]
    assert requests.allowed[asked].all()
    assert not requests.seen[asked].any()


def test_probes_that_may_be_asked_open_in_the_starts_place() -> None:
    probes = Probes((1.0,), (((), (0, 1), (0, 2)),))
    told = [opening(probes, quality_per_usd=1.0, start=start, allowed=range(3)) for start in range(3)]
    assert told == [(), (0, 1), (0, 2)]
    assert opening(probes, quality_per_usd=1.0, start=2, allowed=[1, 2]) == (2,)
    assert opening(probes, quality_per_usd=0.5, start=2, allowed=range(3)) == ()


def answered(seen: list[int], p_meets: list[float], quality: list[float]) -> Answered:
    """After answers that say this; by the prompt alone the first tier is the best, at 1, 2 and 4 USD."""
    row, cost = np.array([[0.5, 0.25, 0.25]]), np.array([[1.0, 2.0, 4.0]])
    before = Prediction(row, row, row, cost, np.ones(1), row)  # type: ignore[arg-type]
    return Answered(seen=seen, p_meets=np.array(p_meets), quality=np.array(quality), before=before)


def call_after(policy: Policy, known: Answered, allowed: Mask = ANYONE) -> tuple[int, int | None]:
    rule = Rule(policy, ("a", "b", "c"), reference=1, reference_cost_usd=2.0)
    return next_call(rule, known, allowed=allowed, caution=1.0, probes=Probes((0.0,), (((0, 1), (), ()),)))


@pytest.mark.parametrize(
    ("policy", "seen", "p_meets", "quality", "expected"),
    [
        (Threshold(0.75), [0], [0.75, 1.0, 1.0], [0.0, 1.0, 1.0], (0, None)),  # it reaches it
        (Threshold(0.75), [0], [0.5, 0.75, 1.0], [0.0, 0.0, 1.0], (0, 1)),  # the cheapest that does
        (Threshold(0.75), [0], [0.25, 0.375, 0.5], [0.0, 0.0, 0.0], (0, 2)),  # none does: the likeliest
        (Threshold(0.75), [0], [0.5, 0.5, 0.25], [0.0, 1.0, 1.0], (0, None)),  # none is likelier
        (Threshold(0.75), [2, 0], [0.25, 0.75, 0.5], [0.0, 0.0, 0.0], (2, 1)),
        (Reference(), [0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], (0, 1)),
        (Reference(), [0, 1], [0.0, 0.0, 1.0], [0.0, 0.5, 1.0], (1, None)),
        (Single("c"), [1], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0], (1, 2)),
        (Utility(0.0625), [0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], (0, 1)),  # a probe, whatever was answered
        (Utility(0.0625), [0, 1], [0.0, 0.0, 0.0], [0.5, 0.25, 1.0], (0, 2)),  # 1 - 4/16 > .5
        (Utility(0.0625), [0, 1], [0.0, 0.0, 0.0], [0.5, 0.25, 0.75], (0, None)),  # .75 - 4/16 = .5
        (Utility(0.0625), [2], [0.0, 0.0, 0.0], [0.5, 0.0, 0.25], (2, 0)),  # no probe was asked: .5 - 1/16 > .25
    ],
)
def test_each_policy_goes_on_in_its_way(
    policy: Policy, seen: list[int], p_meets: list[float], quality: list[float], expected: tuple[int, int | None]
) -> None:
    assert call_after(policy, answered(seen, p_meets, quality)) == expected


@pytest.mark.parametrize("policy", [Threshold(0.5), Reference(), Single("b"), Utility(0.0)])
def test_no_policy_asks_a_tier_that_is_not_allowed(policy: Policy) -> None:
    known = answered([0], [0.0, 1.0, 0.25], [0.0, 1.0, 0.25])
    allowed = np.array([True, False, True])
    assert call_after(policy, known)[1] == 1
    assert call_after(policy, known, allowed)[1] == (None if policy in (Reference(), Single("b")) else 2)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 5),
    st.sampled_from([0.0, 0.0625, 0.25, 1.0]),
    st.sampled_from([0.5, 1.0, 2.0]),
)
def test_the_simulation_makes_the_calls_that_would_be_made_one_by_one(
    seed: int, n_tiers: int, lam: float, caution: float
) -> None:
    rng = np.random.default_rng(seed)
    shape = (8, n_tiers)
    # Quarters, so that ties come up often.
    tables = {state: rng.integers(0, 5, shape) / 4 for state in ((), *seen_states(n_tiers))}
    expected, cost = tables.pop(()), rng.integers(1, 4, shape) / 2
    plans = tuple(tuple(np.flatnonzero(rng.random(n_tiers) < 0.4).tolist()) for _ in range(n_tiers))
    probes = Probes((0.0625,), (plans,))
    good, paid = rng.random(shape), np.broadcast_to(2.0 ** np.arange(n_tiers), shape)
    played = simulate_cascade(expected, cost, tables, good, paid, lams=[lam], caution=caution, probes=probes)
    rule = Rule(Utility(lam), tuple("abcde"[:n_tiers]), reference=0, reference_cost_usd=1.0)
    allowed = np.ones(n_tiers, dtype=bool)
    for i in range(len(good)):
        row = expected[[i]]
        before = Prediction(row, row, row, cost[[i]], np.ones(1), row)  # type: ignore[arg-type]
        start = int(choose_by_utility(row, cost[[i]], lam)[0])
        first = opening(probes, quality_per_usd=lam, start=start, allowed=range(n_tiers))
        seen, at_hand, following = [], -1, (first or (start,))[0]
        while following is not None:
            seen.append(following)
            told = tables[tuple(sorted(seen[-3:]))][i]
            known = Answered(seen=seen, p_meets=told, quality=told, before=before)
            at_hand, following = next_call(rule, known, allowed=allowed, caution=caution, probes=probes)
        assert (played.n_calls[0, i], played.cost_usd[0, i]) == (len(seen), paid[i, seen].sum())
        assert played.quality[0, i] == good[i, at_hand]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router whose tiers' answers say whether they are good, and its traffic beside it."""
    from router_ml.datasets import sample_ladder, simulate
    from router_ml.workflow import FitOptions, fit

    folder = tmp_path_factory.mktemp("cascade")
    said = pl.when(pl.col("quality") >= 0.8).then(pl.lit("It is certainly so.")).otherwise(pl.lit("Sorry, I am lost?"))
    simulate(300, random_state=0).with_columns(response=said).write_parquet(folder / "traffic.parquet")
    options = FitOptions(learner="logistic", n_folds=2, cascade=True)
    fit([folder / "traffic.parquet"], folder / "router.onnx", ladder=sample_ladder(), options=options, track=False)
    return folder / "router.onnx"


def with_plan(path: Path, properties: Mapping[str, str]) -> Router:
    """The router, whose acceptance model has these properties."""
    artifact = read_artifact(path)
    model = onnx.load_from_string(base64.b64decode(artifact.acceptance))
    for found in model.metadata_props:
        found.value = properties.get(found.key, found.value)
    return Router(dataclasses.replace(artifact, acceptance=base64.b64encode(model.SerializeToString()).decode("ascii")))


@pytest.mark.parametrize(
    ("caution", "plans"), [(1.0, ((), (), ())), (0.5, ((0, 1), (), (0, 1))), (2.0, ((), (0, 2), (1, 2)))]
)
def test_triage_and_accept_make_the_calls_that_the_simulation_counts(
    path: Path, caution: float, plans: tuple[tuple[int, ...], ...]
) -> None:
    router = with_plan(path, {CAUTION_KEY: str(caution), PROBES_KEY: Probes((1.0,), (plans,)).to_json()})
    assert (router.caution, router.probes.of(1.0, 2)) == (caution, plans[2])
    models, names = router.ladder.models, router.ladder.names
    answers = {
        (prompt, model): (response, quality)
        for prompt, model, response, quality in pl.read_parquet(path.with_name("traffic.parquet"))
        .select("prompt", "model", "response", "quality")
        .iter_rows()
    }
    prompts = sorted({prompt for prompt, _ in answers if all((prompt, model) in answers for model in models)})[:30]
    responses = [[answers[prompt, model][0] for model in models] for prompt in prompts]
    good = np.array([[answers[prompt, model][1] for model in models] for prompt in prompts])
    paid = np.broadcast_to([1.0, 10.0, 100.0], good.shape)  # so that a sum tells who was called
    prediction = router.predict(prompts)
    _, told = router.predict_answers(prompts, responses, prediction)
    after = {state: told[:, s].astype(np.float64) for s, state in enumerate(seen_states(len(models)))}
    lams = [0.0, 5.0, 50.0, 500.0, 1e4]
    options = {"caution": router.caution, "probes": router.probes}
    played = simulate_cascade(prediction.quality, prediction.cost_usd, after, good, paid, lams=lams, **options)

    for s, lam in enumerate(lams):
        for i, prompt in enumerate(prompts):
            # The simulation knows no novelty.
            calls: dict[str, str] = {}
            tier: str | None = router.triage(prompt, lam=lam, ignore_novelty=True).tier
            best = ""
            while tier is not None:
                earlier, answer = dict(calls), responses[i][names.index(tier)]
                row = prediction.take(slice(i, i + 1))
                found = router.accept(prompt, answer, tier, earlier=earlier, prediction=row, lam=lam)
                calls[tier] = answer
                tier, best = found.next_tier, found.best_tier
            cost = sum(paid[i, names.index(name)] for name in calls)
            assert (played.n_calls[s, i], played.cost_usd[s, i]) == (len(calls), cost)
            assert played.quality[s, i] == good[i, names.index(best)]
    assert {1.0, 2.0} <= set(played.n_calls[:-1].flat)  # else there was little to compare
