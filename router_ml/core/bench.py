"""What a decision costs on this machine: latency of a whole ``route()`` by prompt length, and throughput of batches."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from router_ml.core.router import Router
from router_ml.core.text import bounded

__all__ = ["Bench", "Latency", "Throughput", "bench", "prompt_of"]

LENGTHS = (16, 64, 256, 1_000, 8_000, 100_000)
"""Prompt lengths in tokens, roughly: a token is taken to be four characters."""
BATCHES = (1, 32, 1_000)
CALLS = 2_000
_WARM_UP = 200
_CHARS_PER_TOKEN = 4
_WORDS = (
    "please summarise the following report for a reader who has never seen it before and keep every number that matters "
    "then write a short function that parses each line of the log and returns the slowest request with its time"
)


@dataclass(frozen=True, slots=True)
class Latency:
    """Microseconds of a whole ``route()`` over `n_calls` calls, and the median of its parts.

    Attributes
    ----------
    tokens : int
        Length of the prompt, in fours of characters.
    threads : int
        Threads that called at the same time.
    p50, p90, p99, p999 : float
        Percentiles of the whole.
    render, tokenize, run, decide : float or None
        Medians of the parts, timed apart; None with several threads. `decide` is what the others leave of the whole.
    """

    tokens: int
    threads: int
    n_calls: int
    p50: float
    p90: float
    p99: float
    p999: float
    render: float | None = None
    tokenize: float | None = None
    run: float | None = None
    decide: float | None = None


@dataclass(frozen=True, slots=True)
class Throughput:
    """Prompts of 64 tokens that ``route_batch`` decides in a second, by batch size."""

    batch: int
    prompts_per_s: float


@dataclass(frozen=True, slots=True)
class Bench:
    """All that was measured, and on what."""

    latencies: tuple[Latency, ...]
    throughputs: tuple[Throughput, ...]
    load_s: float
    artifact_mb: float
    peak_memory_mb: float | None
    machine: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    def to_text(self) -> str:
        """As aligned tables, for a terminal."""
        head = f"{'tokens':>8}{'threads':>9}{'p50 us':>10}{'p90 us':>10}{'p99 us':>10}{'p99.9 us':>10}"
        lines = [head + f"{'render':>9}{'tokenize':>10}{'run':>9}{'decide':>9}"]
        for row in self.latencies:
            whole = (
                f"{row.tokens:>8,}{row.threads:>9}{row.p50:>10,.1f}{row.p90:>10,.1f}{row.p99:>10,.1f}{row.p999:>10,.1f}"
            )
            parts = "".join(
                f"{'-' if part is None else format(part, ',.1f'):>{width}}"
                for part, width in ((row.render, 9), (row.tokenize, 10), (row.run, 9), (row.decide, 9))
            )
            lines.append(whole + parts)
        lines += ["", f"{'batch':>8}{'prompts/s':>12}"]
        lines += [f"{t.batch:>8,}{t.prompts_per_s:>12,.0f}" for t in self.throughputs]
        memory = "unknown" if self.peak_memory_mb is None else f"{self.peak_memory_mb:,.0f} MB"
        lines += ["", f"load {self.load_s:.3f} s, artifact {self.artifact_mb:.1f} MB, peak memory {memory}"]
        lines += [", ".join(f"{k} {v}" for k, v in self.machine.items())]
        return "\n".join(lines)


def bench(
    path: str | Path,
    *,
    prompts: Sequence[str] = (),
    threads: int = 1,
    lengths: Sequence[int] = LENGTHS,
    calls: int = CALLS,
) -> Bench:
    """Measure an artifact.

    Parameters
    ----------
    path : str or Path
        The artifact.
    prompts : sequence of str
        Texts to build the prompts of; plain English where not given.
    threads : int
        Besides one thread, so many that share the router.
    lengths : sequence of int
        Prompt lengths in tokens.
    calls : int
        Calls that each percentile is over, after a warm-up.

    Returns
    -------
    Bench
    """
    start = time.perf_counter()
    router = Router.load(path)
    load_s = time.perf_counter() - start
    source = " ".join(prompts) or _WORDS
    latencies = [_latency(router, prompt_of(source, n), n, calls) for n in lengths]
    if threads > 1:
        latencies += [_shared_latency(router, prompt_of(source, n), n, calls, threads) for n in lengths]
    # Each prompt begins elsewhere, so that a batch holds no prompt twice.
    varied = [prompt_of(source[i % len(source) :] + " " + source, 64) for i in range(max(BATCHES))]
    throughputs = tuple(_throughput(router, varied[:n]) for n in BATCHES)
    size = Path(path).stat().st_size / 1e6
    return Bench(tuple(latencies), throughputs, load_s, size, _peak_memory_mb(), _machine())


def prompt_of(source: str, tokens: int) -> str:
    """The beginning of a text, repeated as need be, of about so many tokens (four characters each)."""
    n_chars = tokens * _CHARS_PER_TOKEN
    return ((source + " ") * (n_chars // (len(source) + 1) + 1))[:n_chars]


def _times(call: Callable[[], object], calls: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    for _ in range(min(_WARM_UP, calls)):
        call()
    times = np.empty(calls)
    for i in range(calls):
        start = time.perf_counter_ns()
        call()
        times[i] = time.perf_counter_ns() - start
    return times / 1e3


def _latency(router: Router, prompt: str, tokens: int, calls: int) -> Latency:
    whole = _times(lambda: router.route(prompt), calls)
    text, n_chars = bounded(prompt)
    ids = router.tokenizer.encode(text)
    rendering, tokenizing, running = (
        float(np.median(_times(part, calls)))
        for part in (
            lambda: bounded(prompt),
            lambda: router.tokenizer.encode(text),
            lambda: router.inference.run_row(ids, n_chars, text),
        )
    )
    rest = max(float(np.median(whole)) - rendering - tokenizing - running, 0.0)
    p50, p90, p99, p999 = np.percentile(whole, (50, 90, 99, 99.9)).tolist()
    return Latency(tokens, 1, calls, p50, p90, p99, p999, rendering, tokenizing, running, rest)


def _shared_latency(router: Router, prompt: str, tokens: int, calls: int, threads: int) -> Latency:
    times: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    workers = [
        threading.Thread(target=lambda: times.append(_times(lambda: router.route(prompt), -(-calls // threads))))
        for _ in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    whole = np.concatenate(times)
    p50, p90, p99, p999 = np.percentile(whole, (50, 90, 99, 99.9)).tolist()
    return Latency(tokens, threads, len(whole), p50, p90, p99, p999)


def _throughput(router: Router, prompts: Sequence[str], seconds: float = 1.0) -> Throughput:
    router.route_batch(prompts)
    start, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        router.route_batch(prompts)
        done += len(prompts)
    return Throughput(len(prompts), done / spent)


def _peak_memory_mb() -> float | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes, but bytes on macOS (getrusage(2)).
    return float(peak) / (1e6 if platform.system() == "Darwin" else 1e3)


def _machine() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "tokenizers": version("tokenizers"),
        "numpy": version("numpy"),
        "cores": str(os.cpu_count()),
        "processor": _processor(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
