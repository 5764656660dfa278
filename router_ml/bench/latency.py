"""What a decision costs on this machine: latency of a whole ``route()`` by prompt length, and throughput of batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from router_ml.bench.machine import describe_machine, peak_memory_mb
from router_ml.bench.prompts import CHARS_PER_TOKEN, PLAIN, Stretches, prompt_of, read_text
from router_ml.core.artifact import Artifact, read_artifact
from router_ml.core.router import Router
from router_ml.core.text import bounded
from router_ml.errors import QueryError

__all__ = ["Bench", "Latency", "Throughput", "bench"]

LENGTHS = (16, 64, 256, 1_000, 8_000, 100_000)
"""Prompt lengths in tokens, roughly: a token is taken to be four characters."""
BATCHES = (1, 32, 1_000)
BATCHED_TOKENS = 64
"""Length of the prompts in batches, and of those that a router has seen before it is timed."""
CALLS = 2_000
SECONDS = 20.0
"""Calls of one length end then, however many there were."""
_MEMORY_CALLS = 100
_WARM_UP, _WARM_UP_SECONDS = 10_000, 0.5
_OF_ONE_LENGTH = 200
_BLOCK = 25
_PARTS = ("render", "tokenize", "run", "decide")


@dataclass(frozen=True, slots=True)
class Latency:
    """Microseconds of a whole ``route()`` over `n_calls` prompts, each asked once, and of its parts.

    Attributes
    ----------
    tokens : int
        Length of the prompts, in fours of characters.
    threads : int
        Threads that called at the same time.
    n_calls : int
        Those that the time was enough for.
    p50, p90, p99, p999 : float
        Percentiles of the whole.
    new_words : float or None
        Share of the words that no earlier prompt had, nor the warm-up; None with several threads.
    render, tokenize, run, decide : float or None
        Means of the parts over the calls nearest to the median (a fifth of them), so that they add up to it. They come from a
        second router, which is asked the same prompts by turns: looking at the clock in between takes time. None with several
        threads.
    """

    tokens: int
    threads: int
    n_calls: int
    p50: float
    p90: float
    p99: float
    p999: float
    new_words: float | None = None
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
    """All that was measured, and on what.

    Attributes
    ----------
    latencies : tuple of Latency
    throughputs : tuple of Throughput
    load_s, artifact_mb : float
    peak_memory_mb : float or None
        The process's after it loaded one router and routed plain English of each length, before it read any prompts: Python and its
        imports are in it. None where the system doesn't tell.
    prompts : str
        What the prompts were cut from.
    too_long : tuple of int
        Lengths left out, since no tier of the ladder takes such a prompt.
    machine : dict of str to str
    """

    latencies: tuple[Latency, ...]
    throughputs: tuple[Throughput, ...]
    load_s: float
    artifact_mb: float
    peak_memory_mb: float | None
    prompts: str
    too_long: tuple[int, ...]
    machine: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    def to_text(self) -> str:
        """As aligned tables, for a terminal."""
        head = f"{'tokens':>8}{'threads':>9}{'calls':>8}{'p50 us':>10}{'p90 us':>10}{'p99 us':>10}{'p99.9 us':>10}"
        lines = [head + f"{'new words':>11}{'render':>9}{'tokenize':>10}{'run':>11}{'decide':>9}"]
        for row in self.latencies:
            whole = "".join(f"{us:>10,.1f}" for us in (row.p50, row.p90, row.p99, row.p999))
            new = "-" if row.new_words is None else f"{row.new_words:.1%}"
            parts = "".join(
                f"{'-' if part is None else format(part, ',.1f'):>{width}}"
                for part, width in ((row.render, 9), (row.tokenize, 10), (row.run, 11), (row.decide, 9))
            )
            lines.append(f"{row.tokens:>8,}{row.threads:>9}{row.n_calls:>8,}{whole}{new:>11}{parts}")
        lines += ["", f"{'batch':>8}{'prompts/s':>12}"]
        lines += [f"{t.batch:>8,}{t.prompts_per_s:>12,.0f}" for t in self.throughputs]
        memory = "unknown" if self.peak_memory_mb is None else f"{self.peak_memory_mb:,.0f} MB"
        lines += [
            "",
            f"load {self.load_s:.3f} s, artifact {self.artifact_mb:.1f} MB, peak memory {memory} (loaded and routed)",
        ]
        lines += [f"no tier takes a prompt of {n:,} tokens" for n in self.too_long]
        lines += [f"prompts: {self.prompts}", ", ".join(f"{k} {v}" for k, v in self.machine.items())]
        return "\n".join(lines)


def bench(
    path: str | Path,
    *,
    prompts: str | Path | None = None,
    threads: int = 1,
    lengths: Sequence[int] = LENGTHS,
    calls: int = CALLS,
    seconds: float = SECONDS,
    on_progress: Callable[[int, int], None] | None = None,
) -> Bench:
    """Measure an artifact.

    Parameters
    ----------
    path : str or Path
        The artifact.
    prompts : str or Path, optional
        A text file to cut the prompts from (:class:`~router_ml.bench.prompts.Stretches`); plain English where not given, whose
        few words the router has all seen.
    threads : int
        Besides one thread, so many that share the router.
    lengths : sequence of int
        Prompt lengths in tokens.
    calls : int
        Prompts that each percentile is over, after a warm-up on others.
    seconds : float
        The calls of one length end then, however few they were; those of one batch size once a second is over.
    on_progress : callable, optional
        Told how many steps of how many are done.

    Returns
    -------
    Bench

    Raises
    ------
    ArtifactError
        See :func:`router_ml.core.artifact.read_artifact`.
    InputError
        See :func:`router_ml.bench.prompts.read_text`.
    """
    loaded = _load(path, lengths)
    artifact = read_artifact(path)
    source = Stretches(PLAIN, "plain English") if prompts is None else Stretches(read_text(Path(prompts)), str(prompts))
    n_steps = len(loaded.lengths) * (1 + (threads > 1)) + len(BATCHES)
    found: list[Latency | Throughput] = []
    for each in _measure(artifact, source, loaded.lengths, calls, seconds, threads):
        found.append(each)
        if on_progress is not None:
            on_progress(len(found), n_steps)
    return Bench(
        tuple(f for f in found if isinstance(f, Latency)),
        tuple(f for f in found if isinstance(f, Throughput)),
        loaded.seconds,
        Path(path).stat().st_size / 1e6,
        loaded.peak_memory_mb,
        source.about,
        tuple(n for n in lengths if n not in loaded.lengths),
        describe_machine(),
    )


def _measure(
    artifact: Artifact, source: Stretches, lengths: Sequence[int], calls: int, seconds: float, threads: int
) -> Iterator[Latency | Throughput]:
    for tokens in lengths:
        yield _latency(artifact, source, tokens, calls, seconds)
    if threads > 1:
        for tokens in lengths:
            yield _shared_latency(artifact, source, tokens, calls, seconds, threads)
    for batch in BATCHES:
        yield _throughput(artifact, source, batch, min(seconds, 1.0))


class _Loaded(NamedTuple):
    """What loading took, and the lengths that some tier takes."""

    seconds: float
    peak_memory_mb: float | None
    lengths: list[int]


def _load(path: str | Path, lengths: Sequence[int]) -> _Loaded:
    start = time.perf_counter()
    router = Router.load(path)
    load_s = time.perf_counter() - start
    fitting = [n for n in lengths if _fits(router, n)]
    router.route_batch([PLAIN] * _MEMORY_CALLS)
    return _Loaded(load_s, peak_memory_mb(), fitting)


def _fits(router: Router, tokens: int) -> bool:
    try:
        router.route(prompt_of(PLAIN, tokens))
    except QueryError:
        return False
    return True


def _warm(route: Callable[[str], object], source: Stretches) -> set[str]:
    """Show a router the text of the warm-up, or half a second's worth of it; the words that it had."""
    words: set[str] = set()
    end = time.perf_counter() + _WARM_UP_SECONDS
    for prompt in source.warm_up(BATCHED_TOKENS * CHARS_PER_TOKEN, _WARM_UP):
        route(prompt)
        words.update(prompt.split())
        if time.perf_counter() > end:
            break
    return words


