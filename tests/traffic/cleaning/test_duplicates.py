"""Duplicates: what counts as the same, whatever the order, and which rows stay when they are dropped."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.errors import InputError, MissingExtraError
from router_ml.traffic.cleaning.duplicates import GROUP, Duplicates, drop_duplicates, find_duplicates
from router_ml.traffic.schema import SCHEMA
from router_ml.traffic.split import connected_groups

LONG = (
    "Please explain in a few simple sentences how the tides of the sea follow from the moon's pull, and why two a day."
)


def table(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame([{"model": "m", **row} for row in rows], schema=SCHEMA)


def prompts(*texts: str) -> pl.DataFrame:
    return table(*({"prompt_id": f"{i:03d}", "prompt": text} for i, text in enumerate(texts)))


def groups(traffic: pl.DataFrame, **options: object) -> list[str]:
    return find_duplicates(traffic, **options).groups[GROUP].to_list()  # type: ignore[arg-type]


@pytest.mark.parametrize("other", ["what  IS\nthis?", " What is this? ", "ｗｈａｔ is this?"])
def test_case_white_space_and_width_do_not_tell_prompts_apart(other: str) -> None:
    found = find_duplicates(prompts("What is this?", other), threshold=None)

    assert (found.n_exact, found.n_near, found.groups[GROUP].to_list()) == (1, 0, ["000", "000"])


def test_digits_tell_prompts_apart() -> None:
    assert groups(prompts("What is 17 * 24?", "What is 18 * 25?")) == ["000", "001"]


def test_near_duplicates_share_a_group() -> None:
    found = find_duplicates(
        prompts(LONG, "Something else entirely, of about no length.", LONG.replace("few", "couple of"))
    )

    assert (found.n_prompts, found.n_exact, found.n_near, found.largest) == (3, 0, 1, 2)
    assert found.groups.rows() == [("000", "000"), ("001", "001"), ("002", "000")]


def test_higher_threshold_keeps_them_apart() -> None:
    assert groups(prompts(LONG, LONG.replace("few", "couple of")), threshold=0.99) == ["000", "001"]


def test_without_a_threshold_only_equal_ones_share_a_group() -> None:
    assert groups(prompts(LONG, LONG + "!", LONG.upper()), threshold=None) == ["000", "001", "000"]


def test_a_prompt_asked_of_many_models_is_one_prompt() -> None:
    rows = [{"prompt_id": "a", "prompt": "p", "model": m} for m in "xyz"]

    assert find_duplicates(table(*rows)).n_prompts == 1


def test_conversations_that_share_a_system_prompt_are_not_duplicates() -> None:
    rng = np.random.default_rng(0)
    system = " ".join(f"rule{i} is binding" for i in range(100))
    texts = [f"{system} {' '.join(str(w) for w in rng.integers(10**6, size=15))}" for _ in range(120)]

    assert find_duplicates(prompts(*texts)).largest == 1


def test_middle_of_a_very_long_prompt_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    head, tail = (" ".join(str(w) for w in rng.integers(10**6, size=n)) for n in (1000, 400))
    texts = [f"{head} {' '.join(str(w) for w in rng.integers(10**6, size=5000))} {tail}" for _ in range(2)]

    assert groups(prompts(*texts)) == ["000", "000"]


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, float("nan")])
def test_threshold_outside_its_range_is_an_error(threshold: float) -> None:
    with pytest.raises(InputError, match=r"needed a similarity in \(0, 1\]"):
        find_duplicates(prompts("p"), threshold=threshold)


def test_missing_package_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rensa", None)

    with pytest.raises(MissingExtraError, match="near duplicates needs packages"):
        find_duplicates(prompts("p"))
    assert find_duplicates(prompts("p"), threshold=None).n_prompts == 1


def test_empty_table_has_no_groups() -> None:
    found = find_duplicates(prompts())

    assert (found.groups.height, found.n_prompts, found.largest) == (0, 0, 0)


def test_lazy_frames_give_the_same() -> None:
    traffic = prompts(LONG, LONG + "!", "other")

    assert find_duplicates(traffic.lazy()).groups.equals(find_duplicates(traffic).groups)


variant = st.builds(
    lambda base, edit, at: base[:at] + edit + base[at:],
    st.sampled_from([LONG, "Write a short poem about autumn leaves.", "What?"]),
    st.sampled_from(["", "!", " ", "X", "very ", "indeed much later "]),
    st.integers(0, 40),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(variant, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(texts: list[str], random: object) -> None:
    traffic = prompts(*texts)
    order = list(range(len(texts)))
    random.shuffle(order)  # type: ignore[attr-defined]

    assert find_duplicates(traffic[order]).groups.equals(find_duplicates(traffic).groups)


@settings(max_examples=40, deadline=None)
@given(st.lists(variant, min_size=1, max_size=12))
def test_a_group_is_named_after_its_smallest_id_and_counts_add_up(texts: list[str]) -> None:
    found = find_duplicates(prompts(*texts))
    smallest = found.groups.group_by(GROUP).agg(pl.col("prompt_id").min())

    assert smallest[GROUP].to_list() == smallest["prompt_id"].to_list()
    assert len(smallest) == found.n_prompts - found.n_exact - found.n_near


def test_groups_in_place_of_texts_keep_near_duplicates_on_one_side_of_a_split() -> None:
    traffic = prompts(LONG, "Quite another thing.", LONG + " Thanks!")
    ids = np.array(groups(traffic), dtype=np.object_)

    assert connected_groups(ids, np.array(["", "", ""])).tolist() == [0, 1, 0]


def day(n: int) -> datetime:
    return datetime(2026, 1, n, tzinfo=UTC)


def drop(*rows: dict[str, object]) -> list[tuple[str, str]]:
    traffic = table(*({"prompt": "p", **row} for row in rows))
    return drop_duplicates(traffic, find_duplicates(traffic)).select("prompt_id", "model").rows()


def test_of_duplicates_the_newest_prompt_stays() -> None:
    assert drop(*({"prompt_id": i, "created_at": day(d)} for i, d in (("a", 1), ("b", 3), ("c", 2)))) == [("b", "m")]


def test_a_prompt_that_more_models_answered_goes_before_a_newer_one() -> None:
    rows = [{"prompt_id": "a", "model": m, "created_at": day(1)} for m in "xy"]

    assert drop(*rows, {"prompt_id": "b", "model": "x", "created_at": day(2)}) == [("a", "x"), ("a", "y")]


def test_a_model_that_only_a_duplicate_was_sent_to_keeps_its_row() -> None:
    rows = [{"prompt_id": "a", "model": m} for m in "xy"]

    assert drop(*rows, {"prompt_id": "b", "model": "z"}) == [("a", "x"), ("a", "y"), ("b", "z")]


def test_undated_duplicates_are_the_oldest() -> None:
    assert drop({"prompt_id": "a"}, {"prompt_id": "b", "created_at": day(1)}) == [("b", "m")]


row = st.fixed_dictionaries(
    {
        "prompt_id": st.sampled_from("abcdef"),
        "model": st.sampled_from("xyz"),
        "created_at": st.sampled_from([None, day(1), day(2)]),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(row, min_size=1, max_size=12, unique_by=lambda r: (r["prompt_id"], r["model"])))
def test_one_row_of_each_model_stays_in_each_group(rows: list[dict[str, object]]) -> None:
    traffic = table(*({**r, "prompt": f"group {ord(str(r['prompt_id'])) % 2}"} for r in rows))
    found = find_duplicates(traffic, threshold=None)
    kept = drop_duplicates(traffic, found).join(found.groups, on="prompt_id")
    every = traffic.join(found.groups, on="prompt_id").select(GROUP, "model").unique()

    assert sorted(kept.select(GROUP, "model").rows()) == sorted(every.rows())


def test_dropping_keeps_columns_order_and_unique_rows() -> None:
    traffic = prompts("b", "a", "c")
    alone = Duplicates(traffic.select("prompt_id", pl.col("prompt_id").alias(GROUP)), 3, 0, 0)

    assert drop_duplicates(traffic, alone).equals(traffic)
