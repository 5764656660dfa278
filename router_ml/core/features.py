"""What the graph of a static encoder's artifact is given of a text: ids of its features, and what each of them weighs.

A text's features are its tokens, its pairs of neighbouring tokens, and three of the whole text. The graph has a row of numbers for
each feature, and adds them up, times their weights: of a linear model that is nearly all there is to do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FIRST_TOKEN",
    "N_PAIRS",
    "N_WHOLE",
    "PAIR_MULTIPLIER",
    "PAIR_START",
    "FeatureRow",
    "feature_rows",
    "pair_ids",
]

N_PAIRS = 65_521
"""Pairs are hashed to so many ids; a prime."""
PAIR_MULTIPLIER = 1_000_003
PAIR_START = 32_768
"""What goes before the first token counts as a token of its own."""
FIRST_TOKEN = N_PAIRS
"""The features: pairs have the ids below, tokens those from here on. A multiple of `N_PAIRS`, so that pairs can be hashed from either."""
N_WHOLE = 3
"""Features of the whole text, at the end of each table (-3, -2, -1); they weigh one over the number of tokens, the natural logarithm of
1 + the length in characters, and 1."""
_WHOLE = np.arange(-N_WHOLE, 0)


def pair_ids(tokens: NDArray[np.integer]) -> NDArray[np.int64]:
    """Ids in [0, N_PAIRS) of each token of a text with the one before it; shape [length].

    Examples
    --------
    >>> pair_ids(np.array([7, 8, 7])).tolist()
    [63396, 54803, 6469]
    """
    ids = tokens.astype(np.int64)
    before = np.concatenate([[PAIR_START], ids[:-1]])[: len(ids)]
    return np.asarray((before * PAIR_MULTIPLIER + ids) % N_PAIRS)


class FeatureRow:
    """The features of one text of so many tokens, in arrays that are made once: making them takes three times as long as filling them.

    Attributes
    ----------
    ids : array [1, 2 * n_tokens + 3] of int64
        Tokens, pairs, and the whole text.
    weights : array [1, 1, 2 * n_tokens + 3] of float32
        A token and a pair weigh one over the number of tokens.
    """

    __slots__ = ("_before", "_length", "_pairs", "_tokens", "ids", "weights")

    def __init__(self, n_tokens: int) -> None:
        # What goes before the first token stands before the row itself, so that one view is another, moved by one.
        row = np.empty(1 + 2 * n_tokens + N_WHOLE, dtype=np.int64)
        row[0] = FIRST_TOKEN + PAIR_START
        row[1 + 2 * n_tokens :] = _WHOLE
        self._before, self._tokens = row[:n_tokens], row[1 : 1 + n_tokens]
        self._pairs = row[1 + n_tokens : 1 + 2 * n_tokens]
        self.ids = row[1:].reshape(1, -1)
        self.weights = np.full((1, 1, 2 * n_tokens + N_WHOLE), 1 / max(n_tokens, 1), dtype=np.float32)
        self.weights[..., -1] = 1
        self._length = self.weights[0, 0, -2:-1]

    def fill(self, tokens: NDArray[np.int64], n_chars: int) -> None:
        """Set the tokens' ids, as many as there are to be, and the length of the whole text in characters."""
        pairs = self._pairs
        np.add(tokens, _FIRST_TOKEN, self._tokens)
        np.multiply(self._before, _MULTIPLIER, pairs)
        np.add(pairs, self._tokens, pairs)
        np.remainder(pairs, _MODULUS, pairs)
        self._length[0] = math.log1p(n_chars)


# As arrays: a Python number would be turned into one on each call, for a quarter of the time.
_FIRST_TOKEN, _MULTIPLIER, _MODULUS = (np.array(v, dtype=np.int64) for v in (FIRST_TOKEN, PAIR_MULTIPLIER, N_PAIRS))


def feature_rows(
    tokens: Sequence[NDArray[np.integer]], n_chars: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The same of n texts, short ones filled up with what weighs nothing: ids [n, F] and weights [n, 1, F]."""
    n, lengths = len(tokens), np.array([len(t) for t in tokens])
    # A graph needs at least one position, also where no text has a token of the vocabulary.
    is_token = np.arange(max(1, lengths.max())) < lengths[:, None]
    shifted = np.full((n, is_token.shape[1] + 1), FIRST_TOKEN, dtype=np.int64)
    shifted[:, 0] += PAIR_START
    # Views of the same: in place, since a copy of a batch takes as long as its sums.
    of_tokens = shifted[:, 1:]
    of_tokens[is_token] = np.concatenate(tokens) + FIRST_TOKEN
    pairs = (shifted[:, :-1] * PAIR_MULTIPLIER + of_tokens) % N_PAIRS
    ids = np.concatenate([of_tokens, pairs, np.broadcast_to(_WHOLE, (n, N_WHOLE))], axis=1)
    share = 1 / np.maximum(lengths, 1)[:, None]
    each = is_token * share
    weights = np.concatenate([each, each, share, np.log1p(n_chars)[:, None], np.ones((n, 1))], axis=1)
    return ids, weights.astype(np.float32)[:, None, :]
