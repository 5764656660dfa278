from __future__ import annotations

import numpy as np
import pytest

from router_ml.errors import InputError
from router_ml.evaluation import Confusion, SliceRow
from router_ml.evaluation.slices import as_meets, confusion, known_labels, slice_rows

nan = np.nan


def test_a_label_needs_every_cheaper_tier_to_have_failed():
    meets = np.array([[1, 0, 1], [0, 1, nan], [0, 0, 0], [nan, 1, 1], [0, nan, 0], [0, 0, nan], [1, nan, nan]])
    assert known_labels(meets).tolist() == [0, 1, 3, -1, -1, -1, 0]


def test_the_confusion_counts_labels_against_choices():
    found = confusion(np.array([0, 0, 1, 2, -1]), np.array([0, 1, 1, 1, 0]), ["mini", "full"])
    assert found == Confusion(("mini", "full", "none"), ("mini", "full"), ((1, 1), (0, 1), (0, 1)), n_unknown=1)


def test_slices_hold_means_shares_and_labels(example):
    quality, cost, _ = example
    kinds = {"category": np.array(["b", "a", "a", "a"])}
    rows = slice_rows(kinds, quality, cost, np.array([0, 1, 0, 0]), np.array([0, 1, -1, 2]), best=1)
    assert rows[0] == SliceRow(
        slice="category",
        value="a",
        n=3,
        cost_usd=2.0,
        quality=pytest.approx(1 / 3),
        best_cost_usd=4.0,
        best_quality=pytest.approx(2 / 3),
        share=pytest.approx((2 / 3, 1 / 3)),
        labels=(0, 1, 1),
    )
    assert [(row.value, row.n) for row in rows] == [("a", 3), ("b", 1)]


def test_mistakes_are_named(example):
    quality, cost, _ = example
    with pytest.raises(InputError, match="slice 'kind' has shape"):
        slice_rows({"kind": ["a"]}, quality, cost, np.zeros(4, dtype=int), np.zeros(4, dtype=int), best=1)
    with pytest.raises(InputError, match="other than 0, 1 and NaN"):
        as_meets([[0.5, 1.0]], (1, 2))
    with pytest.raises(InputError, match=r"needed \(2, 2\)"):
        as_meets([[0.0, 1.0]], (2, 2))
