"""A text's features are the same for one text and for many, and as their docstrings say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from router_ml.core.features import FIRST_TOKEN, N_PAIRS, N_WHOLE, FeatureRow, feature_rows, pair_ids

TEXTS = st.lists(st.lists(st.integers(0, 40_000), max_size=20), min_size=1, max_size=6)


def arrays(texts: list[list[int]]) -> list[NDArray[np.int64]]:
    return [np.array(t, dtype=np.int64) for t in texts]


def test_pairs_can_be_hashed_from_features_as_from_tokens() -> None:
    # What FeatureRow rests on: the features of tokens are tokens plus a multiple of N_PAIRS.
    assert FIRST_TOKEN % N_PAIRS == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=40), st.integers(1, 10**6))
def test_a_row_holds_tokens_pairs_and_the_whole_text(text: list[int], n_chars: int) -> None:
    (tokens,) = arrays([text])
    row = FeatureRow(len(tokens))
    row.fill(np.zeros(len(tokens), dtype=np.int64), 7)
    row.fill(tokens, n_chars)

    assert row.ids.tolist() == [[*(tokens + FIRST_TOKEN), *pair_ids(tokens), -3, -2, -1]]
    each = [1 / len(tokens)] * (2 * len(tokens))
    np.testing.assert_allclose(row.weights[0, 0], [*each, 1 / len(tokens), np.log1p(n_chars), 1], rtol=1e-6)


@settings(deadline=None)
@given(TEXTS)
def test_many_rows_are_each_texts_own_filled_up_with_what_weighs_nothing(texts: list[list[int]]) -> None:
    tokens = arrays(texts)
    ids, weights = feature_rows(tokens, list(range(len(tokens))))
    half = (ids.shape[1] - N_WHOLE) // 2
    for i, of_text in enumerate(tokens):
        if not len(of_text):
            assert not weights[i, 0, :-N_WHOLE].any()
            continue
        row = FeatureRow(len(of_text))
        row.fill(of_text, i)
        kept = [*range(len(of_text)), *range(half, half + len(of_text)), *range(2 * half, ids.shape[1])]
        np.testing.assert_array_equal(ids[i, kept], row.ids[0])
        np.testing.assert_array_equal(weights[i, 0, kept], row.weights[0, 0])
        assert weights[i, 0].sum() == pytest.approx(row.weights.sum())
    assert ((ids >= -N_WHOLE) & (ids < FIRST_TOKEN + 40_001)).all()
