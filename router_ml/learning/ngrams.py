"""Tokens and pairs of neighbouring tokens as sparse features: TF-IDF, the same in training and in a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from router_ml.learning.graph import Graph
from router_ml.learning.inputs import InputNames

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["N_FEATURES", "NgramCounts", "add_to_graph"]

_N_TOKENS = 32_768
"""Features of single tokens; token ids beyond share them (most vocabularies of small encoders have fewer)."""
_N_PAIRS = 65_521
"""Features that pairs of tokens are hashed to, a prime; what goes before the first token counts as one of its own."""
_MULTIPLIER = 1_000_003
_N_BUCKETS = 16_384
"""Features are counted by their remainder, so that a graph needs no more room than this to count them."""

N_FEATURES = _N_TOKENS + _N_PAIRS


@dataclass(frozen=True, slots=True)
class NgramCounts:
    """How often the tokens and pairs of n texts occur; sparse [n, N_FEATURES] each.

    Attributes
    ----------
    sublinear : csr_matrix
        ``1 + log(count)``.
    square : csr_matrix
        Its square. (Of features that share a bucket in a text, each has its share of both.)
    """

    sublinear: csr_matrix
    square: csr_matrix

    @classmethod
    def of(cls, tokens: Sequence[NDArray[np.integer]]) -> NgramCounts:
        """Count."""
        from scipy.sparse import csr_matrix

        lengths = np.array([len(t) for t in tokens], dtype=np.int64)
        flat = np.concatenate([np.empty(0, np.int64), *tokens]).astype(np.int64)
        first = (np.cumsum(lengths) - lengths)[lengths > 0]
        before = np.roll(flat, 1)
        before[first] = _N_TOKENS
        feature = np.concatenate([flat % _N_TOKENS, _N_TOKENS + (before * _MULTIPLIER + flat) % _N_PAIRS])
        row = np.tile(np.repeat(np.arange(len(tokens)), lengths), 2)
        _, inverse, counts = np.unique(row * _N_BUCKETS + feature % _N_BUCKETS, return_inverse=True, return_counts=True)
        count = counts[inverse].astype(np.float64)
        sublinear = 1 + np.log(count)
        shape = (len(tokens), N_FEATURES)
        # Each occurrence has its share; the matrix adds up those of a feature.
        return cls(*(csr_matrix((v / count, (row, feature)), shape=shape) for v in (sublinear, sublinear**2)))

    def __getitem__(self, rows: NDArray[np.bool_]) -> NgramCounts:
        """Of the given texts only."""
        return NgramCounts(self.sublinear[rows], self.square[rows])

    def inverse_frequency(self) -> NDArray[np.float64]:
        """Smoothed inverse document frequency of each feature, ``1 + log((1 + n) / (1 + df))``; shape [N_FEATURES].

        References
        ----------
        Manning, Raghavan, Schuetze: Introduction to Information Retrieval (2008), section 6.4.
        """
        seen_in = np.bincount(self.sublinear.indices, minlength=N_FEATURES)
        frequency: NDArray[np.float64] = 1 + np.log((1 + self.sublinear.shape[0]) / (1 + seen_in))
        return frequency

    def tf_idf(self, idf: NDArray[np.float64]) -> csr_matrix:
        """Sublinear counts times `idf`, rows scaled to a norm of 1; the row of an empty text stays zero."""
        from scipy.sparse import diags

        norm = np.sqrt(self.square @ idf**2)
        return (diags(1 / np.maximum(norm, 1e-9)) @ self.sublinear @ diags(idf)).tocsr()


def add_to_graph(graph: Graph, x: InputNames, weight: NDArray[np.floating], idf: NDArray[np.float64]) -> str:
    """``NgramCounts.of(tokens).tf_idf(idf) @ weight`` for weight [N_FEATURES, k], in a graph; the name of the result [n, k]."""
    second = graph.constant(np.array([1], dtype=np.int64))
    is_token = graph.node("Sign", graph.node("Squeeze", x.token_weights, second))
    first = graph.constant(np.int64(_N_TOKENS))
    shifted = graph.node("Pad", x.input_ids, graph.constant(np.array([0, 1, 0, 0], dtype=np.int64)), first)
    ends = (np.array([v], dtype=np.int64) for v in (0, -1, 1))
    before = graph.node("Slice", shifted, *(graph.constant(v) for v in ends))
    pair = graph.node("Add", graph.node("Mul", before, graph.constant(np.int64(_MULTIPLIER))), x.input_ids)
    pair = graph.node("Add", graph.node("Mod", pair, graph.constant(np.int64(_N_PAIRS))), first)
    single = graph.node("Mod", x.input_ids, first)
    feature = graph.node("Concat", single, pair, axis=1)
    seen = graph.node("Concat", is_token, is_token, axis=1)

    size = graph.node(
        "Concat", graph.node("Shape", x.input_ids, end=1), graph.constant(np.array([_N_BUCKETS], np.int64)), axis=0
    )
    bucket = graph.node("Mod", feature, graph.constant(np.int64(_N_BUCKETS)))
    table = graph.node("ScatterElements", graph.node("ConstantOfShape", size), bucket, seen, axis=1, reduction="add")
    # At least 1, for what fills up a row: it weighs nothing, but its logarithm has to be a number.
    count = graph.node("Max", graph.node("GatherElements", table, bucket, axis=1), graph.floats(1))
    sublinear = graph.node("Add", graph.node("Log", count), graph.floats(1))
    share = graph.node("Div", graph.node("Mul", sublinear, seen), count)

    rows = graph.node("Gather", graph.floats(weight * idf[:, None]), feature, axis=0)
    total = graph.node("Squeeze", graph.node("MatMul", graph.node("Unsqueeze", share, second), rows), second)
    square = graph.node("Gather", graph.floats(idf**2), feature, axis=0)
    norm = graph.reduce_sum(graph.node("Mul", graph.node("Mul", share, sublinear), square), axis=1, keepdims=True)
    return graph.node("Div", total, graph.node("Max", graph.node("Sqrt", norm), graph.floats(1e-9)))
