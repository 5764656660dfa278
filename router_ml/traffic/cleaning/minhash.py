"""MinHash with locality-sensitive hashing: which texts share most of their shingles, without comparing each to each.

Notes
-----
Signatures are ``rensa``'s (R-MinHash, in Rust, MIT): 2,000 prompts of 700 characters took it 0.03 s, and ``datasketch``
2.7 s. Only :func:`signatures` knows it.

References
----------
Broder, "On the resemblance and containment of documents", 1997. Leskovec, Rajaraman and Ullman, "Mining of Massive
Datasets", chapter 3: shingling, MinHash and banding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml.errors import MissingExtraError

__all__ = ["N_SLOTS", "n_band_rows", "shingles", "signatures", "similar_pairs"]

N_SLOTS = 128
"""Slots of a signature: the similarity that it estimates has a standard error of at most 0.044."""

_CHARS = 5
_RECALL = 0.999
_TEXTS_AT_ONCE = 2000
_PAIRS_AT_ONCE = 200_000
_ROUNDS = 32

# Boilerplate, such as a system prompt that all conversations begin with, says nothing of whether two are the same.
_COMMON_SHARE = 0.05
_COMMON_TEXTS = 50
_COMMON_SAMPLE = 5000
_LOW_BITS = 0xFFFF


def shingles(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """Hashes of each text's runs of five characters, one after the other, and where each text's begin; shape [n + 1]."""
    padded = [text.ljust(_CHARS) for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    ends = np.cumsum([len(text) for text in padded])
    factors = np.random.default_rng(0).integers(2**63, dtype=np.uint64, size=_CHARS) * 2 + 1
    n = len(codes) - _CHARS + 1
    hashes = np.zeros(max(n, 0), dtype=np.uint64)
    for i, factor in enumerate(factors):
        hashes += codes[i : i + n] * factor
    # The finaliser of MurmurHash3, since sums of products are not spread evenly.
    for shift, factor in ((33, 0xFF51AFD7ED558CCD), (33, 0xC4CEB9FE1A85EC53)):
        hashes = (hashes ^ (hashes >> np.uint64(shift))) * np.uint64(factor)
    hashes ^= hashes >> np.uint64(33)
    within = np.ones(len(hashes), dtype=bool)
    across = ends[:-1, None] + np.arange(1 - _CHARS, 0)
    within[across.ravel()] = False
    starts = np.concatenate([[0], ends - (_CHARS - 1) * np.arange(1, len(texts) + 1)])
    return hashes[within], starts


def signatures(texts: Sequence[str], *, random_state: int = 0) -> NDArray[np.uint32]:
    """Sign each text by its shingles, those left out that are in more than 5 % of the texts, and in more than 50.

    Parameters
    ----------
    texts : sequence of str
        Distinct texts. What is common is read off 5,000 of them, chosen at random.
    random_state : int
        Seed of the sample and of the hash functions.

    Returns
    -------
    array [n, N_SLOTS]
        Two texts' share of equal slots estimates the Jaccard similarity of their shingles. All zero where a text has no
        shingle of its own.

    Raises
    ------
    MissingExtraError
        If ``rensa`` isn't installed.
    """
    try:
        from rensa import RMinHash
    except ImportError as exc:
        raise MissingExtraError("train", "Finding near duplicates") from exc
    common = _common_shingles(texts, random_state)
    signed = np.zeros((len(texts), N_SLOTS), dtype=np.uint32)
    for first in range(0, len(texts), _TEXTS_AT_ONCE):
        hashes, starts = shingles(texts[first : first + _TEXTS_AT_ONCE])
        own = ~_is_in(hashes, common)
        n_own = np.concatenate([[0], np.cumsum(own)])[starts]
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            hashes[own], n_own.astype(np.uint64), num_perm=N_SLOTS, seed=random_state
        )
        rows = np.array(matrix.to_rows(), dtype=np.uint32)
        rows[np.diff(n_own) == 0] = 0
        signed[first : first + len(rows)] = rows
    return signed


def _common_shingles(texts: Sequence[str], random_state: int) -> NDArray[np.uint64]:
    rng = np.random.default_rng(random_state)
    chosen = rng.permutation(len(texts))[:_COMMON_SAMPLE]
    least = max(_COMMON_TEXTS, int(_COMMON_SHARE * len(chosen)))
    if len(chosen) <= least:
        return np.empty(0, dtype=np.uint64)
    hashes, starts = shingles([texts[i] for i in chosen])
    once = np.concatenate([np.unique(hashes[a:b]) for a, b in pairwise(starts)])
    values, n_texts = np.unique(once, return_counts=True)
    return np.asarray(values[n_texts > least])


def _is_in(values: NDArray[np.uint64], ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    found = np.zeros(len(values), dtype=bool)
    if not len(ordered):
        return found
    # Most values differ from all in their low bits already, which takes a tenth of a search's time to see.
    low = np.zeros(_LOW_BITS + 1, dtype=bool)
    low[ordered & _LOW_BITS] = True
    rows = np.flatnonzero(low[values & _LOW_BITS])
    place = np.minimum(np.searchsorted(ordered, values[rows]), len(ordered) - 1)
    found[rows] = ordered[place] == values[rows]
    return found


def n_band_rows(threshold: float) -> int:
    """The most slots in a band with which pairs at the threshold still share a band in 99.9 % of cases."""
    rows = [r for r in range(1, N_SLOTS + 1) if 1 - (1 - threshold**r) ** (N_SLOTS // r) >= _RECALL]
    return max(rows, default=1)


def similar_pairs(
    signed: NDArray[np.uint32], *, threshold: float
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Pairs of rows whose estimated similarity reaches the threshold, as far as it takes to join those that belong together.

    Each band puts the rows that agree on it into a bucket; there all are compared with the first, those that are like it
    leave, and so on with the others, for at most 32 rounds.
    """
    filled = np.flatnonzero(signed.any(axis=1))
    n_rows = n_band_rows(threshold)
    for start in range(0, N_SLOTS - n_rows + 1, n_rows):
        band = np.ascontiguousarray(signed[filled, start : start + n_rows])
        _, bucket = np.unique(band.view(np.dtype((np.void, band.itemsize * n_rows))).ravel(), return_inverse=True)
        members = pl.DataFrame({"bucket": bucket, "row": filled})
        for _ in range(_ROUNDS):
            members = (
                members.filter(pl.len().over("bucket") > 1)
                .with_columns(leader=pl.col("row").min().over("bucket"))
                .filter(pl.col("row") != pl.col("leader"))
            )
            if members.is_empty():
                break
            leaders, rows = members["leader"].to_numpy(), members["row"].to_numpy()
            alike = _similarity(signed, leaders, rows) >= threshold
            yield leaders[alike], rows[alike]
            members = members.filter(pl.Series(~alike))


def _similarity(signed: NDArray[np.uint32], left: NDArray[np.intp], right: NDArray[np.intp]) -> NDArray[np.float64]:
    shares = [
        (signed[left[i : i + _PAIRS_AT_ONCE]] == signed[right[i : i + _PAIRS_AT_ONCE]]).mean(axis=1)
        for i in range(0, len(left), _PAIRS_AT_ONCE)
    ]
    return np.concatenate(shares) if shares else np.empty(0)
