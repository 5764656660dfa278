"""The data card: each figure where it belongs, in text, Markdown and JSON, whatever the traffic holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from router_ml.traffic.cleaning.card import DataCard, data_card, reject_kinds
from router_ml.traffic.cleaning.duplicates import find_duplicates
from router_ml.traffic.schema import SCHEMA

TRAFFIC = pl.DataFrame(
    [
        {"prompt_id": "a", "prompt": "What is this?", "model": "x", "quality": 1.0, "source": "web", "session_id": "s"},
        {"prompt_id": "a", "prompt": "What is this?", "model": "y", "created_at": datetime(2026, 1, 2, tzinfo=UTC)},
        {"prompt_id": "b", "prompt": "what is THIS?", "model": "x", "created_at": datetime(2026, 3, 4, tzinfo=UTC)},
    ],
    schema=SCHEMA,
)
REJECTS = pl.DataFrame(
    {
        "reason": [
            "quality: got 7.0, needed a number in [0, 1]",
            "quality: got -1.0, needed a number in [0, 1]",
            "cost_usd: got 'a, needed b', needed a number",
        ]
    }
)


def card(**options: object) -> DataCard:
    return data_card(TRAFFIC, language_sample=0, **options)  # type: ignore[arg-type]


def test_counts_say_what_became_of_each_row() -> None:
    counts = card(rejects=REJECTS, n_superseded=2, n_dropped=1).counts

    assert counts == {
        "rows_read": 9,
        "rows_kept": 3,
        "rows_rejected": 3,
        "rows_superseded": 2,
        "rows_dropped": 1,
        "prompts": 2,
        "models": 2,
        "sessions": 1,
    }


def test_duplicates_are_counted_where_they_were_looked_for() -> None:
    counts = card(duplicates=find_duplicates(TRAFFIC)).counts

    assert [counts[name] for name in ("exact_duplicates", "near_duplicates", "largest_duplicate_group")] == [1, 0, 2]


def test_rejects_are_grouped_by_reason_whatever_was_got() -> None:
    assert reject_kinds(REJECTS).rows() == [
        ("quality: needed a number in [0, 1]", 2, 2 / 3),
        ("cost_usd: needed a number", 1, 1 / 3),
    ]


def test_rejected_lines_are_grouped_wherever_they_stood() -> None:
    reasons = [f"not a usable JSON line: Expecting value: line 1 column {n} (char {n - 1})" for n in (1, 7)]

    assert reject_kinds(pl.DataFrame({"reason": reasons}))["rows"].to_list() == [2]


def test_time_span_is_that_of_the_rows() -> None:
    assert (card().first, card().last) == (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC))


def test_prompts_that_all_models_answered_are_marked() -> None:
    assert card().answered["models"].to_list() == ["1", "2 (all)"]


def test_slices_that_nobody_named_are_left_out() -> None:
    assert (card().sources.height, card().categories.height) == (2, 0)


def test_lazy_frames_give_the_same() -> None:
    assert data_card(TRAFFIC.lazy(), language_sample=0).to_dict() == card().to_dict()


def test_text_holds_each_part() -> None:
    text = data_card(TRAFFIC, rejects=REJECTS, redactions={"email": 2, "phone": 3}).to_text()

    for part in (
        "rows read",
        "2026-01-02 00:00 UTC",
        "Rejected rows",
        "Models",
        "2 (all)",
        "web",
        "Languages",
        "phone",
    ):
        assert part in text
    assert text.index("phone") < text.index("email")


def test_markdown_has_a_heading_and_a_table_for_each_part() -> None:
    page = card(rejects=REJECTS).to_markdown()

    assert page.startswith("# Data card\n")
    assert (
        "## Models\n\n| model | rows | share | quality | cost_usd | latency_ms |\n| --- | --: | --: | --: | --: | --: |"
        in page
    )


def test_dict_is_json_and_its_lists_are_bounded() -> None:
    rows = [{"prompt_id": str(i), "prompt": "p", "model": "m", "category": str(i)} for i in range(300)]
    made = data_card(pl.DataFrame(rows, schema=SCHEMA), language_sample=0).to_dict()

    assert len(json.loads(json.dumps(made, allow_nan=False))["categories"]) == 100


def test_metrics_are_counts_and_shares() -> None:
    metrics = card().to_metrics()

    assert (metrics["rows_kept"], metrics["has_quality"]) == (3.0, pytest.approx(1 / 3))


def test_empty_traffic_has_a_card() -> None:
    made = data_card(TRAFFIC.clear())

    assert made.counts["rows_kept"] == 0
    assert "no dates" in made.to_text()
    json.dumps(made.to_dict(), allow_nan=False)
