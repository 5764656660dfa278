"""Pairs of neighbouring tokens, hashed to a fixed number of ids: the same in training and in a graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router_ml.learning.graph import Graph

__all__ = ["N_PAIRS", "add_pairs_to_graph", "pair_ids"]

N_PAIRS = 65_521
"""Pairs are hashed to so many ids; a prime."""
_MULTIPLIER = 1_000_003
_START = 32_768
"""What goes before the first token counts as a token of its own."""


def pair_ids(tokens: NDArray[np.integer]) -> NDArray[np.int64]:
    """Ids in [0, N_PAIRS) of each token of a text with the one before it; shape [length].

    Examples
    --------
    >>> pair_ids(np.array([7, 8, 7])).tolist()
    [63396, 54803, 6469]
    """
    ids = tokens.astype(np.int64)
    before = np.concatenate([[_START], ids[:-1]])[: len(ids)]
    return np.asarray((before * _MULTIPLIER + ids) % N_PAIRS)


def add_pairs_to_graph(graph: Graph, input_ids: str) -> str:
    """:func:`pair_ids` of each row of ``input_ids`` [n, L], in a graph; the name of the result [n, L]."""
    start = graph.constant(np.int64(_START))
    shifted = graph.node("Pad", input_ids, graph.constant(np.array([0, 1, 0, 0], dtype=np.int64)), start)
    ends = (np.array([v], dtype=np.int64) for v in (0, -1, 1))
    before = graph.node("Slice", shifted, *(graph.constant(v) for v in ends))
    pair = graph.node("Add", graph.node("Mul", before, graph.constant(np.int64(_MULTIPLIER))), input_ids)
    return graph.node("Mod", pair, graph.constant(np.int64(N_PAIRS)))
