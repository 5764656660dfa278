"""Tokens and pairs of neighbouring tokens as sparse features: TF-IDF, the same in training and in a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from router_ml.core.features import N_PAIRS, pair_ids
from router_ml.graph.builder import Graph
from router_ml.learning.inputs import InputNames

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["N_FEATURES", "NgramCounts", "add_to_graph"]

_N_TOKENS = 32_768
"""Features of single tokens; token ids beyond share them (most vocabularies of small encoders have fewer)."""
_TRACE = 1e-15
"""In the squared norm, which of a token is more than 1: nothing. A text without tokens is divided by it."""

N_FEATURES = _N_TOKENS + N_PAIRS
"""Of single tokens, then of pairs (`router_ml.core.features`)."""


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
    table = np.column_stack([weight * idf[:, None], idf**2])
    both = graph.mean_of_words(table[_N_TOKENS:], x.input_ids, x.token_weights, table[:_N_TOKENS])
    sums, square = graph.split(both, weight.shape[1], 1)
    # Weights are one over the number of tokens: so are the sums, and the sum of their squares is that again.
    share = graph.share_of_token(x.input_ids, x.token_weights)
    # Of a token the square is more than 1, so that what is added is nothing; a text without tokens is divided by it.
    square = graph.affine(square, np.ones(1), np.full(1, _TRACE))
    return graph.node("Div", sums, graph.node("Sqrt", graph.node("Mul", square, share)))
