"""One prompt's outputs are the same by each way, from each thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from router_ml.core.inference import FEATURE_INPUTS, OUTPUTS, Inference, batches
from router_ml.graph.builder import Graph

N_TIERS = 3
LONG = 5000
"""Longer than what is kept ready for short prompts."""


@pytest.fixture(scope="module", params=["features", "attention_mask"])
def inference(request: pytest.FixtureRequest) -> Inference:
    """Outputs that hold the mean token id and the length in characters."""
    graph = Graph()
    if request.param == "features":
        inputs = FEATURE_INPUTS
        graph.feature_inputs()
        mean = graph.mean_of_rows(np.arange(1000.0)[:, None], "input_ids", "token_weights")
    else:
        inputs = ("input_ids", "attention_mask", "log_n_chars")
        graph.input("input_ids", np.int64, ["n", "length"])
        graph.input("log_n_chars", np.float32, ["n", 1])
        graph.input("attention_mask", np.int64, ["n", "length"])
        mask = graph.cast("attention_mask", np.float32)
        total = graph.node("Max", graph.reduce_sum(mask, 1, keepdims=True), graph.floats(1))
        weighted = graph.node("Mul", graph.cast("input_ids", np.float32), graph.node("Div", mask, total))
        mean = graph.reduce_sum(weighted, 1, keepdims=True)
    both = graph.node("Concat", mean, "log_n_chars", axis=1)
    for i, name in enumerate(OUTPUTS[:3]):
        graph.output(graph.linear(both, np.ones((2, N_TIERS)) * (i + 1), np.arange(N_TIERS)), name, ["n", N_TIERS])
    graph.output(graph.reduce_sum(both, 1), "novelty", ["n"])
    return Inference(graph.model().SerializeToString(), inputs, pad_id=0)


def prompts(n: int) -> list[tuple[NDArray[np.int64], int, str]]:
    rng = np.random.default_rng(0)
    lengths = [0, 1, LONG, *rng.integers(1, 40, n)]
    return [(rng.integers(0, 1000, k), int(rng.integers(1, 3 * LONG)), "") for k in lengths]


def flat(outputs: list[NDArray[np.float32]]) -> list[float]:
    return np.concatenate([o.ravel() for o in outputs]).tolist()


def test_a_row_is_what_arrays_say(inference: Inference) -> None:
    for prompt in prompts(20) * 2:
        assert inference.run_row(*prompt) == pytest.approx(flat(inference.run_one(*prompt)), rel=1e-6)


def test_a_row_is_the_callers_to_keep(inference: Inference) -> None:
    one, other = prompts(2)[-2:]
    first = inference.run_row(*one)
    copy = list(first)
    inference.run_row(*other)

    assert first == copy


def test_a_batch_says_what_single_runs_say(inference: Inference) -> None:
    some = prompts(20)
    together = inference.run(*map(list, zip(*some, strict=True)))
    singly = [inference.run_one(*p) for p in some]

    for got, expected in zip(together, map(np.concatenate, zip(*singly, strict=True)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_threads_share_it(inference: Inference) -> None:
    some = prompts(60) * 20
    expected = [flat(inference.run_one(*p)) for p in some]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda p: inference.run_row(*p), some)) == expected


def test_what_is_kept_ready_is_bounded(inference: Inference) -> None:
    for n in range(1, LONG, 50):
        inference.run_row(np.zeros(n, dtype=np.int64), n, "")

    assert max(inference._row._rows, default=0) <= 512


def test_batches_hold_each_prompt_once_and_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(0, 3000, 500).tolist()
    parts = batches(lengths)

    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    assert all(len(p) == 1 or len(p) * max(lengths[i] for i in p) <= 2048 for p in parts)
