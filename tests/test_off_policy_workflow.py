"""A router judged on logs with one model per prompt, and what to explore to get such a log."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from router_ml.core.router import Router
from router_ml.datasets import sample_ladder, simulate
from router_ml.datasets.logging_policy import draw_tiers, logging_propensities
from router_ml.errors import InputError, TrafficError
from router_ml.evaluation.off_policy.plan_report import RouterExploration
from router_ml.evaluation.off_policy.report import OffPolicyEvaluation
from router_ml.workflow import hash_files
from router_ml.workflow.explore import plan_router_exploration
from router_ml.workflow.off_policy import evaluate_off_policy

N = 1200
MODELS = sample_ladder().models
CHEAPEST = {"threshold": 0.0, "ignore_novelty": True}
"""Options by which the router takes the cheapest tier, whatever it is asked."""


@pytest.fixture(scope="module")
def router(artifact: Path) -> Router:
    return Router.load(artifact)


@pytest.fixture(scope="module")
def whole() -> pl.DataFrame:
    """Unseen prompts, answered by all tiers."""
    return simulate(N, random_state=1)


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    """The same prompts, answered by one tier each."""
    return simulate(N, random_state=1, logged=True)


@pytest.fixture(scope="module")
def truth(router: Router, whole: pl.DataFrame) -> dict[str, tuple[float, float]]:
    """Mean quality and cost of the router and of each tier."""
    prompts = whole.unique("prompt_id", keep="first", maintain_order=True)
    chosen = pl.Series([d.model for d in router.route_batch(prompts["prompt"].to_list())])
    ours = prompts.select("prompt_id", model=chosen).join(whole, on=["prompt_id", "model"])
    parts = {"router": ours}
    parts |= {f"always {t.name}": whole.filter(pl.col("model") == t.model) for t in router.ladder}
    return {name: part.select(pl.col("quality", "cost_usd").mean()).row(0) for name, part in parts.items()}


def judge(router: Router, tmp_path: Path, log: pl.DataFrame, **options) -> OffPolicyEvaluation:
    path = tmp_path / "log.parquet"
    log.write_parquet(path)
    return evaluate_off_policy(router, [path], **options)


def assert_covered(found: OffPolicyEvaluation, truth: dict[str, tuple[float, float]]) -> None:
    for policy in (found.router, *found.constants):
        for estimates, true in zip((policy.quality, policy.cost_usd), truth[policy.name], strict=True):
            assert estimates is not None
            for estimate in (estimates.doubly_robust, estimates.snips, estimates.ips):
                assert estimate.low <= true <= estimate.high


# --- evaluation


def test_the_intervals_contain_what_complete_traffic_says(
    router: Router, tmp_path: Path, log: pl.DataFrame, truth: dict[str, tuple[float, float]]
) -> None:
    found = judge(router, tmp_path, log, level=0.99)
    assert_covered(found, truth)
    assert found.gain is not None
    gained = truth["router"][0] - truth[found.gain.against][0]
    assert found.gain.quality.low <= gained <= found.gain.quality.high
    assert found.propensities == "logged"
    assert found.n_prompts == N


def test_the_plain_means_of_such_a_log_are_off(log: pl.DataFrame, truth: dict[str, tuple[float, float]]) -> None:
    nano = log.filter(pl.col("model") == MODELS[0])["quality"]
    error = nano.std() / np.sqrt(len(nano))
    assert nano.mean() - truth["always nano"][0] > 2 * error


def test_without_propensities_the_logging_policy_is_estimated(
    router: Router, tmp_path: Path, log: pl.DataFrame, truth: dict[str, tuple[float, float]]
) -> None:
    found = judge(router, tmp_path, log.drop("propensity"), level=0.99)
    assert_covered(found, truth)
    assert found.propensities == "estimated"
    assert any("no propensities" in note for note in found.notes)


def test_propensities_for_a_part_are_refused(router: Router, tmp_path: Path, log: pl.DataFrame) -> None:
    partly = log.with_columns(pl.when(pl.int_range(N) >= 7).then("propensity"))
    with pytest.raises(TrafficError, match=r"7 of 1,200 judged answers have no propensity"):
        judge(router, tmp_path, partly)


def test_complete_traffic_needs_no_estimate(router: Router, tmp_path: Path, whole: pl.DataFrame) -> None:
    with pytest.raises(TrafficError, match="without --off-policy"):
        judge(router, tmp_path, whole)


@pytest.mark.parametrize("propensity", [1.0, None])
def test_a_log_of_one_tier_answers_for_that_tier_alone(
    router: Router, tmp_path: Path, whole: pl.DataFrame, propensity: float | None
) -> None:
    one = whole.filter(pl.col("model") == MODELS[0]).with_columns(propensity=pl.lit(propensity, pl.Float64))
    found = judge(router, tmp_path, one)
    nano, mini, full = found.constants
    assert nano.quality is not None
    assert nano.quality.doubly_robust.value == pytest.approx(one["quality"].mean(), abs=1e-3)
    assert (mini.quality, full.quality, found.router.quality, found.gain) == (None, None, None, None)
    text = " ".join(found.to_text().split())
    assert text.startswith("This log can't answer for the router (policy ")
    assert "It can answer for always nano." in text
    assert "can't answer for always full: the policy uses tiers that were never tried (full)" in text
    with pytest.raises(TrafficError, match=r"can't answer for the router .*never tried \((mini, )?full\).*--policy"):
        found.require_router()
    json.dumps(found.to_dict(), allow_nan=False)
    # A setting that takes that tier only is answered for.
    assert judge(router, tmp_path, one, **CHEAPEST).router.quality == nano.quality


def test_a_log_with_one_judged_answer_says_so(router: Router, tmp_path: Path, log: pl.DataFrame) -> None:
    first = pl.int_range(N) == 0
    one = log.with_columns(pl.when(first).then("quality"), pl.when(~first).then("propensity"))
    with pytest.raises(TrafficError, match=r"One prompt .* judged answer: 1 of 1,200 rows"):
        judge(router, tmp_path, one)


def test_one_session_is_not_enough_to_estimate_the_logging_policy(
    router: Router, tmp_path: Path, log: pl.DataFrame
) -> None:
    with pytest.raises(TrafficError, match="belong to one session, and no propensities"):
        judge(router, tmp_path, log.head(20).drop("propensity").with_columns(session_id=pl.lit("s")))


def test_intervals_end_where_a_quality_must(router: Router, tmp_path: Path, log: pl.DataFrame) -> None:
    found = judge(router, tmp_path, log.with_columns(quality=pl.lit(1.0)), max_weight=2)
    for policy in (found.router, *found.constants):
        assert policy.quality is not None
        ends = [(e.low, e.high) for e in (policy.quality.doubly_robust, policy.quality.snips, policy.quality.ips)]
        assert all(0 <= low <= high <= 1 for low, high in ends)
        assert ends[-1][1] == 1  # widened for what was clipped, that of IPS reached beyond
    assert "a quality lies between 0 and 1" in " ".join(found.to_text().split())


def test_the_setting_says_what_was_asked_for(router: Router, tmp_path: Path, log: pl.DataFrame) -> None:
    found = judge(router, tmp_path, log, threshold=0.0, forbidden=["full", "mini"], ignore_novelty=True)
    assert found.setting == "policy threshold, parameter 0, forbidden=full+mini, ignore_novelty=True"


def test_it_says_which_tier_the_log_can_not_answer_for(router: Router, tmp_path: Path, log: pl.DataFrame) -> None:
    without = log.with_columns(pl.col("model").replace(MODELS[2], "a-model-of-old"))
    found = judge(router, tmp_path, without, **CHEAPEST)
    nano, mini, full = found.constants
    assert nano.overlap.answerable
    assert mini.overlap.answerable
    assert (full.quality, full.overlap.never_tried) == (None, (2,))
    assert "can't answer for always full: the policy uses tiers that were never tried (full)" in found.to_text()
    assert any("models outside the ladder" in note for note in found.notes)


def test_prompts_of_other_models_belong_to_the_population(
    router: Router, tmp_path: Path, log: pl.DataFrame, truth: dict[str, tuple[float, float]]
) -> None:
    without = log.with_columns(pl.col("model").replace(MODELS[2], "a-model-of-old"))
    for table in (without, without.drop("propensity")):
        found = judge(router, tmp_path, table, **CHEAPEST, level=0.99)
        assert found.n_prompts == N
        quality = found.router.quality
        assert quality is not None
        assert quality.doubly_robust.low <= truth["always nano"][0] <= quality.doubly_robust.high


def test_the_policy_that_is_asked_for_is_judged(router: Router, tmp_path: Path, log: pl.DataFrame) -> None:
    found = judge(router, tmp_path, log, **CHEAPEST)
    assert found.share == (1.0, 0.0, 0.0)
    assert found.router.quality == found.constants[0].quality


@pytest.mark.parametrize("known", [True, False])
def test_prompts_with_several_answers_are_weighed_by_inclusion(
    router: Router, tmp_path: Path, whole: pl.DataFrame, truth: dict[str, tuple[float, float]], known: bool
) -> None:
    # One tier serves; each of the others is asked as well with a chance of 0.2.
    base = logging_propensities(whole["prompt"].to_list()[:: len(MODELS)])
    rng = np.random.default_rng(0)
    tried = (draw_tiers(rng, base)[:, None] == np.arange(len(MODELS))) | (rng.random(base.shape) < 0.2)
    chance = pl.Series((base + 0.2 * (1 - base)).ravel())
    several = whole.with_columns(propensity=chance).filter(pl.Series(tried.ravel()))
    found = judge(router, tmp_path, several if known else several.drop("propensity"), level=0.99)
    assert_covered(found, truth)
    assert any("answered by several tiers" in note for note in found.notes)


def test_propensities_that_are_too_low_are_refused(router: Router, tmp_path: Path, log: pl.DataFrame) -> None:
    with pytest.raises(TrafficError, match="the propensities are too low"):
        judge(router, tmp_path, log.with_columns(pl.col("propensity") / 2))


def test_answers_that_nobody_judged_are_left_out_and_counted(router: Router, tmp_path: Path, log: pl.DataFrame) -> None:
    found = judge(router, tmp_path, log.with_columns(pl.when(pl.int_range(N) >= 100).then("quality")))
    assert found.n_prompts == N - 100
    assert any(note.startswith("100 answers aren't judged") for note in found.notes)


def test_a_log_without_any_judged_answer_is_refused(router: Router, tmp_path: Path, log: pl.DataFrame) -> None:
    with pytest.raises(TrafficError, match=r"no judged answer of the router's tiers .* 0 of 1,200 rows"):
        judge(router, tmp_path, log.with_columns(quality=pl.lit(None, pl.Float64)))


def test_traffic_that_the_router_was_fitted_on_is_recognised(artifact: Path, tmp_path: Path, log: pl.DataFrame) -> None:
    log.write_parquet(tmp_path / "log.parquet")
    router = Router.load(artifact)
    fitted_on = {**router.metadata.provenance, "data_sha256": hash_files([tmp_path / "log.parquet"])}
    router.metadata = dataclasses.replace(router.metadata, provenance=fitted_on)
    found = evaluate_off_policy(router, [tmp_path / "log.parquet"])
    assert any("WAS FITTED ON" in note for note in found.notes)


def test_the_same_input_gives_the_same_figures(router: Router, tmp_path: Path, log: pl.DataFrame) -> None:
    first, second = (judge(router, tmp_path, log.drop("propensity"), random_state=3) for _ in range(2))
    assert json.dumps(first.to_dict(), allow_nan=False) == json.dumps(second.to_dict(), allow_nan=False)


# --- exploration


def plan(router: Router, path: Path, **options) -> RouterExploration:
    return plan_router_exploration(router, [path], **{"budget_usd": 5.0, "n_prompts": 20_000, **options})


def test_the_plan_keeps_to_its_budget(router: Router, sample_path: Path) -> None:
    found = plan(router, sample_path, budget_usd=0.2)
    assert found.extra_cost_usd == pytest.approx(0.2, rel=1e-3)
    assert sum(s.extra_cost_usd for s in found.strata) == pytest.approx(found.extra_cost_usd)
    assert sum(s.n_prompts for s in found.strata) == pytest.approx(20_000)
    assert sum(found.calls) == pytest.approx(20_000)
    assert all(sum(s.probability) == pytest.approx(1) and s.epsilon <= 0.2 + 1e-9 for s in found.strata)


def test_more_money_tells_more(router: Router, sample_path: Path) -> None:
    little, much = (plan(router, sample_path, budget_usd=usd) for usd in (0.1, 2.0))
    assert np.square(much.standard_error).sum() < np.square(little.standard_error).sum()
    assert "of 1000; no stratum may explore more than 20 %" in plan(router, sample_path, budget_usd=1000.0).headline


@pytest.mark.parametrize(("by", "expected"), [(None, "category"), ("category", "category"), ("p_meets", "p_meets")])
def test_what_the_strata_are_made_by(router: Router, sample_path: Path, by: str | None, expected: str) -> None:
    found = plan(router, sample_path, by=by)
    assert found.by == expected
    assert len({(s.value, s.served) for s in found.strata}) == len(found.strata) > 1


def test_a_log_that_was_drawn_by_the_plan_answers_for_every_tier(
    router: Router, tmp_path: Path, sample_path: Path, whole: pl.DataFrame, truth: dict[str, tuple[float, float]]
) -> None:
    found = plan(router, sample_path, by="p_meets", max_epsilon=0.5, budget_usd=100.0)
    bands = {}
    for s in found.strata:
        low, high = map(float, s.value.split(" to "))
        bands.setdefault(s.served, []).append((low, high, s.probability))
    rng = np.random.default_rng(0)
    prompts = whole.unique("prompt_id", keep="first", maintain_order=True)
    drawn = []
    for d in router.route_batch(prompts["prompt"].to_list()):
        chance = next(p for low, high, p in bands[d.tier] if low <= d.p_meets < high or high == 1.0)
        tier = rng.choice(len(chance), p=chance)
        drawn.append((MODELS[tier], chance[tier]))
    models, chances = zip(*drawn, strict=True)
    log = prompts.select("prompt_id", model=pl.Series(models), propensity=pl.Series(chances))
    log = log.join(whole.drop("propensity"), on=["prompt_id", "model"])
    judged = judge(router, tmp_path, log, level=0.99)
    assert_covered(judged, truth)
    expected = np.array(found.effective_n) * N / 20_000
    seen = np.array([c.overlap.effective_n for c in judged.constants])
    assert np.abs(seen / expected - 1).max() < 0.3


def test_the_text_tells_what_to_log(router: Router, sample_path: Path) -> None:
    found = plan(router, sample_path)
    text = found.to_text()
    assert " ".join(text.split()).startswith(found.headline)
    assert "`propensity`" in text
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_prompts": 0}, "n_prompts is 0"), ({"by": "source"}, "one source only"), ({"budget_usd": 0.0}, "budget_usd")],
)
def test_mistakes_in_a_plan_are_named(router: Router, sample_path: Path, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(router, sample_path, **options)
