"""Labels: worked examples, every pattern of a three-tier ladder against a slow reference, and what must always hold."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.errors import InputError, LadderError
from router_ml.ladder import Ladder, Tier
from router_ml.traffic.labels import NONE, Bar, count_labels, label, meets, reference_tier
from router_ml.traffic.schema import SCHEMA

LADDER = Ladder(tuple(Tier(n, f"model-{n}") for n in ("small", "mid", "large")))
NAMES = [*LADDER.names, NONE]
Table = list[list[float | None]]


def traffic(quality: Table) -> pl.LazyFrame:
    """One prompt a row, one tier a column; None: not tried."""
    rows = [
        {"prompt_id": f"p{i:04}", "prompt": f"p{i}", "model": m, "quality": q, "category": f"c{i % 2}"}
        for i, row in enumerate(quality)
        for m, q in zip(LADDER.models, row, strict=True)
        if q is not None
    ]
    return pl.LazyFrame(rows, schema=SCHEMA)


def labels(quality: Table, bar: str, reference: str | None = None) -> list[tuple[str | None, str, str]]:
    table = label(traffic(quality), LADDER, Bar.parse(bar, reference)).collect()
    return table.select("label", "label_low", "label_high").rows()


def known(name: str) -> tuple[str, str, str]:
    return name, name, name


def array(quality: Table) -> np.ndarray:
    return np.array(quality, dtype=np.float64)


def test_absolute_bar_labels_the_cheapest_tier_that_meets_it() -> None:
    assert labels([[0.9, 0.9, 0.9], [0.1, 0.8, 0.9], [0.7, 0.1, 0.8]], "0.8") == [
        known("small"),
        known("mid"),
        known("large"),
    ]


def test_prompt_that_no_tier_answers_well_is_labelled_none() -> None:
    assert labels([[0.1, 0.2, 0.3]], "0.8") == [known(NONE)]


def test_relative_bar_asks_for_a_share_of_the_reference_tiers_quality() -> None:
    # Large has the best mean; 0.95 x 0.8 = 0.76 is just met by mid, and 0.95 x 0.4 = 0.38 by small.
    assert labels([[0.5, 0.76, 0.8], [0.38, 0.1, 0.4]], "0.95x") == [known("mid"), known("small")]


def test_relative_bar_can_name_its_reference_tier() -> None:
    assert labels([[0.5, 0.5, 1.0]], "1x", reference="mid") == [known("small")]


def test_unknown_reference_tier_is_an_error() -> None:
    with pytest.raises(LadderError, match="No tier is called 'huge'"):
        labels([[0.5, 0.5, 1.0]], "1x", reference="huge")


def test_nothing_is_known_where_the_reference_tier_was_not_tried() -> None:
    assert labels([[0.5, 0.5, 1.0], [0.9, 0.9, None]], "1x", reference="large")[1] == (None, "small", NONE)


def slow_label(met: tuple[bool | None, ...]) -> tuple[str | None, str, str]:
    """The least and greatest label over all ways that the tiers not tried might have turned out."""
    worlds = itertools.product(*([m] if m is not None else [True, False] for m in met))
    positions = [world.index(True) if True in world else len(met) for world in worlds]
    low, high = NAMES[min(positions)], NAMES[max(positions)]
    return (low if low == high else None), low, high


def test_every_pattern_of_three_tiers_agrees_with_the_slow_reference() -> None:
    patterns = [p for p in itertools.product([None, False, True], repeat=3) if any(m is not None for m in p)]
    quality: Table = [[None if m is None else float(m) for m in p] for p in patterns]

    assert labels(quality, "0.5") == [slow_label(p) for p in patterns]


def test_n_tried_counts_the_tiers_whose_outcome_is_known() -> None:
    table = label(traffic([[1.0, None, 0.0], [None, None, 1.0]]), LADDER, Bar(0.5)).collect()

    assert table["n_tried"].to_list() == [2, 1]


def test_models_outside_the_ladder_are_left_out() -> None:
    other = pl.LazyFrame([{"prompt_id": "z", "prompt": "z", "model": "other", "quality": 1.0}], schema=SCHEMA)

    assert label(pl.concat([traffic([[1.0, 1.0, 1.0]]), other]), LADDER, Bar(0.5)).collect().height == 1


def test_reference_tier_is_the_best_by_mean_not_the_dearest() -> None:
    assert reference_tier(array([[0.1, 0.9, 0.5], [0.2, 0.8, 0.9]]), LADDER, Bar(1, "relative")) == 1


def test_tie_for_the_reference_tier_goes_to_the_cheaper() -> None:
    assert reference_tier(array([[0.1, 0.9, 0.9]]), LADDER, Bar(1, "relative")) == 1


def test_label_takes_the_cheaper_of_tied_reference_tiers_too() -> None:
    # Mid and large both average 0.75; by large, the second prompt would need 1 and be labelled "large".
    assert labels([[0.0, 1.0, 0.5], [0.0, 0.5, 1.0]], "1x") == [known("mid"), known("mid")]


def test_tier_never_tried_is_no_reference_even_where_all_others_fail() -> None:
    assert reference_tier(array([[None, 0.0, 0.0]]), LADDER, Bar(1, "relative")) == 1


def test_meets_is_not_known_where_a_tier_was_not_tried() -> None:
    assert np.array_equal(meets(array([[0.4, None, 0.6]]), LADDER, Bar(0.5)), [[0, np.nan, 1]], equal_nan=True)


# Eighths are sums of powers of two, so that means tie exactly or not at all, whoever adds them up.
eighth = st.integers(0, 8).map(lambda n: n / 8)
complete = st.lists(st.lists(eighth, min_size=3, max_size=3), min_size=1, max_size=6)
bar_text = st.sampled_from(["0.25", "0.5", "1", "0.5x", "0.95x", "1x"])


@settings(max_examples=50, deadline=None)
@given(complete, bar_text)
def test_meets_agrees_with_label_on_complete_tables(quality: Table, bar: str) -> None:
    met = meets(array(quality), LADDER, Bar.parse(bar))
    first = [NAMES[row.argmax()] if row.any() else NONE for row in met]

    assert [name for name, _, _ in labels(quality, bar)] == first


@settings(max_examples=30, deadline=None)
@given(complete, st.tuples(st.integers(1, 100), st.integers(1, 100)), st.sampled_from(["", "x"]))
def test_raising_the_bar_never_makes_the_label_cheaper(quality: Table, bars: tuple[int, int], kind: str) -> None:
    low, high = (labels(quality, f"{b / 100}{kind}") for b in sorted(bars))

    assert all(NAMES.index(a[1]) <= NAMES.index(b[1]) for a, b in zip(low, high, strict=True))


@settings(max_examples=50, deadline=None)
@given(st.lists(eighth, min_size=3, max_size=3), st.integers(0, 2), st.integers(0, 2), bar_text)
def test_hiding_observations_only_widens_the_interval(row: list[float], a: int, b: int, bar: str) -> None:
    def interval(quality: list[float | None]) -> tuple[int, int]:
        # The anchor keeps "large" the reference tier whatever is hidden.
        _, low, high = labels([quality, [0.0, 0.0, 1.0]], bar, "large" if bar.endswith("x") else None)[0]
        return NAMES.index(low), NAMES.index(high)

    once: list[float | None] = [None if t == a else q for t, q in enumerate(row)]
    twice = [None if t == b else q for t, q in enumerate(once)] if a != b else once
    intervals = [interval(list(row)), interval(once), interval(twice)]

    assert all(wide[0] <= narrow[0] <= narrow[1] <= wide[1] for narrow, wide in itertools.pairwise(intervals))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.8", Bar(0.8)), (".5", Bar(0.5)), ("1", Bar(1.0)), (" 0.95 x ", Bar(0.95, "relative"))],
)
def test_bar_is_read(text: str, expected: Bar) -> None:
    assert Bar.parse(text) == expected


@pytest.mark.parametrize("text", ["", "x", "80%", "0", "1.5", "-0.5", "0x", "nan", "0.8 y"])
def test_bar_that_is_no_share_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="bar is"):
        Bar.parse(text)


def test_absolute_bar_with_a_reference_is_an_error() -> None:
    with pytest.raises(InputError, match="Only a relative bar has a reference"):
        Bar.parse("0.8", reference="large")


def test_bar_of_unknown_kind_is_an_error() -> None:
    with pytest.raises(InputError, match="choose 'absolute' or 'relative'"):
        Bar(0.5, "absolut")


def test_labels_are_counted_in_ladder_order_then_none_then_intervals() -> None:
    table = label(traffic([[0, 0, 0], [0, 0, 1], [1, 1, 1], [0, 0, 1], [None, 1, 1]]), LADDER, Bar(0.5)).collect()

    assert count_labels(table, LADDER).rows() == [("small", 1), ("large", 2), (NONE, 1), ("small..mid", 1)]


def test_labels_are_counted_per_value_of_a_column() -> None:
    table = label(traffic([[0, 0, 1], [1, 1, 1], [1, 1, 1]]), LADDER, Bar(0.5)).collect()

    assert count_labels(table, LADDER, by="category").rows() == [
        ("c0", "small", 1),
        ("c0", "large", 1),
        ("c1", "small", 1),
    ]
