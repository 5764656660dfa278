"""Tokens and pairs of neighbouring tokens as sparse features: TF-IDF, the same in training and in a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from router_ml.learning.graph import Graph
from router_ml.learning.inputs import InputNames
from router_ml.learning.pairs import N_PAIRS, add_pairs_to_graph, pair_ids

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["N_FEATURES", "NgramCounts", "add_to_graph", "add_wide_to_graph"]

_N_TOKENS = 32_768
"""Features of single tokens; token ids beyond share them (most vocabularies of small encoders have fewer)."""
_TRACE = 1e-20
"""In the squared norm, which of a token is more than 1: nothing. A text without tokens is divided by it."""

N_FEATURES = _N_TOKENS + N_PAIRS
"""Of single tokens, then of pairs (`router_ml.learning.pairs`)."""


@dataclass(frozen=True, slots=True)
class NgramCounts:
    """How often the tokens and pairs of n texts occur.

    Attributes
    ----------
    counts : csr_matrix [n, N_FEATURES]
    """

    counts: csr_matrix

    @classmethod
    def of(cls, tokens: Sequence[NDArray[np.integer]]) -> NgramCounts:
        """Count."""
        from scipy.sparse import csr_matrix

        lengths = np.array([len(t) for t in tokens], dtype=np.int64)
        nothing = np.empty(0, dtype=np.int64)
        single = np.concatenate([nothing, *tokens]).astype(np.int64) % _N_TOKENS
        pair = np.concatenate([nothing, *map(pair_ids, tokens)])
        feature = np.concatenate([single, _N_TOKENS + pair])
        row = np.tile(np.repeat(np.arange(len(tokens)), lengths), 2)
        # Occurrences of the same feature are added up.
        return cls(csr_matrix((np.ones(len(row)), (row, feature)), shape=(len(tokens), N_FEATURES)))

    def __getitem__(self, rows: NDArray[np.bool_]) -> NgramCounts:
        """Of the given texts only."""
        return NgramCounts(self.counts[rows])

    def inverse_frequency(self) -> NDArray[np.float64]:
        """Smoothed inverse document frequency of each feature, ``1 + log((1 + n) / (1 + df))``; shape [N_FEATURES].

        References
        ----------
        Manning, Raghavan, Schuetze: Introduction to Information Retrieval (2008), section 6.4.
        """
        seen_in = np.bincount(self.counts.indices, minlength=N_FEATURES)
        frequency: NDArray[np.float64] = 1 + np.log((1 + self.counts.shape[0]) / (1 + seen_in))
        return frequency

    def tf_idf(self, idf: NDArray[np.float64]) -> csr_matrix:
        """Counts times `idf`, over the root of the sum of `idf` squared of all occurrences; the row of an empty text stays zero.

        Each occurrence counts as another feature would: a graph then need not find those of the same.
        """
        from scipy.sparse import diags

        norm = np.sqrt(self.counts @ idf**2)
        return (diags(1 / np.maximum(norm, 1e-9)) @ self.counts @ diags(idf)).tocsr()


def add_to_graph(graph: Graph, x: InputNames, weight: NDArray[np.floating], idf: NDArray[np.float64]) -> str:
    """``NgramCounts.of(tokens).tf_idf(idf) @ weight`` for weight [N_FEATURES, k], in a graph; the name of the result [n, k]."""
    n_columns = weight.shape[1]
    return graph.split(add_wide_to_graph(graph, x, weight, idf), n_columns, 1)[0]


def add_wide_to_graph(graph: Graph, x: InputNames, weight: NDArray[np.floating], idf: NDArray[np.float64]) -> str:
    """:func:`add_to_graph`, and a column of no use behind [n, k + 1]: a product that follows can pass over it at no cost."""
    token_bits = graph.constant(np.int64(_N_TOKENS - 1))  # a remainder by a power of two is the last bits
    n_ids = graph.n_ids(x.input_ids)
    fits = n_ids is not None and n_ids <= _N_TOKENS
    single = x.input_ids if fits else graph.node("BitwiseAnd", x.input_ids, token_bits)
    pair = graph.node("Add", add_pairs_to_graph(graph, x.input_ids), graph.constant(np.int64(_N_TOKENS)))
    feature = graph.node("Concat", single, pair, axis=1)
    # Weights are one over the number of tokens: so are the sums, and the sum of their squares is that again.
    weights = graph.node("Concat", x.token_weights, x.token_weights, axis=2)
    rows = graph.node("Gather", graph.floats(np.column_stack([weight * idf[:, None], idf**2])), feature)
    second = graph.constant(np.array([1], dtype=np.int64))
    sums = graph.node("Squeeze", graph.node("MatMul", weights, rows), second)
    square = graph.node("Gather", sums, graph.constant(np.array([weight.shape[1]], dtype=np.int64)), axis=1)
    share = graph.node("ReduceSumSquare", x.token_weights, graph.constant(np.array([2], dtype=np.int64)), keepdims=0)
    norm = graph.node("Sqrt", graph.node("Max", graph.node("Mul", square, share), graph.floats(_TRACE)))
    return graph.node("Div", sums, norm)
