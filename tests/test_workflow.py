"""The offline path as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from router_ml import workflow
from router_ml.core.menu import find_point, point_name
from router_ml.core.router import Router
from router_ml.datasets import sample_ladder, simulate
from router_ml.errors import TrafficError
from router_ml.evaluation.report import text_report
from router_ml.ladder import Ladder
from router_ml.traffic.labels import Bar
from router_ml.workflow import FitOptions

QUICK = workflow.FitOptions(learner="logistic", n_folds=2)
"""Where it doesn't matter what is learned by."""


def test_the_same_input_gives_the_same_artifact(tmp_path: Path) -> None:
    simulate(150, random_state=0).write_parquet(tmp_path / "traffic.parquet")
    paths = [tmp_path / f"{n}.onnx" for n in range(2)]
    for path in paths:
        workflow.fit([tmp_path / "traffic.parquet"], path, ladder=sample_ladder(), options=QUICK, track=False)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.slow
def test_one_tier_a_prompt_is_enough_to_fit(tmp_path: Path) -> None:
    simulate(400, random_state=0, logged=True).write_parquet(tmp_path / "logged.parquet")
    result = workflow.fit([tmp_path / "logged.parquet"], tmp_path / "r.onnx", ladder=sample_ladder(), track=False)
    assert result.evaluation is None
    # Estimated, doubly robust, on pseudo-outcomes.
    point = find_point(result.menu.points, result.menu.default)
    assert point.expected is not None
    assert -0.1 < point.expected.quality_drop < 0.1
    assert Router.load(result.path).route("What is the capital of Peru?").tier in sample_ladder().names


def test_a_partial_log_can_not_be_evaluated_and_says_what_to_do(tmp_path: Path, artifact: Path) -> None:
    simulate(50, random_state=1, logged=True).write_parquet(tmp_path / "logged.parquet")
    with pytest.raises(TrafficError, match=r"--off-policy.* or replay the missing tiers"):
        workflow.evaluate_router(Router.load(artifact), [tmp_path / "logged.parquet"])


@pytest.mark.parametrize("neighbours", [False, True])
def test_what_the_router_was_fitted_on_is_recognised(neighbours: bool, tmp_path: Path) -> None:
    traffic, options = simulate(120, random_state=0), FitOptions(learner="logistic", n_folds=2, neighbours=neighbours)
    traffic.write_parquet(tmp_path / "train.parquet")
    traffic.reverse().write_parquet(tmp_path / "reversed.parquet")
    simulate(120, random_state=1).with_columns(prompt_id="new-" + pl.col("prompt_id")).write_parquet(
        tmp_path / "new.parquet"
    )
    workflow.fit(
        [tmp_path / "train.parquet"], tmp_path / "r.onnx", ladder=sample_ladder(), options=options, track=False
    )
    router = Router.load(tmp_path / "r.onnx")

    def warned(name: str) -> bool:
        found = workflow.evaluate_router(router, [tmp_path / f"{name}.parquet"], n_resamples=10)
        text = " ".join(text_report(found).split())
        assert all(warning in text.split(found.headline)[0] for warning in found.warnings)
        assert found.to_dict()["warnings"] == list(found.warnings)
        return any("THE ROUTER WAS FITTED ON" in warning for warning in found.warnings)

    # Other bytes of the same prompts are recognised where the artifact holds their ids.
    assert [warned(name) for name in ("train", "reversed", "new")] == [True, neighbours, False]


@pytest.mark.parametrize(
    ("n", "says"), [(0, None), (10, "10 of 60 prompts: no real model"), (60, "TRAFFIC: no real model")]
)
def test_simulated_prompts_are_said_to_be(n: int, says: str | None) -> None:
    found = workflow.simulated(["simulated"] * n + ["app"] * (60 - n))
    assert len(found) == (says is not None)
    assert says is None or says in found[0]


@pytest.mark.slow
def test_a_fit_whose_gain_may_be_noise_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = simulate(300, random_state=0).with_columns(quality=pl.Series(rng.integers(2, size=900).astype(float)))
    noise.write_parquet(tmp_path / "noise.parquet")
    simulate(1000, random_state=0).write_parquet(tmp_path / "real.parquet")

    def fitted(name: str) -> workflow.FitResult:
        paths = [tmp_path / f"{name}.parquet"]
        return workflow.fit(paths, tmp_path / "r.onnx", ladder=sample_ladder(), options=QUICK, track=False)

    result = fitted("noise")
    assert result.warnings[0].startswith("NO BETTER than the single tiers, as far as 280 prompts can tell")
    assert result.to_dict()["warnings"] == list(result.warnings)
    assert not fitted("real").warnings


@pytest.mark.slow
def test_cross_validated_and_held_out_figures_agree(tmp_path: Path) -> None:
    split = workflow.split_traffic(simulate(1500, random_state=0), sample_ladder(), test_share=0.5, random_state=0)
    for name in ("train", "test"):
        getattr(split, name).write_parquet(tmp_path / f"{name}.parquet")
    result = workflow.fit(
        [tmp_path / "train.parquet"], tmp_path / "r.onnx", ladder=split.ladder, options=QUICK, track=False
    )
    held_out = workflow.evaluate_router(Router.load(result.path), [tmp_path / "test.parquet"], n_resamples=50)
    assert result.evaluation is not None
    seen, unseen = (e.metrics()["value/aiq"] for e in (result.evaluation, held_out))
    assert seen == pytest.approx(unseen, abs=0.05)
    assert held_out.better


