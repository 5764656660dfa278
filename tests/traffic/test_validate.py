"""Validation: each rule, the rejects, the ids, and which of two duplicates stays."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.errors import TrafficError
from router_ml.traffic.read import FILE, REASON, ROW
from router_ml.traffic.schema import SCHEMA
from router_ml.traffic.validate import Validated, validate

INTERNAL = {FILE: pl.String(), ROW: pl.Int64(), REASON: pl.String()}


def frame(*rows: dict[str, object]) -> pl.LazyFrame:
    """What `scan` would give of these rows."""
    full = [{"prompt": "p", "model": "m", FILE: "log.csv", ROW: i, **r} for i, r in enumerate(rows, start=2)]
    return pl.LazyFrame(full, schema={**SCHEMA, **INTERNAL})


def check(*rows: dict[str, object]) -> Validated:
    """Validate beside one good row, accepting any share of rejects."""
    return validate(frame({"prompt": "good"}, *rows), max_rejects=1)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("prompt", None, "prompt: got nothing, needed some text"),
        ("prompt", " \n", "prompt: got nothing, needed some text"),
        ("prompt", "a\0b", "prompt: holds NUL characters, so it isn't text"),
        ("model", None, "model: got nothing, needed some text"),
        ("quality", 1.2, "quality: got 1.2, needed a number in [0, 1]"),
        ("quality", -0.1, "quality: got -0.1, needed a number in [0, 1]"),
        ("quality", math.nan, "quality: got NaN, needed a number in [0, 1]"),
        ("propensity", 0.0, "propensity: got 0.0, needed a number in (0, 1]"),
        ("propensity", 1.1, "propensity: got 1.1, needed a number in (0, 1]"),
        ("propensity", math.nan, "propensity: got NaN, needed a number in (0, 1]"),
        ("cost_usd", -1.0, "cost_usd: got -1.0, needed a finite number >= 0"),
        ("cost_usd", math.inf, "cost_usd: got inf, needed a finite number >= 0"),
        ("cost_usd", math.nan, "cost_usd: got NaN, needed a finite number >= 0"),
        ("latency_ms", -1.0, "latency_ms: got -1.0, needed a finite number >= 0"),
        ("latency_ms", math.inf, "latency_ms: got inf, needed a finite number >= 0"),
        ("input_tokens", -1, "input_tokens: got -1, needed a whole number >= 0"),
        ("output_tokens", -1, "output_tokens: got -1, needed a whole number >= 0"),
    ],
)
def test_value_out_of_range_is_rejected_with_its_place_and_reason(column: str, value: object, reason: str) -> None:
    assert check({column: value}).rejects.rows() == [("log.csv", 3, reason)]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("quality", 0.0),
        ("quality", 1.0),
        ("quality", None),
        ("propensity", 1.0),
        ("cost_usd", 0.0),
        ("input_tokens", 0),
    ],
)
def test_values_at_the_edge_of_their_range_are_kept(column: str, value: object) -> None:
    assert check({column: value}).traffic.height == 2


def test_reason_from_reading_goes_first() -> None:
    assert check({REASON: "unreadable", "prompt": None}).rejects["reason"].to_list() == ["unreadable"]


def test_rejects_are_written_beside_the_output(tmp_path: Path) -> None:
    path = check({"quality": 7.0}).write_rejects(tmp_path / "traffic.parquet")

    assert path == tmp_path / "traffic.rejects.csv"
    assert pl.read_csv(path).rows() == [("log.csv", 3, "quality: got 7.0, needed a number in [0, 1]")]


def test_rejects_of_an_earlier_run_are_removed_when_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "traffic.rejects.csv").write_text("old")

    assert check().write_rejects(tmp_path / "traffic.parquet") is None
    assert not (tmp_path / "traffic.rejects.csv").exists()


def test_share_of_rejects_at_the_limit_is_accepted() -> None:
    rows = [{"prompt": str(i)} for i in range(9)]

    assert validate(frame(*rows, {"quality": 7.0}), max_rejects=0.1).traffic.height == 9


def test_share_of_rejects_over_the_limit_is_an_error_that_shows_the_first() -> None:
    rows = [{"prompt": str(i)} for i in range(8)]

    with pytest.raises(
        TrafficError, match=r"2 of 10 rows can't be used; the first is log.csv, row 2: quality: got 5.0"
    ):
        validate(frame({"quality": 5.0}, *rows, {"quality": 4.0}), max_rejects=0.1)


def test_empty_table_is_an_error() -> None:
    with pytest.raises(TrafficError, match="holds no rows"):
        validate(frame())


def test_all_rejected_is_an_error_whatever_the_limit() -> None:
    with pytest.raises(TrafficError, match="1 of 1 rows can't be used"):
        validate(frame({"prompt": None}), max_rejects=1)


def test_missing_prompt_id_is_a_known_hash_of_the_prompt() -> None:
    # First 32 hex digits of SHA-256 of "abc" (FIPS 180-2, appendix B.1).
    assert validate(frame({"prompt": "abc"})).traffic["prompt_id"].to_list() == ["ba7816bf8f01cfea414140de5dae2223"]


def test_equal_prompts_get_equal_ids_and_others_get_others() -> None:
    traffic = validate(frame({"model": "a"}, {"model": "b"}, {"prompt": "q", "model": "a"})).traffic

    assert traffic.group_by("prompt").agg(pl.col("prompt_id").n_unique())["prompt_id"].to_list() == [1, 1]
    assert traffic["prompt_id"].n_unique() == 2


def test_given_prompt_id_is_kept() -> None:
    assert validate(frame({"prompt_id": "mine"})).traffic["prompt_id"].to_list() == ["mine"]


def test_blank_prompt_ids_do_not_make_one_prompt_of_many() -> None:
    validated = validate(frame({"prompt_id": "", "prompt": "a"}, {"prompt_id": " ", "prompt": "b"}, {"prompt_id": ""}))

    assert (validated.traffic["prompt_id"].n_unique(), validated.n_duplicates) == (3, 0)


def day(n: int) -> datetime:
    return datetime(2026, 1, n, tzinfo=UTC)


def test_newest_duplicate_stays_and_the_others_are_counted() -> None:
    validated = validate(frame(*({"created_at": day(d), "response": str(d)} for d in (2, 3, 1))))

    assert (validated.traffic["response"].to_list(), validated.n_duplicates) == (["3"], 2)


def test_of_equally_old_repeats_the_last_answer_stays() -> None:
    rows = [{"created_at": day(1), "response": r} for r in ("first", "second")]

    assert validate(frame(*rows)).traffic["response"].to_list() == ["second"]


@pytest.mark.parametrize("created_at", [None, day(1)])
def test_repeats_that_nothing_tells_apart_are_averaged(created_at: datetime | None) -> None:
    """The last row alone would make a model that is right half of the time one that is always wrong."""
    told = [(1.0, 3.0, 10), (0.0, 1.0, 20), (None, None, None)]
    rows = [{"created_at": created_at, "quality": q, "cost_usd": c, "output_tokens": n} for q, c, n in told]
    validated = validate(frame(*rows))

    assert validated.traffic.select("quality", "cost_usd", "output_tokens").rows() == [(0.5, 2.0, 15)]
    assert (validated.n_duplicates, validated.n_repeats) == (0, 2)


def test_the_average_of_equal_qualities_is_that_quality() -> None:
    """Summed and divided, three times 0.7 is less than 0.7."""
    assert validate(frame(*({"quality": 0.7} for _ in range(3)))).traffic["quality"].to_list() == [0.7]


def test_of_repeats_the_last_judged_answer_stays() -> None:
    rows = [{"response": "a", "quality": 1.0}, {"response": "b", "quality": 0.0}, {"response": "c"}]

    assert validate(frame(*rows)).traffic["response"].to_list() == ["b"]


def test_only_the_newest_rows_are_averaged() -> None:
    rows = [{"created_at": day(d), "quality": q} for d, q in ((1, 0.0), (2, 1.0), (2, 0.5))]
    validated = validate(frame(*rows))

    assert (validated.traffic["quality"].to_list(), validated.n_duplicates, validated.n_repeats) == ([0.75], 1, 1)


def test_duplicate_without_a_date_is_the_oldest() -> None:
    rows = [{"created_at": day(1), "response": "dated"}, {"response": "undated"}]

    assert validate(frame(*rows)).traffic["response"].to_list() == ["dated"]


def test_traffic_comes_out_sorted_by_prompt_and_model() -> None:
    rows = [{"prompt_id": p, "model": m} for p, m in (("b", "x"), ("a", "y"), ("a", "x"))]

    assert validate(frame(*rows)).traffic.select("prompt_id", "model").rows() == [("a", "x"), ("a", "y"), ("b", "x")]


def test_the_first_rejects_are_named_and_the_others_counted() -> None:
    said = check(*({"quality": 7.0} for _ in range(5))).first_rejects(n=1)

    assert said == ("Rejected: log.csv, row 3: quality: got 7.0, needed a number in [0, 1]", "Rejected: 4 more")


def test_summary_holds_the_counts() -> None:
    summary = check({"quality": 7.0}, {}, {}).summary()

    assert summary == (
        "4 rows read: 2 kept, 1 rejected, 0 older duplicates dropped, 1 repeats averaged into others of the same prompt and model; "
        "2 prompts, 1 models"
    )


def test_summary_does_not_speak_of_repeats_where_there_are_none() -> None:
    assert check().summary() == "1 rows read: 1 kept, 0 rejected, 0 older duplicates dropped; 1 prompts, 1 models"


row = st.fixed_dictionaries(
    {
        "prompt": st.sampled_from(["p", "q", "", None]),
        "model": st.sampled_from(["a", "b"]),
        "prompt_id": st.sampled_from([None, "", "x"]),
        "quality": st.sampled_from([0.5, 2.0, math.nan, None]),
        "created_at": st.sampled_from([None, day(1), day(2)]),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(row, max_size=12))
def test_every_row_read_is_kept_rejected_or_a_duplicate(rows: list[dict[str, object]]) -> None:
    validated = validate(frame({"prompt": "good"}, *rows), max_rejects=1)

    assert validated.n_read == len(rows) + 1
    kept = validated.traffic.height + validated.n_repeats
    assert kept + validated.rejects.height + validated.n_duplicates == validated.n_read
