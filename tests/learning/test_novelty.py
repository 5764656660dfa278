"""Novelty: 1 on average where it was fitted, more where prompts are unlike that, and a threshold that like traffic keeps."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from tokenizers import Tokenizer

from router_ml.core.text import render
from router_ml.core.tokenize import TextTokenizer
from router_ml.graph.builder import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.novelty import Novelty

FOLDS = 5


def texts(n: int, *, vocabulary: int = 0, seed: int = 0) -> list[np.ndarray]:
    """Random walks over token ids: each token is followed by one of four, which depend on the vocabulary."""
    rng = np.random.default_rng(seed)
    after = np.random.default_rng(100 + vocabulary).integers(0, 300, (300, 4))
    walks = np.empty((n, 60), dtype=np.int32)
    walks[:, 0] = rng.integers(0, 300, n)
    for i in range(1, 60):
        walks[:, i] = after[walks[:, i - 1], rng.integers(0, 4, n)]
    return [walk[:k] for walk, k in zip(walks, rng.integers(5, 61, n), strict=True)]


def fit(tokens: list[np.ndarray]) -> Novelty:
    return Novelty.crossfit(tokens, np.arange(len(tokens)) % FOLDS)[0]


@pytest.mark.parametrize(("n", "within"), [(3000, 0.1), (40, 0.15)])
def test_mean_on_new_prompts_of_the_same_kind_is_near_one(n: int, within: float) -> None:
    assert fit(texts(n)).predict(texts(2000, seed=1)).mean() == pytest.approx(1, abs=within)


def test_same_tokens_in_another_order_are_novel() -> None:
    novelty, like, unlike = fit(texts(1000)), texts(500, seed=1), texts(500, vocabulary=1)

    assert novelty.predict(unlike).mean() > 2 * novelty.predict(like).mean()
    assert np.mean(novelty.predict(unlike) > novelty.threshold) > 0.95


@pytest.mark.parametrize("n", [20, 40, 100, 400])
def test_like_traffic_exceeds_the_threshold_seldom(n: int) -> None:
    # 3 % is the expectation over draws of the training traffic; a mean over 30 of them is near it.
    new = texts(300, seed=999)
    share = [np.mean((m := fit(texts(n, seed=seed))).predict(new) > m.threshold) for seed in range(30)]

    assert np.mean(share) <= 0.04


def test_with_too_few_prompts_nothing_is_above_the_threshold() -> None:
    novelty = fit(texts(20))

    assert novelty.predict(texts(50, vocabulary=1)).max() <= novelty.threshold * (1 + 1e-9)


def test_novelty_out_of_fold_is_that_of_a_fit_without_the_fold() -> None:
    tokens, folds = texts(200), np.arange(200) % 2
    _, held_out = Novelty.crossfit(tokens, folds)
    without = Novelty.crossfit(tokens[1::2], np.arange(100) % 2)[0].predict(tokens[::2])

    # Up to the scale, which is from other prompts.
    assert np.ptp(held_out[::2] / without) < 1e-9


def test_near_copies_in_one_fold_do_not_lower_the_threshold() -> None:
    once = texts(100)
    twice, folds = [t for t in once for _ in range(2)], np.repeat(np.arange(100) % FOLDS, 2)
    new = texts(500, seed=1)
    novelty, _ = Novelty.crossfit(twice, folds)

    assert np.mean(novelty.predict(new) > novelty.threshold) <= 0.06


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 100))
def test_novelty_is_finite_and_never_negative(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens = [rng.integers(0, 250_000, rng.integers(0, 4)).astype(np.int32) for _ in range(n)]
    novelty, held_out = Novelty.crossfit(tokens, rng.integers(0, 5, n))
    values = np.concatenate([held_out, novelty.predict(texts(3)), [novelty.threshold]])

    assert np.isfinite(values).all()
    assert values.min() >= 0


def test_without_tokens_nothing_is_novel() -> None:
    nothing = [np.empty(0, np.int64)] * 50
    novelty = fit(nothing)

    assert novelty.predict(nothing).max() == 0 <= novelty.threshold


def test_graph_gives_what_numpy_gives(run_graph: Callable[..., list[np.ndarray]]) -> None:
    novelty = fit(texts(200))
    tokens = [*texts(50, seed=1), *texts(50, vocabulary=1), np.array([249_999]), np.empty(0, np.int32)]

    def build(graph: Graph, x: InputNames) -> list[str]:
        return [novelty.to_graph(graph, x)]

    got = run_graph(build, Inputs(np.zeros((len(tokens), 3), np.float32), tokens))
    np.testing.assert_allclose(got[0], novelty.predict(tokens), rtol=1e-5)


@pytest.mark.parametrize("unlike", ["bfcl", "mbpp"])
def test_other_sets_are_novel_to_a_router_for_multiple_choice(unlike: str, real_tokens: dict[str, list]) -> None:
    novelty = fit(real_tokens["mmlu-pro-train"])
    like = novelty.predict(real_tokens["mmlu-pro-test"])
    values = np.concatenate([like, novelty.predict(real_tokens[unlike])])

    assert np.mean(like > novelty.threshold) <= 0.05
    assert roc_auc_score(np.arange(len(values)) >= len(like), values) >= 0.95


@pytest.fixture(scope="module")
def real_tokens(shared_data: Path) -> dict[str, list[np.ndarray]]:
    """Of the static encoder's tokenizer (without torch, which takes long to load); of MMLU-Pro a third of the prompts."""
    folder = Path(str(importlib.util.find_spec("wordllama").origin)).parent / "tokenizers"
    tokenizer = Tokenizer.from_file(str(folder / "l2_supercat_tokenizer_config.json"))
    tokenizer.no_truncation()
    text_tokenizer = TextTokenizer(tokenizer.to_str(), max_tokens=None, add_special_tokens=False)

    def tokens(name: str, *, every: int = 1, category: str | None = None) -> list[np.ndarray]:
        rows = pl.read_parquet(shared_data / f"{name}.parquet", columns=["prompt", "category"])
        if category is not None:
            rows = rows.filter(pl.col("category") == category)
        prompts = rows["prompt"].unique().sort().to_list()[::every]
        return text_tokenizer.encode_batch([render(p).text for p in prompts])

    return {
        "mmlu-pro-train": tokens("mmlu-pro-train", every=3),
        "mmlu-pro-test": tokens("mmlu-pro-test", every=3),
        "bfcl": tokens("bfcl-test"),
        "mbpp": tokens("routerbench-test", category="mbpp"),
    }
