"""The bench measures what it says; no test looks at how fast that is."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from router_ml.bench.latency import _PARTS, BATCHES, Bench, _Traced, bench
from router_ml.core.artifact import read_artifact
from router_ml.core.router import Router
from router_ml.datasets import sample_ladder, simulate
from router_ml.errors import InputError
from router_ml.ladder import Ladder
from router_ml.workflow import FitOptions, fit

LENGTHS = (16, 300)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of words that come once."""
    path = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    path.write_text(" ".join(f"word{i}" for i in range(20_000)))
    return path


@pytest.fixture(scope="module")
def steps() -> list[tuple[int, int]]:
    return []


@pytest.fixture(scope="module")
def measured(artifact: Path, numbered: Path, steps: list[tuple[int, int]]) -> Bench:
    def note(done: int, total: int) -> None:
        steps.append((done, total))

    return bench(artifact, prompts=numbered, lengths=LENGTHS, calls=60, threads=2, on_progress=note)


def test_each_length_is_measured_alone_and_shared(measured: Bench) -> None:
    assert [(m.tokens, m.threads) for m in measured.latencies] == [(n, t) for t in (1, 2) for n in LENGTHS]


def test_percentiles_rise(measured: Bench) -> None:
    assert all(0 < m.p50 <= m.p90 <= m.p99 <= m.p999 for m in measured.latencies)


def test_each_percentile_is_over_the_calls_asked_for(measured: Bench) -> None:
    assert [m.n_calls for m in measured.latencies] == [60] * 4


def test_words_that_no_prompt_had_before_are_new(measured: Bench) -> None:
    assert [m.new_words for m in measured.latencies] == [pytest.approx(1.0, abs=0.1)] * 2 + [None, None]


def test_no_word_of_plain_english_is_new(artifact: Path) -> None:
    (row,) = bench(artifact, lengths=(16,), calls=30, seconds=0.2).latencies
    assert row.new_words == 0


def test_parts_take_time_and_add_up_to_a_call(measured: Bench) -> None:
    for row in measured.latencies[: len(LENGTHS)]:
        parts = [getattr(row, name) for name in _PARTS]
        assert min(parts) > 0
        # Loosely, as the machine may be busy in between; the next test is about the sum itself.
        assert 0.2 * row.p50 < sum(parts) < 5 * row.p50


@pytest.mark.parametrize("n_words", [5, 100_000])
def test_parts_are_within_the_call(artifact: Path, n_words: int) -> None:
    traced = _Traced(Router(read_artifact(artifact)))
    start = time.perf_counter_ns()
    parts = traced.route("word " * n_words)
    whole = time.perf_counter_ns() - start

    assert min(parts) > 0
    assert sum(parts) <= whole


def test_calls_end_when_the_time_is_over(artifact: Path) -> None:
    rows = bench(artifact, lengths=(16,), calls=1_000_000, seconds=0.05, threads=2).latencies
    assert all(1 <= row.n_calls < 1_000_000 for row in rows)


def test_more_threads_than_calls_end(artifact: Path) -> None:
    assert bench(artifact, lengths=(16,), calls=10, threads=32, seconds=1).latencies[1].n_calls == 10


def test_each_step_is_told(measured: Bench, steps: list[tuple[int, int]]) -> None:
    total = 2 * len(LENGTHS) + len(BATCHES)
    assert steps == [(i + 1, total) for i in range(total)]


def test_lengths_that_no_tier_takes_are_left_out_and_named(tmp_path: Path) -> None:
    simulate(60, random_state=0).write_parquet(tmp_path / "few.parquet")
    small = Ladder([replace(tier, context_window=2_000) for tier in sample_ladder()])
    options = FitOptions(learner="constant", n_folds=2)
    fit([tmp_path / "few.parquet"], tmp_path / "small.onnx", ladder=small, options=options, track=False)
    found = bench(tmp_path / "small.onnx", lengths=(16, 8_000), calls=10, seconds=0.2)

    assert ([row.tokens for row in found.latencies], found.too_long) == ([16], (8_000,))
    assert "no tier takes a prompt of 8,000 tokens" in found.to_text()


def test_the_parts_are_of_one_thread(measured: Bench) -> None:
    assert [m.run is not None for m in measured.latencies] == [True, True, False, False]


def test_each_batch_size_has_a_throughput(measured: Bench) -> None:
    assert [(t.batch, t.prompts_per_s > 0) for t in measured.throughputs] == [(n, True) for n in BATCHES]


def test_the_text_has_a_line_for_each(measured: Bench) -> None:
    assert len(measured.to_text().splitlines()) == 1 + 2 * len(LENGTHS) + 2 + len(BATCHES) + 4


def test_it_is_json(measured: Bench) -> None:
    assert json.loads(json.dumps(measured.to_dict()))["machine"]["cores"]


def test_it_says_what_prompts_were_cut_from(measured: Bench, numbered: Path) -> None:
    assert f"prompts: stretches of {numbered}: " in measured.to_text()


def test_one_word_makes_prompts(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("Grüße", encoding="utf-8")
    assert bench(artifact, prompts=tmp_path / "one.txt", lengths=(16,), calls=10, seconds=0.2).latencies[0].p50 > 0


def test_an_empty_file_is_refused(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    with pytest.raises(InputError, match="holds no word"):
        bench(artifact, prompts=tmp_path / "empty.txt")