def test_an_embedding_that_is_missing_is_an_error() -> None:
    traffic = simulate(20, random_state=0)
    table = workflow.embed_table(traffic, "static")
    with pytest.raises(ValueError, match="embed them again"):
        workflow.embedded_from_table(table.head(5), table["prompt_id"].to_numpy().astype(str))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("bfcl", 0.13)])
def test_real_traffic(shared_data: Path, tmp_path: Path, name: str, least: float) -> None:
    result = workflow.fit(
        [shared_data / f"{name}-train.parquet"], tmp_path / "r.onnx", options=FitOptions(bar=Bar(1.0)), track=False
    )
    held_out = workflow.evaluate_router(
        Router.load(result.path), [shared_data / f"{name}-test.parquet"], n_resamples=20
    )
    assert held_out.frontier["value"].gap_closed >= least


def test_the_ladder_may_name_some_of_the_models_only(tmp_path: Path) -> None:
    simulate(100, random_state=0).write_parquet(tmp_path / "traffic.parquet")
    ladder = Ladder.from_dicts([{"model": "gpt-4.1"}, {"model": "gpt-4.1-nano"}])
    result = workflow.fit(
        [tmp_path / "traffic.parquet"], tmp_path / "r.onnx", ladder=ladder, options=QUICK, track=False
    )
    assert Router.load(result.path).ladder.models == ("gpt-4.1-nano", "gpt-4.1")
    assert any("gpt-4.1-mini" in note for note in result.prepared.notes)


def test_prompts_that_nobody_judged_are_left_out(tmp_path: Path) -> None:
    traffic = simulate(200, random_state=0)
    few = traffic["prompt_id"].unique().sort()[:50]
    unjudged = pl.when(~pl.col("prompt_id").is_in(few.to_list())).then("quality")
    prepared = workflow.prepare(traffic.with_columns(quality=unjudged), sample_ladder(), Bar(0.8))
    assert len(prepared.observations) == 150


@pytest.mark.slow
def test_a_student_learns_from_prompts_that_nobody_judged_and_other_learners_do_not(tmp_path: Path) -> None:
    traffic = simulate(150, random_state=0)
    unjudged = pl.col("prompt_id").is_in(traffic["prompt_id"].unique().sort()[:30].to_list())
    traffic.with_columns(quality=pl.when(~unjudged).then("quality")).write_parquet(tmp_path / "all.parquet")
    traffic.filter(~unjudged).write_parquet(tmp_path / "judged.parquet")

    def expected(name: str, learner: str, **params: str) -> list[list[float]]:
        options = FitOptions(learner=learner, learner_params=params, n_folds=2)
        workflow.fit([tmp_path / name], tmp_path / "r.onnx", ladder=sample_ladder(), options=options, track=False)
        return Router.load(tmp_path / "r.onnx").predict(["Sort a list in Python."]).quality.tolist()

    teacher = {"teacher": "logistic"}
    assert expected("all.parquet", "distilled", **teacher) != expected("judged.parquet", "distilled", **teacher)
    assert expected("all.parquet", "ngram") == expected("judged.parquet", "ngram")


def test_the_summary_counts_the_labels(tmp_path: Path) -> None:
    simulate(100, random_state=0).write_parquet(tmp_path / "traffic.parquet")
    result = workflow.fit(
        [tmp_path / "traffic.parquet"], tmp_path / "r.onnx", ladder=sample_ladder(), options=QUICK, track=False
    )
    assert sum(result.to_dict()["labels"].values()) == 100
    assert "Labels of 100 prompts: nano " in result.summary()


@pytest.mark.slow
def test_without_a_learner_a_search_chooses_one_and_says_why(tmp_path: Path) -> None:
    simulate(150, random_state=0).write_parquet(tmp_path / "traffic.parquet")
    result = workflow.fit([tmp_path / "traffic.parquet"], tmp_path / "r.onnx", ladder=sample_ladder(), track=False)
    metadata = Router.load(result.path).metadata
    assert result.reason is not None
    assert result.reason.startswith(f"{metadata.learner['name']}: ")
    assert metadata.provenance["learner_chosen"] == result.reason
    assert f"Learner: {result.reason}" in result.summary()


@pytest.mark.parametrize("step", ["router-ml judge TRAFFIC", "router-ml ingest FORMAT LOG --quality-from NAME"])
def test_traffic_without_quality_is_told_where_to_get_it(step: str, tmp_path: Path) -> None:
    traffic = simulate(30, random_state=0).with_columns(quality=pl.lit(None, pl.Float64))
    with pytest.raises(TrafficError, match=step):
        workflow.prepare(traffic, sample_ladder(), Bar(0.8))


def test_traffic_without_responses_is_told_to_ask_for_them_first(tmp_path: Path) -> None:
    nothing = {"quality": pl.lit(None, pl.Float64), "response": pl.lit(None, pl.String)}
    with pytest.raises(TrafficError, match="'router-ml replay'"):
        workflow.prepare(simulate(30, random_state=0).with_columns(**nothing), sample_ladder(), Bar(0.8))


@pytest.mark.parametrize("drop", [1e-9, -0.0, 0.0100000001])
def test_a_loss_is_as_precise_as_the_name_of_its_operating_point(drop: float) -> None:
    rounded = FitOptions(max_quality_drop=drop).max_quality_drop
    assert point_name(rounded) in ("0pt", "1pt")
    assert str(rounded) in ("0.0", "0.01")
