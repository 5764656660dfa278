"""The graph of an artifact as a function: from token ids to outputs."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from router_ml.errors import ArtifactError

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["EMBEDDING", "OUTPUTS", "Inference", "batches", "open_session"]

OUTPUTS = ["p_meets", "quality", "output_tokens", "novelty"]
"""What a decision needs of the graph, in this order."""
EMBEDDING = "embedding"
"""One more output, of artifacts that hold training prompts to compare with."""

_MAX_UNIFORM = 1024
"""Token weights of single texts are kept up to this length: 2 MB at most."""
_SHORT = 4096
"""Logarithms of so many lengths in characters are kept."""
_MAX_ROWS, _MAX_POSITIONS = 256, 2_048
"""Prompts, and token positions with padding, in one run of the graph: enough to keep it busy, few enough for what a run
gathers (a position is a vector of the encoder's width) to stay near the processor."""


class Inference:
    """Runs an artifact's graph. Threads may share it: all that a call changes are a cache of token weights and what is its thread's own.

    Parameters
    ----------
    model : bytes
        The artifact.
    inputs : collection of str
        Names of the graph's inputs (`Metadata.inputs`).
    pad_id : int
        Token id that fills short rows.
    threads : int
        Threads that one run may use.
    """

    def __init__(self, model: bytes, inputs: Sequence[str], pad_id: int, *, threads: int = 1) -> None:
        self._session = open_session(model, threads)
        # The wrapper around it checks names and owners on each run, which takes a fifth of a short prompt's time.
        self._run: Any = getattr(self._session, "_sess", self._session).run
        # Options of one's own, be they the default ones, spare a tenth of it again.
        self._run_options = _default_run_options()
        self._row = _Row(self._session, self._run_options)
        self._has_weights = "token_weights" in inputs
        self._has_mask = "attention_mask" in inputs
        self._pad_id = pad_id
        self._log_n_chars = list(_log_n_chars(range(_SHORT))[:, None])
        self._uniform: dict[int, NDArray[np.float32]] = {}

    def run_one(
        self, ids: NDArray[np.int64], n_chars: int, *, outputs: Sequence[str] = OUTPUTS
    ) -> list[NDArray[np.float32]]:
        """`OUTPUTS`, or others, of one prompt, by its token ids and its length in characters."""
        result: list[NDArray[np.float32]] = self._run(outputs, self._feed_one(ids, n_chars), self._run_options)
        return result

    def run_row(self, ids: NDArray[np.int64], n_chars: int) -> list[float]:
        """The same `OUTPUTS` as plain numbers, one after the other [3 T + 1]: nothing is made for them, so it takes less time."""
        return self._row.run(self._feed_one(ids, n_chars))

    def run(self, ids: Sequence[NDArray[np.int64]], n_chars: Sequence[int]) -> list[NDArray[np.float32]]:
        """`OUTPUTS` of n prompts, in one run of the graph."""
        if len(ids) == 1:
            return self.run_one(ids[0], n_chars[0])
        outputs: list[NDArray[np.float32]] = self._run(OUTPUTS, self._feed(ids, n_chars), self._run_options)
        return outputs

    def _feed_one(self, ids: NDArray[np.int64], n_chars: int) -> dict[str, NDArray[Any]]:
        length = len(ids)
        if length == 0:
            return self._feed([ids], [n_chars])
        feed: dict[str, NDArray[Any]] = {
            "input_ids": ids.reshape(1, length),
            "log_n_chars": self._log_n_chars[n_chars] if n_chars < _SHORT else _log_n_chars([n_chars]),
        }
        if self._has_weights:
            weights = self._uniform.get(length)
            if weights is None:
                weights = np.full((1, 1, length), 1 / length, dtype=np.float32)
                if length <= _MAX_UNIFORM:
                    self._uniform[length] = weights
            feed["token_weights"] = weights
        if self._has_mask:
            feed["attention_mask"] = np.ones((1, length), dtype=np.int64)
        return feed

    def _feed(self, ids: Sequence[NDArray[np.int64]], n_chars: Sequence[int]) -> dict[str, NDArray[Any]]:
        lengths = np.array([len(i) for i in ids])
        # An encoder needs at least one position, also where a text has no token of the vocabulary.
        is_token = np.arange(max(1, lengths.max())) < lengths[:, None]
        padded = np.full(is_token.shape, self._pad_id, dtype=np.int64)
        padded[is_token] = np.concatenate(ids)
        feed: dict[str, NDArray[Any]] = {
            "input_ids": padded,
            "log_n_chars": _log_n_chars(n_chars),
        }
        if self._has_weights:
            feed["token_weights"] = (is_token / np.maximum(lengths, 1)[:, None]).astype(np.float32)[:, None, :]
        if self._has_mask:
            feed["attention_mask"] = is_token.astype(np.int64)
        return feed


class _Row(threading.local):
    """Each thread's own place for the outputs of one prompt, and what it gave the graph last."""

    def __init__(self, session: onnxruntime.InferenceSession, options: onnxruntime.RunOptions) -> None:
        self._options = options
        binding = self._binding = session.io_binding()
        # Without the wrappers, whose checks are for graphs on other devices and take twice as long as the run.
        self._run = getattr(session, "_sess", session).run_with_iobinding
        self._raw = getattr(binding, "_iobinding", binding) if hasattr(session, "_sess") else binding
        self._inputs: dict[str, NDArray[Any]] = {}
        widths = {o.name: math.prod(d for d in o.shape if isinstance(d, int)) for o in session.get_outputs()}
        self._values = np.zeros(sum(widths[name] for name in OUTPUTS), dtype=np.float32)
        start = 0
        for name in OUTPUTS:
            shape = (1,) if name == "novelty" else (1, widths[name])
            place = self._values[start : start + widths[name]]
            binding.bind_output(name, "cpu", 0, np.float32, shape, place.ctypes.data)
            start += widths[name]

    def run(self, feed: dict[str, NDArray[Any]]) -> list[float]:
        for name, value in feed.items():
            if self._inputs.get(name) is not value:
                self._binding.bind_cpu_input(name, value)
                # Kept, since onnxruntime reads it where it is.
                self._inputs[name] = value
        self._run(self._raw, self._options)
        values: list[float] = self._values.tolist()
        return values


def batches(lengths: Sequence[int]) -> list[NDArray[np.intp]]:
    """Rows in runs of like length, so that little is padded, each within the bounds."""
    order = np.argsort(lengths, kind="stable")
    batches, start = [], 0
    for stop in range(1, len(order) + 1):
        if (
            stop == len(order)
            or stop - start >= _MAX_ROWS
            or (stop + 1 - start) * lengths[order[stop]] > _MAX_POSITIONS
        ):
            batches.append(order[start:stop])
            start = stop
    return batches


def open_session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """A session that runs the graph on this many threads; raises ArtifactError where onnxruntime refuses it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's errors share no base of their own
        raise ArtifactError(f"onnxruntime can't load the artifact's graph ({exc}); export it again.") from exc


def _default_run_options() -> onnxruntime.RunOptions:
    import onnxruntime

    return onnxruntime.RunOptions()


def _log_n_chars(n_chars: Sequence[int]) -> NDArray[np.float32]:
    return np.log1p(n_chars).astype(np.float32)[:, None]
