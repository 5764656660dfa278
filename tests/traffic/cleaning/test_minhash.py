"""MinHash: shingles against sets, signatures against exact similarities, bands against their promise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.traffic.cleaning.minhash import N_SLOTS, n_band_rows, shingles, signatures, similar_pairs

WORDS = [f"word{i}" for i in range(2000)]


def shingle_set(text: str) -> set[str]:
    padded = text.ljust(5)
    return {padded[i : i + 5] for i in range(len(padded) - 4)}


def jaccard(left: str, right: str) -> float:
    a, b = shingle_set(left), shingle_set(right)
    return len(a & b) / len(a | b)


def sentence(rng: np.random.Generator, n_words: int = 60) -> list[str]:
    return rng.choice(WORDS, n_words).tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_shingles_are_those_of_each_text_alone(texts: list[str]) -> None:
    hashes, starts = shingles(texts)

    assert [len(set(hashes[a:b].tolist())) for a, b in pairwise(starts)] == [len(shingle_set(text)) for text in texts]
    assert all(
        shingles([text])[0].tolist() == hashes[starts[i] : starts[i + 1]].tolist() for i, text in enumerate(texts)
    )


def test_equal_slots_estimate_the_jaccard_similarity() -> None:
    rng = np.random.default_rng(0)
    errors = []
    for share in np.linspace(0.02, 0.5, 200):
        words = sentence(rng)
        changed = [word if rng.random() > share else f"x{word}" for word in words]
        left, right = " ".join(words), " ".join(changed)
        signed = signatures([left, right])
        errors.append((signed[0] == signed[1]).mean() - jaccard(left, right))

    # A mean of 200 draws with a standard error of at most 0.044 each, to four standard errors.
    assert abs(np.mean(errors)) < 4 * 0.044 / 200**0.5
    assert np.std(errors) < 0.044 * 1.2


def test_signature_depends_on_the_text_and_the_seed_alone() -> None:
    texts = ["one short text", "another one", "a third"]
    alone = np.concatenate([signatures([text]) for text in texts])

    assert (signatures(texts) == alone).all()
    assert (signatures(texts, random_state=1) != alone).any()


def test_shared_boilerplate_does_not_count() -> None:
    rng = np.random.default_rng(0)
    system = " ".join(sentence(rng, 200))
    texts = [f"{system} {' '.join(sentence(rng, 20))}" for _ in range(200)]

    assert jaccard(texts[0], texts[1]) > 0.7
    signed = signatures(texts)
    assert (signed[0] == signed[1]).mean() < 0.3


def test_text_of_boilerplate_alone_has_no_signature() -> None:
    texts = sorted([f"always the same {i}" for i in range(300)] + ["always the same"])

    assert not signatures(texts)[texts.index("always the same")].any()


@pytest.mark.parametrize(("threshold", "rows"), [(0.5, 2), (0.8, 5), (1.0, N_SLOTS)])
def test_bands_hold_as_many_slots_as_the_threshold_allows(threshold: float, rows: int) -> None:
    assert n_band_rows(threshold) == rows


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
def test_pairs_at_the_threshold_are_found(threshold: float) -> None:
    rng = np.random.default_rng(0)
    left = rng.integers(1, 2**32, size=(2000, N_SLOTS), dtype=np.uint32)
    n_equal = int(np.ceil(threshold * N_SLOTS))
    equal = rng.permuted(np.tile(np.arange(N_SLOTS) < n_equal, (2000, 1)), axis=1)
    right = np.where(equal, left, rng.integers(1, 2**32, size=left.shape, dtype=np.uint32))
    pairs = {
        pair
        for a, b in similar_pairs(np.concatenate([left, right]), threshold=threshold)
        for pair in zip(a.tolist(), b.tolist(), strict=True)
    }

    # 99.9 % are promised: of 2,000 at most 2 missed on average, 8 at four standard errors.
    assert len(pairs & {(i, 2000 + i) for i in range(2000)}) >= 1992
    assert len(pairs) <= 2000


def test_one_bucket_of_many_unlike_rows_ends() -> None:
    rng = np.random.default_rng(0)
    signed = rng.integers(1, 2**32, size=(3000, N_SLOTS), dtype=np.uint32)
    signed[:, :5] = 7

    assert sum(len(a) for a, _ in similar_pairs(signed, threshold=0.8)) == 0
