"""Speed as ratios, each measured in one run by turns: `make bench`. Not among the tests, since a machine may have a slow day."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from pytest_benchmark.fixture import BenchmarkFixture

from router_ml.core.artifact import read_artifact
from router_ml.core.router import Router
from router_ml.core.stretches import prompt_of
from router_ml.core.text import bounded
from router_ml.traffic.sample import sample_ladder, simulate
from router_ml.workflow import FitOptions, fit

TEXT = " ".join(simulate(300, random_state=1)["prompt"].unique(maintain_order=True))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    simulate(400, random_state=0).write_parquet(folder / "traffic.parquet")
    options = FitOptions(learner="logistic", n_folds=2)
    fit([folder / "traffic.parquet"], folder / "r.onnx", ladder=sample_ladder(), options=options, track=False)
    return folder / "r.onnx"


@pytest.fixture(scope="module")
def router(artifact: Path) -> Router:
    return Router.load(artifact)


def ratio(ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 1500) -> float:
    """Median time of ours over median time of theirs, by turns."""
    times = np.empty((rounds, 2))
    for _ in range(50):
        ours(), theirs()
    for i in range(rounds):
        for k, call in enumerate((ours, theirs)):
            start = time.perf_counter_ns()
            call()
            times[i, k] = time.perf_counter_ns() - start
    mine, other = np.median(times, axis=0)
    return float(mine / other)


@pytest.mark.parametrize("tokens", [16, 64, 256, 1000])
def test_a_decision(router: Router, benchmark: BenchmarkFixture, tokens: int) -> None:
    prompt = prompt_of(TEXT, tokens)
    benchmark.extra_info["tokens"] = tokens
    benchmark(router.route, prompt)


@pytest.mark.parametrize(("tokens", "most"), [(256, 1.0), (1000, 0.6)])
def test_a_decision_against_the_tokenizer_alone(router: Router, artifact: Path, tokens: int, most: float) -> None:
    tokenizer = tokenizers.Tokenizer.from_str(read_artifact(artifact).tokenizer)
    prompt = prompt_of(TEXT, tokens)

    assert ratio(lambda: router.route(prompt), lambda: tokenizer.encode(prompt)) < most


@pytest.mark.parametrize("tokens", [16, 256, 1000])
def test_a_decision_against_its_run_of_the_graph(router: Router, tokens: int) -> None:
    prompt = prompt_of(TEXT, tokens)
    ids = router.tokenizer.encode(bounded(prompt).text)

    assert ratio(lambda: router.route(prompt), lambda: router.inference.run_row(ids, len(prompt), prompt)) < 2.5


def test_one_prompt_as_numbers_against_arrays(router: Router) -> None:
    ids = router.tokenizer.encode(prompt_of(TEXT, 16))

    assert ratio(lambda: router.inference.run_row(ids, 64, ""), lambda: router.inference.run_one(ids, 64, "")) < 1.0


@pytest.mark.parametrize("text", ["x" * 4096, " ".join(f"{i:x}z" for i in range(850)), "鑫" * 1350])
def test_words_never_seen_against_the_tokenizer_alone(router: Router, artifact: Path, text: str) -> None:
    tokenizer = tokenizers.Tokenizer.from_str(read_artifact(artifact).tokenizer)

    def from_nothing() -> None:
        router.tokenizer._words = {}
        router.tokenizer.encode(text)

    assert ratio(from_nothing, lambda: tokenizer.encode(text), rounds=30) < 1.0


def test_a_batch_against_single_calls(router: Router) -> None:
    prompts = [prompt_of(TEXT[i:], 64) for i in range(500)]

    def singly() -> None:
        for prompt in prompts:
            router.route(prompt)

    assert ratio(lambda: router.route_batch(prompts), singly, rounds=15) < 1.0
