"""Sparse features of words: what is counted, and that a graph counts the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.core.features import feature_rows
from router_ml.core.inference import FEATURE_INPUTS
from router_ml.graph.builder import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.ngrams import N_FEATURES, NgramCounts, add_to_graph

TEXTS = st.lists(st.lists(st.integers(0, 40_000), max_size=30), min_size=1, max_size=8)


def arrays(texts: list[list[int]]) -> list[np.ndarray]:
    return [np.array(t, dtype=np.int64) for t in texts]


def test_a_token_counts_as_often_as_it_occurs() -> None:
    counts = NgramCounts.of(arrays([[5, 7, 5, 5]])).counts

    assert counts[0, 5] == 3
    assert counts[0, 7] == 1


def test_pairs_are_features_of_their_own_and_have_an_order() -> None:
    one, other = NgramCounts.of(arrays([[5, 7], [7, 5]])).counts.toarray()

    assert np.array_equal(one[:100], other[:100])
    assert not np.array_equal(one, other)


def test_what_comes_first_is_a_feature() -> None:
    # One token: itself, and that it comes first.
    assert NgramCounts.of(arrays([[5]])).counts.nnz == 2


def test_an_empty_text_has_no_feature_and_a_row() -> None:
    counts = NgramCounts.of(arrays([[], [5]]))

    assert counts.tf_idf(counts.inverse_frequency()).shape == (2, N_FEATURES)
    assert counts.counts[[0]].nnz == 0


def test_a_rare_token_weighs_more_than_a_common_one() -> None:
    frequency = NgramCounts.of(arrays([[1, 2], [1, 3], [1, 4]])).inverse_frequency()

    assert frequency[1] == 1 + np.log(4 / 4)
    assert frequency[2] == 1 + np.log(4 / 2)


@settings(deadline=None)
@given(TEXTS)
def test_rows_without_a_feature_twice_have_a_norm_of_one(texts: list[list[int]]) -> None:
    counts = NgramCounts.of(arrays([list(dict.fromkeys(text)) for text in texts if text] or [[1]]))
    rows = counts.tf_idf(np.ones(N_FEATURES)).toarray()

    # Pairs are hashed, and two of a text may fall together, which these short ones all but never have.
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=0.1)


def test_rows_of_a_mask_are_those_of_the_texts() -> None:
    texts = arrays([[1, 2], [3], [1, 1, 4]])
    some = NgramCounts.of(texts)[np.array([True, False, True])]

    assert (some.counts != NgramCounts.of([texts[0], texts[2]]).counts).nnz == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_graph_computes_the_same(run_graph: Callable[..., list[np.ndarray]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, idf = rng.normal(size=(N_FEATURES, 2)).astype(np.float32), 1 + rng.random(N_FEATURES)
    # Short and long ones with tokens that come back, and one without tokens.
    tokens = [rng.integers(0, 40_000, n) % rng.integers(1, 40_000) for n in rng.integers(1, 60, size=20)]
    tokens += [rng.integers(0, 32_000, 3000), np.empty(0, np.int64)]

    def build(graph: Graph, x: InputNames) -> list[str]:
        zero = graph.reduce_sum(x.features, axis=1)
        return [add_to_graph(graph, x, weight, idf), zero]

    got = run_graph(build, Inputs(np.zeros((len(tokens), 1), np.float32), tokens))[0]
    np.testing.assert_allclose(got, NgramCounts.of(tokens).tf_idf(idf) @ weight, atol=1e-5)


@pytest.mark.parametrize("n_ids", [200, 40_000])
def test_a_graph_of_features_computes_the_same(n_ids: int) -> None:
    rng = np.random.default_rng(0)
    weight, idf = rng.normal(size=(N_FEATURES, 2)).astype(np.float32), 1 + rng.random(N_FEATURES)
    tokens = [rng.integers(0, n_ids, n) for n in (1, 7, 300, 0)]
    graph = Graph()
    graph.feature_inputs()
    # From the encoder's table it knows the vocabulary.
    graph.mean_of_rows(np.zeros((n_ids, 4)), "input_ids", "token_weights")
    names = InputNames("", "input_ids", "token_weights")
    graph.output(add_to_graph(graph, names, weight, idf), "y", ["n", 2])
    session = onnxruntime.InferenceSession(graph.model().SerializeToString())

    got = session.run(None, dict(zip(FEATURE_INPUTS, feature_rows(tokens, [1] * len(tokens)), strict=True)))[0]
    np.testing.assert_allclose(got, NgramCounts.of(tokens).tf_idf(idf) @ weight, atol=1e-5)


def test_a_graph_counts_as_far_as_any_text_goes(run_graph: Callable[..., list[np.ndarray]]) -> None:
    # 8,192 bytes of an answer are at most as many tokens.
    tokens = [np.zeros(8193, np.int64), np.arange(8193) % 3, np.empty(0, np.int64)]
    weight, idf = np.ones((N_FEATURES, 1), np.float32), np.ones(N_FEATURES)

    def build(graph: Graph, x: InputNames) -> list[str]:
        return [add_to_graph(graph, x, weight, idf), graph.reduce_sum(x.features, axis=1)]

    got = run_graph(build, Inputs(np.zeros((3, 1), np.float32), tokens))[0]
    np.testing.assert_allclose(got, NgramCounts.of(tokens).tf_idf(idf) @ weight, rtol=1e-4, atol=1e-5)
