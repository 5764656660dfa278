"""What is said of how long something takes, before it starts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from router_ml.datasets import simulate
from router_ml.judge import JudgeConfig
from router_ml.traffic.calls import calls_seconds
from router_ml.workflow import FitOptions
from router_ml.workflow.durations import announce, fit_seconds, judge_seconds


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "router_ml")
    return caplog


@pytest.fixture
def traffic() -> pl.DataFrame:
    return simulate(100, random_state=0)


def test_the_prompts_and_the_time_are_said(
    traffic: pl.DataFrame, told: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    traffic.write_parquet(tmp_path / "t.parquet")
    announce("Fitting on", [tmp_path / "t.parquet"], 10.0, 0.5)
    assert told.messages == ["Fitting on 100 prompts takes about 1 minute on a free core."]


def test_nothing_is_said_of_what_cannot_be_read(told: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    announce("Fitting on", [tmp_path / "absent.parquet"], 10.0, 0.5)
    assert told.messages == []


def test_a_search_takes_longer_than_a_learner() -> None:
    assert fit_seconds(FitOptions())[1] > fit_seconds(FitOptions(learner="ngram"))[1]


def judging(traffic: pl.DataFrame, *rules: dict[str, Any]) -> float:
    return judge_seconds(
        traffic.with_columns(quality=pl.lit(None, pl.Float64)), JudgeConfig.from_dict({"rules": [*rules]})
    )


def test_votes_make_a_judge_slower_and_calls_at_once_faster(traffic: pl.DataFrame) -> None:
    settings = {"model": "m", "votes": 3, "concurrency": 4}
    asked = judging(traffic, {"grader": "llm_rubric", "settings": settings})
    assert asked == pytest.approx(calls_seconds(3 * traffic.height, 100, 4))


def test_graders_that_ask_no_model_take_no_time(traffic: pl.DataFrame) -> None:
    assert (
        judging(traffic, {"grader": "exact", "reference": "a"}, {"grader": "llm_rubric", "settings": {"model": "m"}})
        == 0
    )
