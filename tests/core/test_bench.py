"""The bench measures what it says; no test looks at how fast that is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from router_ml.core.bench import BATCHES, Bench, bench

LENGTHS = (16, 300)


@pytest.fixture(scope="module")
def measured(artifact: Path) -> Bench:
    return bench(artifact, lengths=LENGTHS, calls=20, threads=2)


def test_each_length_is_measured_alone_and_shared(measured: Bench) -> None:
    assert [(m.tokens, m.threads) for m in measured.latencies] == [(n, t) for t in (1, 2) for n in LENGTHS]


def test_percentiles_rise(measured: Bench) -> None:
    assert all(0 < m.p50 <= m.p90 <= m.p99 <= m.p999 for m in measured.latencies)


def test_each_percentile_is_over_the_calls_asked_for(measured: Bench) -> None:
    assert all(m.n_calls >= 20 for m in measured.latencies)


def test_the_parts_are_of_one_thread(measured: Bench) -> None:
    assert [m.run is not None for m in measured.latencies] == [True, True, False, False]


def test_each_batch_size_has_a_throughput(measured: Bench) -> None:
    assert [(t.batch, t.prompts_per_s > 0) for t in measured.throughputs] == [(n, True) for n in BATCHES]


def test_the_text_has_a_line_for_each(measured: Bench) -> None:
    assert len(measured.to_text().splitlines()) == 1 + 2 * len(LENGTHS) + 2 + len(BATCHES) + 3


def test_it_is_json(measured: Bench) -> None:
    assert json.loads(json.dumps(measured.to_dict()))["machine"]["cores"]


def test_prompts_of_ones_own_are_taken(artifact: Path) -> None:
    assert bench(artifact, prompts=["Grüße"], lengths=(16,), calls=10).latencies[0].p50 > 0
