"""Promises along the offline path: what is held out for them, what is certified, and what a router then does."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import polars as pl
import pytest

from router_ml import workflow
from router_ml.core.guarantee import Guarantee
from router_ml.core.menu import Menu, OperatingPoint
from router_ml.core.policy import Policy, Reference, Rule, Shortfall
from router_ml.core.router import Router
from router_ml.datasets import sample_ladder, simulate
from router_ml.errors import InputError, TrafficError
from router_ml.evaluation.guarantees.promises import DELTAS, LIMITS
from router_ml.evaluation.off_policy import pseudo_outcomes
from router_ml.evaluation.tradeoff import Expectations
from router_ml.export.onnx_export import InputTokens
from router_ml.ladder import Ladder, Tier
from router_ml.learning.encoders import load_encoder
from router_ml.learning.inputs import Inputs
from router_ml.learning.model import FittedModel
from router_ml.learning.partial import LogDesign, design_log
from router_ml.learning.targets import Outputs, expit
from router_ml.traffic.labels import Bar
from router_ml.traffic.observations import Observations
from router_ml.workflow import Embedded, FitOptions, Trained
from router_ml.workflow.certify import (
    HeldOut,
    Promised,
    _bound,
    can_test_exactly,
    certified_point,
    held_for_promises,
    promise,
)
from router_ml.workflow.train_model import _design

N = 900


class Fitted(NamedTuple):
    """A router with promises, and the traffic that it was fitted on."""

    router: Router
    result: workflow.FitResult
    traffic: pl.DataFrame


def options(**changes: Any) -> FitOptions:
    return FitOptions(learner="logistic", n_folds=2, **changes)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    folder, traffic = tmp_path_factory.mktemp("promises"), simulate(N, random_state=0)
    traffic.write_parquet(folder / "traffic.parquet")
    result = workflow.fit(
        [folder / "traffic.parquet"],
        folder / "router.onnx",
        ladder=sample_ladder(),
        options=options(max_loss=0.05, delta=0.2, neighbours=True),
        track=False,
    )
    return Fitted(Router.load(result.path), result, traffic)


@pytest.fixture(scope="module")
def unseen() -> pl.DataFrame:
    return simulate(2000, random_state=99)


def train(traffic: pl.DataFrame, **changes: Any) -> Trained:
    prepared = workflow.prepare(traffic, sample_ladder(), Bar(0.8))
    embedded = workflow.embed_prompts(prepared.observations.prompt.tolist(), load_encoder("static"))
    return workflow.train(prepared.observations, embedded, prepared.ladder, options(**changes))


def means(traffic: pl.DataFrame, models: list[str]) -> tuple[float, float]:
    """Mean quality of the answers of a model for each prompt; share of them under the bar."""
    prompts = traffic.unique("prompt_id", keep="first", maintain_order=True)
    quality = prompts.select("prompt_id", model=pl.Series(models)).join(traffic, on=["prompt_id", "model"])["quality"]
    assert len(quality) == len(prompts)
    return float(quality.mean()), float((quality < 0.8).mean())  # type: ignore[arg-type]


def routed(router: Router, traffic: pl.DataFrame, **asked: Any) -> list[str]:
    prompts = traffic.unique("prompt_id", keep="first", maintain_order=True)["prompt"].to_list()
    return [d.model for d in router.route_batch(prompts, **asked)]


# What is held out


def test_whole_sessions_are_held_out_for_promises_and_none_without() -> None:
    observations = workflow.prepare(simulate(N, random_state=0), sample_ladder(), Bar(0.8)).observations
    held = held_for_promises(observations, options(max_loss=0.05, calibration_share=0.4))
    assert held.mean() == pytest.approx(0.4, abs=0.06)
    sessions = {s for s in observations.session_id[held] if s}
    assert sessions
    assert sessions.isdisjoint(observations.session_id[~held])
    assert not held_for_promises(observations, options()).any()


def test_exact_tests_are_for_right_or_wrong_answers_to_prompts_that_stand_alone() -> None:
    observations, _ = log_of(np.random.default_rng(0), 100)
    assert can_test_exactly(observations)
    assert not can_test_exactly(dataclasses.replace(observations, quality=observations.quality * 0.5))
    sessions = np.array([f"s{i // 4}" for i in range(100)])
    assert not can_test_exactly(dataclasses.replace(observations, session_id=sessions))


# The promise on complete traffic


def test_the_default_is_the_certified_operating_point(fitted: Fitted) -> None:
    point = fitted.router.default
    own = next(g for g in fitted.router.metadata.guarantees if (g.kind, g.limit, g.delta) == ("loss", 0.05, 0.2))
    assert own.certified
    assert (point.name, point.policy, point.max_quality_drop) == ("certified", own.policy, 0.05)
    assert (point.guarantee, point.note) == (str(own), "")
    assert "<= 0.05 with probability 80 % over the draw" in point.guarantee
    # About 0.3 N prompts, of which those of a session count as one.
    assert 0.15 * N < own.n < 0.3 * N
    assert "count as one" in own.note


def test_the_certified_point_comes_first_on_the_menu_with_what_it_saves_in_cross_validation(fitted: Fitted) -> None:
    first, *others = fitted.router.menu.points
    assert first == fitted.router.default
    assert [p.name for p in others] == ["0pt", "0.5pt", "1pt", "2pt", "5pt"]
    assert first.expected is not None
    assert first.expected.saving > 0


def test_the_artifact_holds_a_table_of_limits(fitted: Fitted) -> None:
    rows = [(g.kind, g.limit, g.delta) for g in fitted.router.metadata.guarantees if g.slice is None]
    assert rows == [("loss", limit, delta) for limit in LIMITS for delta in (*DELTAS, 0.2)]


def test_a_promise_can_be_asked_for_with_each_query(fitted: Fitted) -> None:
    router, query = fitted.router, "What is the capital of Peru?"
    for g in router.metadata.guarantees:
        decision = router.route(query, max_loss=g.limit, delta=g.delta)
        assert (decision.policy, decision.parameter) == (g.policy.kind, g.policy.parameter)
    with pytest.raises(InputError, match=r"no max_loss as strict as 0\.001.*router-ml fit --max-loss 0\.001"):
        router.route(query, max_loss=0.001)
    with pytest.raises(InputError, match=r"no max_violation as strict as 0\.3.*holds: none"):
        router.route(query, max_violation=0.3)


def test_a_looser_limit_never_costs_more(fitted: Fitted, unseen: pl.DataFrame) -> None:
    prices = dict(zip(sample_ladder().models, range(3), strict=True))
    spent = [sum(prices[m] for m in routed(fitted.router, unseen, max_loss=limit)) for limit in LIMITS]
    assert spent == sorted(spent, reverse=True)
    assert spent[-1] < spent[0]


def test_unseen_traffic_loses_less_than_the_limit_and_something_is_saved(fitted: Fitted, unseen: pl.DataFrame) -> None:
    reference = fitted.router.ladder[fitted.router.ladder.index(fitted.router.metadata.reference)].model
    models = routed(fitted.router, unseen)
    best, _ = means(unseen, [reference] * len(models))
    quality, _ = means(unseen, models)
    assert best - quality < 0.05
    assert np.mean([m == reference for m in models]) < 0.7


def test_the_summary_tells_what_is_promised(fitted: Fitted) -> None:
    assert "certified: quality loss against the reference tier <= 0.05" in fitted.result.summary()
    json.dumps(fitted.result.to_dict())


# Neighbours


def test_a_training_prompt_is_its_own_nearest_neighbour_with_what_happened_to_it(fitted: Fitted) -> None:
    known = {n.prompt_id for q in ("Hello", "Write code", "Sum up") for n in fitted.router.explain(q).neighbours}
    assert known <= set(fitted.traffic["prompt_id"])
    for prompt_id in sorted(known)[:3]:
        rows = fitted.traffic.filter(pl.col("prompt_id") == prompt_id)
        nearest = fitted.router.explain(rows["prompt"][0]).neighbours
        assert len(nearest) == 5
        assert nearest[0].similarity == pytest.approx(1, abs=0.01)
        own = next(n for n in nearest if n.prompt_id == prompt_id)
        names = [fitted.router.ladder[fitted.router.ladder.index(m)].name for m in rows["model"]]
        assert own.quality == pytest.approx(dict(zip(names, rows["quality"], strict=True)), abs=1e-3)


def test_prompts_are_not_kept_unless_asked_for(artifact: Path) -> None:
    assert Router.load(artifact).explain("Hello").neighbours == ()


# Nothing certified


def test_where_nothing_is_certified_everything_goes_to_the_reference_tier(
    tmp_path: Path,
) -> None:
    simulate(150, random_state=0).write_parquet(tmp_path / "traffic.parquet")
    result = workflow.fit(
        [tmp_path / "traffic.parquet"],
        tmp_path / "router.onnx",
        ladder=sample_ladder(),
        options=options(max_loss=0.001),
        track=False,
    )
    router = Router.load(result.path)
    assert result.warnings[0].startswith("CERTIFIES NOTHING USEFUL. Nothing useful is certified for a quality loss")
    assert (router.default.name, router.default.policy, router.default.guarantee) == ("reference", Reference(), "")
    assert "nothing useful could be certified" in router.default.note
    assert all(
        re.search(r"4\d prompts, of which those of one session, or nearly the same, count as one", str(g))
        for g in router.metadata.guarantees
    )
    decisions = router.route_batch(["Hello", "Prove it.", "Write a poem."])
    assert {(d.tier, d.reason) for d in decisions} <= {
        (router.metadata.reference, "reference"),
        (router.metadata.reference, "novel"),
    }
    assert router.route("Hello", threshold=0.0, ignore_novelty=True).tier == "nano"


# Other kinds of promise


def test_the_share_of_answers_under_the_bar_can_be_promised_against_a_reference_that_is_named() -> None:
    trained = train(simulate(600, random_state=0), max_violation=0.4, reference="mini")
    own = next(g for g in trained.promises if (g.kind, g.delta) == ("violation", 0.05))
    assert (trained.reference, own.limit) == ("mini", 0.4)
    assert (trained.default, trained.menu[0].name, trained.menu[0].policy) == ("certified", "certified", own.policy)
    assert own.mean_loss is not None
    assert own.mean_loss < 0.4
    assert {g.kind for g in trained.promises} == {"loss", "violation"}


def test_without_being_asked_nothing_is_promised(artifact: Path) -> None:
    router = Router.load(artifact)
    assert router.metadata.guarantees == ()
    assert router.default.name == "1pt"
    assert not any(point.guarantee for point in router.menu.points)


# Logs with one answer a prompt


@pytest.mark.parametrize(
    ("propensity", "limit", "note"),
    [
        (pl.col("propensity"), 0.4, "propensities as logged"),
        (pl.lit(None, pl.Float64), 0.25, "the logging policy is known only by an estimate"),
    ],
    ids=["logged", "estimated"],
)
def test_logs_with_one_answer_a_prompt_say_what_their_promises_rest_on(
    tmp_path: Path, propensity: pl.Expr, limit: float, note: str
) -> None:
    log = simulate(N, random_state=0, logged=True).with_columns(propensity=propensity)
    trained = train(log, max_loss=limit, delta=0.2)
    assert all(g.note.startswith(note) for g in trained.promises)
    assert trained.evaluation is None
    own = next(g for g in trained.promises if (g.limit, g.delta) == (limit, 0.2))
    assert own.certified
    assert (trained.menu[0].policy, trained.menu[0].guarantee) == (own.policy, str(own))
    # What was written is what is read.
    trained.save(tmp_path, run_id=None)
    again, _ = Trained.load(tmp_path)
    for field in ("promises", "reference", "reference_cost_usd", "menu", "default", "advice"):
        assert getattr(again, field) == getattr(trained, field)


@dataclasses.dataclass(frozen=True)
class Planted:
    """A model that is wrong by so much; the features' first column is what a prompt's outcomes depend on.

    Mostly it flatters the cheap tier and belittles the reference.
    """

    wrong_by: tuple[float, float] = (0.15, -0.1)
    novelty = type("Never", (), {"threshold": np.inf})

    def predict(self, X: Inputs) -> Outputs:
        x = X.features[:, 0].astype(np.float64)
        wrong = np.clip(chances(x) + self.wrong_by, 0, 1)
        return Outputs(wrong, wrong, np.full(wrong.shape, 100.0), np.ones(len(x)))


LADDER = Ladder((Tier("cheap", "c", 0.1, 1.0), Tier("dear", "d", 1.0, 10.0)))
TOKENS = InputTokens(np.zeros(2), np.full(2, 0.25))
RULE = Rule(Reference(), LADDER.names, reference=1, reference_cost_usd=1e-3)
FLATTERER = Planted()
DEFAULT = OperatingPoint("1pt", Shortfall(0.0), 0.01)


def chances(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.stack([0.9 - 0.7 * x, 0.9 - 0.1 * x], axis=1)
    return found


def log_of(
    rng: np.random.Generator, n: int, *, overlap: bool = True, shadow: float = 0.0
) -> tuple[Observations, Embedded]:
    """One answer a prompt; hard prompts go to the dear tier, without `overlap` (all but) all of them.

    With `shadow` the dear tier answers all prompts, and the cheap one is asked as well with that chance.
    """
    x = rng.random(n)
    dear = 0.2 + 0.6 * x if overlap else expit(30 * (x - 0.5))
    propensity = np.stack([1 - dear, dear], axis=1)
    tried = (rng.random(n) < dear).astype(int)[:, None] == np.arange(2)
    if shadow:
        propensity = np.tile([shadow, 1.0], (n, 1))
        tried = rng.random((n, 2)) < propensity
    outcome = (rng.random((n, 2)) < chances(x)).astype(float)
    cells = [
        np.where(tried, v, np.nan) for v in (outcome, np.tile([1e-4, 1e-3], (n, 1)), np.full((n, 2), 100.0), propensity)
    ]
    empty = np.full(n, "", dtype=np.str_)
    ids = np.arange(n).astype(np.str_)
    observations = Observations(
        ids,
        ids.astype(object),
        empty,
        empty,
        empty,
        quality=cells[0],
        cost_usd=cells[1],
        input_tokens=cells[2],
        output_tokens=cells[2],
        propensity=cells[3],
        response=np.full((n, 2), None, dtype=object),
    )
    embedded = Embedded((x[:, None].astype(np.float32),), np.full(n, 400.0), [np.empty(0, np.int32)] * n)
    return observations, embedded


def said_of(x: np.ndarray, model: Planted = FLATTERER) -> Expectations:
    """What the planted model says of prompts with this first feature."""
    said = model.predict(Inputs.of([x[:, None].astype(np.float32)], np.full(len(x), 400.0), []))
    cost = LADDER.cost_usd(np.full((len(x), 2), 100.0), said.output_tokens)
    return Expectations(said.p_meets, said.quality, cost, said.novelty)


def promised(
    observations: Observations,
    embedded: Embedded,
    asked: FitOptions,
    propensity: np.ndarray,
    default: OperatingPoint = DEFAULT,
    model: Planted = FLATTERER,
) -> Promised:
    """What `promise` gives on these prompts."""
    folds = np.arange(len(observations)) % 5
    design = design_log(observations.quality, propensity, embedded.inputs.features, folds, random_state=0)
    held, training = HeldOut(observations, embedded, design), said_of(embedded.inputs.features[:, 0], model)
    menu = Menu((default,), default.name, RULE.tiers[RULE.reference], RULE.tiers)
    return promise(held, cast(FittedModel, model), TOKENS, LADDER, training, menu, RULE, asked)


def own_promise(found: Promised, asked: FitOptions) -> Guarantee:
    return next(g for g in found.guarantees if (g.limit, g.delta) == (asked.max_loss, asked.delta))


def true_loss(policy: Policy) -> float:
    x = (np.arange(20_000) + 0.5) / 20_000
    picked = chances(x)[np.arange(len(x)), said_of(x).choices(dataclasses.replace(RULE, policy=policy))]
    return float((chances(x)[:, 1] - picked).mean())


@pytest.mark.slow
@pytest.mark.parametrize("shadow", [0.0, 0.5], ids=["one answer", "shadow traffic"])
def test_with_wrong_predictions_and_known_propensities_promises_are_kept(shadow: float) -> None:
    rng, losses, asked = np.random.default_rng(0), [], options(max_loss=0.1, delta=0.1)
    for _ in range(40):
        observations, embedded = log_of(rng, 600, shadow=shadow)
        own = own_promise(promised(observations, embedded, asked, observations.propensity), asked)
        losses.append(true_loss(own.policy) if own.certified else np.nan)
    assert np.mean(np.array(losses) > 0.1) <= 0.1 + 2 * np.sqrt(0.1 * 0.9 / 40)
    assert np.isnan(losses).mean() < 0.5
    assert np.nanmax(losses) > 0.04


@pytest.mark.parametrize("both", [True, False])
def test_no_pseudo_loss_exceeds_the_bound(both: bool) -> None:
    rng = np.random.default_rng(0)
    first = rng.random(500) < 0.5
    tried = np.column_stack([first, rng.random(500) < 0.5 if both else ~first])
    observed = np.where(tried, rng.integers(0, 2, (500, 2)), np.nan)
    chance = np.where(tried, rng.choice([0.2, 0.5], (500, 2)), np.nan)
    ones = np.ones((500, 2))
    design = LogDesign(chance, ones, is_complete=False, is_estimated=False, effective_n=ones[0], support=ones)
    outcome = pseudo_outcomes(observed, chance, rng.integers(0, 2, (500, 2)).astype(float))
    largest = (outcome[:, 1] - outcome[:, 0]).max()
    assert largest == pytest.approx(_bound(observed, design, 1))


@pytest.mark.parametrize(("reference", "bound"), [(2, 4), (0, 6), (1, 6)])
def test_a_sure_reference_tier_adds_nothing_to_the_bound(reference: int, bound: float) -> None:
    # The others are asked beside it with chances of 1/3 and 1/4: between those two a loss may reach 3 + 4 - 1.
    chance = np.tile([1 / 3, 1 / 4, 1.0], (50, 1))
    design = LogDesign(chance, chance, is_complete=False, is_estimated=False, effective_n=chance[0], support=chance)
    rng = np.random.default_rng(0)
    observed = np.where(rng.random((50, 3)) < 0.7, rng.integers(0, 2, (50, 3)), np.nan)
    assert _bound(observed, design, reference) == pytest.approx(bound)


def test_propensities_for_a_part_are_not_passed_over_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    observations, embedded = log_of(np.random.default_rng(0), 300)
    part = np.where(np.arange(300)[:, None] < 7, np.nan, observations.propensity)
    for propensity, says in ((observations.propensity, 0), (part, 1), (np.full_like(part, np.nan), 0)):
        caplog.clear()
        design = _design(dataclasses.replace(observations, propensity=propensity), embedded, options())
        assert caplog.text.count("7 of 300 judged answers have no propensity") == says
        assert design.is_estimated is (propensity is not observations.propensity)


def test_nothing_is_promised_of_tiers_that_nobody_tried_on_such_prompts() -> None:
    observations, embedded = log_of(np.random.default_rng(0), 1500, overlap=False)
    # The reference was hardly ever tried on more than a quarter of the prompts, which the safest policy sends elsewhere.
    asked = options(max_loss=0.2)
    found = promised(observations, embedded, asked, np.full((1500, 2), np.nan))
    own = own_promise(found, asked)
    assert (own.policy, own.certified, own.rows_needed) == (Reference(), False, np.inf)
    assert "hardly ever tried, which counts as a loss of 1: cheap on" in str(own)
    assert certified_point(found, asked) == OperatingPoint(
        "reference", Reference(), 0.2, note="nothing useful could be certified, so that one tier takes everything"
    )


# Advice


def advice(asked: FitOptions, *, default: Policy, n: int, model: Planted = FLATTERER) -> str:
    """On prompts that both tiers answered."""
    observations, embedded = log_of(np.random.default_rng(0), n, shadow=1.0)
    point = OperatingPoint("1pt", default, 0.01)
    return promised(observations, embedded, asked, observations.propensity, point, model).advice


def test_no_advice_is_given_where_something_useful_is_certified() -> None:
    assert advice(options(max_loss=0.1), default=Shortfall(0.0), n=1500) == ""


def test_advice_names_what_was_asked_and_the_least_that_is_certified_usefully() -> None:
    # The model flatters the cheap tier: any policy of the grid loses 0.05 or more, about half of the prompts go to the cheap tier.
    said = advice(options(max_loss=0.02), default=Shortfall(0.0), n=1500)
    assert said.startswith(
        "Nothing useful is certified for a quality loss of at most 0.02 (delta 0.05): on 1,500 prompts"
    )
    assert re.search(r"The least that is certified usefully now is 0\.1, saving (3|4)\d %", said)


def test_advice_does_not_name_what_is_not_certified_either() -> None:
    assert "certified usefully" not in advice(options(max_loss=0.02), default=Shortfall(0.0), n=60)


def test_advice_says_how_many_prompts_would_certify_the_default() -> None:
    # By a model that belittles the cheap tier a sixth of the prompts, the easiest, go there: 0.01 is lost, 0.02 a matter of prompts.
    said = advice(options(max_loss=0.02), default=Shortfall(0.3), n=150, model=Planted((-0.1, 0.1)))
    found = re.search(
        r"the 1pt operating point (?:loses|gains) \d\.\d points on them\) about ([\d,]+) prompts to certify on", said
    )
    assert found is not None
    assert 150 < int(found[1].replace(",", "")) < 5000


def test_advice_says_that_no_number_of_prompts_would_certify_a_default_that_loses_more() -> None:
    said = advice(options(max_loss=0.02), default=Shortfall(1e3), n=600)
    found = re.search(
        r"No number of prompts like these would certify the 1pt point for 0\.02: .* loses (\S+) points", said
    )
    assert found is not None
    assert float(found[1]) == pytest.approx(30, abs=5)  # what the cheap tier loses on average


def test_advice_on_a_share_under_the_bar_speaks_of_it() -> None:
    said = advice(options(max_violation=0.01), default=Shortfall(0.0), n=600)
    assert "share of answers under the bar of at most 0.01 (delta 0.05)" in said
    assert "operating point" not in said


# Options


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_loss": 0.05, "max_violation": 0.1}, "max_loss or max_violation"),
        ({"max_loss": 0.0}, "max_loss is 0.0"),
        ({"max_violation": 1.0}, "max_violation is 1.0"),
        ({"delta": 0.0}, "delta is 0.0"),
        ({"calibration_share": 1.0}, "calibration_share is 1.0"),
    ],
)
def test_options_out_of_range_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        options(**changes)


def test_a_log_without_overlap_promises_nothing_though_its_propensities_are_logged(tmp_path: Path) -> None:
    # A deterministic router that logs a propensity of 1: long prompts to the dearest tier, short ones to the cheapest.
    n_chars = pl.col("prompt").str.len_chars()
    full = simulate(1200, random_state=0)
    is_long = n_chars > full.select(n_chars.median()).item()
    taken = pl.when(is_long).then(pl.col("model") == "gpt-4.1").otherwise(pl.col("model") == "gpt-4.1-nano")
    full.filter(taken).with_columns(propensity=pl.lit(1.0)).write_parquet(tmp_path / "log.parquet")
    ladder = Ladder((sample_ladder()[0], sample_ladder()[2]))
    result = workflow.fit(
        [tmp_path / "log.parquet"], tmp_path / "r.onnx", ladder=ladder, options=options(max_loss=0.1), track=False
    )

    assert result.menu.points[0].policy == Reference()
    assert all("hardly ever tried" in p.note for p in result.promises if not p.certified and p.limit == 0.1)


def test_violations_of_a_relative_bar_cannot_be_promised_from_a_log_with_one_tier_a_prompt(tmp_path: Path) -> None:
    simulate(200, random_state=0, logged=True).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(TrafficError, match="absolute bar"):
        workflow.fit(
            [tmp_path / "log.parquet"],
            tmp_path / "r.onnx",
            ladder=sample_ladder(),
            options=options(max_violation=0.3, bar=Bar(0.9, "relative")),
            track=False,
        )


def test_too_small_a_calibration_share_says_what_to_do() -> None:
    with pytest.raises(TrafficError, match=r"calibration share of 0.01.*Change the share"):
        train(simulate(60, random_state=0), max_loss=0.1, calibration_share=0.01)