class _Parts(NamedTuple):
    """Nanoseconds of one call's parts."""

    render: int
    tokenize: int
    run: int
    decide: int


class _Traced:
    """A router of whose calls the parts are timed: it notes when its tokenizer and its graph begin and end."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._marks: list[int] = []
        for owner, name in ((router.tokenizer, "encode"), (router.inference, "run_row"), (router.inference, "run_one")):
            setattr(owner, name, self._noted(getattr(owner, name)))

    def _noted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        marks, clock = self._marks, time.perf_counter_ns

        def noted(*args: Any, **options: Any) -> Any:
            marks.append(clock())
            found = call(*args, **options)
            marks.append(clock())
            return found

        return noted

    def route(self, prompt: str) -> _Parts:
        """The parts of one call; what lies between tokenizing and the run counts as deciding."""
        self._marks.clear()
        start = time.perf_counter_ns()
        self._router.route(prompt)
        end = time.perf_counter_ns()
        # One way to run calls the other, so the last mark is the run's end.
        encode, encoded, run, *_, ran = self._marks
        return _Parts(encode - start, encoded - encode, ran - run, end - ran + run - encoded)


def _latency(artifact: Artifact, source: Stretches, tokens: int, calls: int, seconds: float) -> Latency:
    # Fresh ones, so that no length is the easier for those before it.
    router, traced = Router(artifact), _Traced(Router(artifact))
    words = _warm(router.route, source)
    _warm(traced.route, source)
    n_chars = tokens * CHARS_PER_TOKEN
    before = cycle(list(islice(source.warm_up(n_chars, _OF_ONE_LENGTH), _OF_ONE_LENGTH)))
    whole: list[int] = []
    parts: list[_Parts] = []
    n_words = n_new = 0
    prompts = source.timed(n_chars, calls)
    end = time.perf_counter() + seconds
    while (not whole or time.perf_counter() < end) and (block := list(islice(prompts, _BLOCK))):
        # The first calls of a turn find the other router's numbers in the processor's caches: they aren't counted.
        for prompt in islice(before, 2):
            router.route(prompt)
        n_before = len(whole)
        for prompt in block:
            whole.append(_nanoseconds(router.route, prompt))
            if time.perf_counter() > end:
                break
        asked = block[: len(whole) - n_before]
        for prompt in islice(before, 2):
            traced.route(prompt)
        parts += [traced.route(prompt) for prompt in asked]
        for prompt in asked:
            said = bounded(prompt).text.split()
            n_words += len(said)
            n_new += len(new := set(said) - words)
            words |= new
    return _percentiles(tokens, 1, whole, new_words=n_new / n_words, **_about_the_median(parts))


def _about_the_median(parts: Sequence[_Parts]) -> dict[str, float]:
    """Means in microseconds over the middle fifth of the calls."""
    table = np.array(parts) / 1e3
    order = table.sum(axis=1).argsort()
    middle = order[int(0.4 * len(order)) : int(0.6 * len(order)) + 1]
    return dict(zip(_PARTS, table[middle].mean(axis=0).tolist(), strict=True))


def _nanoseconds(route: Callable[[str], object], prompt: str) -> int:
    start = time.perf_counter_ns()
    route(prompt)
    return time.perf_counter_ns() - start


def _percentiles(tokens: int, threads: int, nanoseconds: Sequence[int], **others: float) -> Latency:
    whole = np.array(nanoseconds) / 1e3
    return Latency(tokens, threads, len(whole), *np.percentile(whole, (50, 90, 99, 99.9)).tolist(), **others)


def _shared_latency(
    artifact: Artifact, source: Stretches, tokens: int, calls: int, seconds: float, threads: int
) -> Latency:
    router = Router(artifact)
    _warm(router.route, source)
    n_chars = tokens * CHARS_PER_TOKEN
    at_once = threading.Barrier(threads)
    lock = threading.Lock()
    prompts = source.timed(n_chars, calls)

    def following() -> str | None:
        with lock:
            return next(prompts, None)

    def worker() -> list[int]:
        # Each thread has rows of its own for what the graph reads.
        try:
            for before in source.warm_up(n_chars, max(_OF_ONE_LENGTH // threads, 1)):
                router.route(before)
        finally:  # else one that failed would leave the others waiting
            at_once.wait()
        times: list[int] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end and (prompt := following()) is not None:
            times.append(_nanoseconds(router.route, prompt))
        return times

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(worker) for _ in range(threads)]
        times = [t for done in running for t in done.result()]
    return _percentiles(tokens, threads, times)


def _throughput(artifact: Artifact, source: Stretches, batch: int, seconds: float) -> Throughput:
    router = Router(artifact)
    _warm(router.route, source)
    prompts = cycle(list(source.timed(BATCHED_TOKENS * CHARS_PER_TOKEN, 10 * max(BATCHES))))
    spent, done = 0.0, 0
    while spent < seconds:
        texts = list(islice(prompts, batch))
        start = time.perf_counter()
        router.route_batch(texts)
        spent += time.perf_counter() - start
        done += batch
    return Throughput(batch, done / spent)
