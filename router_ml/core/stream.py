"""Many queries through the graph, on all cores and in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_ml.core.inference import Inference, batches
from router_ml.core.request import requirements
from router_ml.core.text import Query, Rendered, bounded
from router_ml.core.tokenize import TextTokenizer
from router_ml.errors import QueryError

__all__ = ["Part", "cores", "run_stream"]

_CHUNK = 1024
"""Queries of a stream that are worked on together."""
_FEW_RUNS = 2
"""So many runs of the graph are done sooner than threads for them are started."""


class Part(NamedTuple):
    """What the graph gives for a part of a stream, in its order; lengths as in :class:`Rendered`, and what queries need (None: nothing)."""

    outputs: list[NDArray[np.float32]]
    n_chars: list[int]
    least_tokens: list[float]
    needs: list[frozenset[str]] | None


class _Chunk(NamedTuple):
    """What is remembered of a chunk while the graph runs."""

    n_chars: list[int]
    least_tokens: list[float]
    needs: list[frozenset[str]] | None
    rows: list[NDArray[np.intp]]

    def collect(self, runs: Sequence[list[NDArray[np.float32]]]) -> Part:
        back = np.argsort(np.concatenate(self.rows))
        outputs = [np.concatenate(column)[back] for column in zip(*runs, strict=True)]
        return Part(outputs, self.n_chars, self.least_tokens, self.needs)


def run_stream(
    inference: Inference, tokenizer: TextTokenizer, queries: Iterator[Query], *, workers: int
) -> Iterator[Part]:
    """The graph's outputs for a stream of queries, a thousand at a time; about two thousand are read ahead.

    Where the source fails, or a query can't be rendered, what came before it is given first. The graph runs in threads of its
    own (onnxruntime lets go of the interpreter's lock), while this one tokenizes.
    """
    waiting: deque[tuple[_Chunk, list[Future[Any]]]] = deque()
    n_read, failure = 0, None
    with ThreadPoolExecutor(workers) as pool:
        while failure is None:
            read, failure = _read(queries, n_read)
            if not read:
                break
            texts = [rendered for _, rendered in read]
            n_read += len(read)
            ids = tokenizer.encode_batch([t.text for t in texts])
            n_chars = [t.n_chars for t in texts]
            rows = batches([len(i) for i in ids], inference.most_positions)
            chunk = _Chunk(n_chars, [t.least_tokens for t in texts], _needs([query for query, _ in read]), rows)
            parts = [
                ([ids[i] for i in b], [n_chars[i] for i in b], [texts[i].text for i in b])
                for b in (r.tolist() for r in chunk.rows)
            ]
            if len(parts) <= _FEW_RUNS and not waiting:
                yield chunk.collect([inference.run(*part) for part in parts])
                continue
            waiting.append((chunk, [pool.submit(inference.run, *part) for part in parts]))
            if len(waiting) > 1:
                chunk, runs = waiting.popleft()
                yield chunk.collect([run.result() for run in runs])
        for chunk, runs in waiting:
            yield chunk.collect([run.result() for run in runs])
    if failure is not None:
        raise failure


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _needs(queries: Sequence[Query]) -> list[frozenset[str]] | None:
    needs = [requirements(query) for query in queries]
    return needs if any(needs) else None


def _read(queries: Iterator[Query], n_before: int) -> tuple[list[tuple[Query, Rendered]], Exception | None]:
    """The next queries, each with its text, and what keeps the one behind them from being read or rendered."""
    read: list[tuple[Query, Rendered]] = []
    try:
        for query in islice(queries, _CHUNK):
            read.append((query, bounded(query)))
    except QueryError as exc:
        failure = QueryError(f"Query {n_before + len(read)} (from 0): {exc}")
        failure.__cause__ = exc
        return read, failure
    except Exception as exc:  # the caller's own, handed on once the decisions before it are
        return read, exc
    return read, None
