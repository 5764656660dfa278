"""The graph of an artifact as a function: from token ids to outputs."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_ml.core.artifact import SideEncoder
from router_ml.core.features import FeatureRow, feature_rows
from router_ml.core.tokenize import TextTokenizer
from router_ml.errors import ArtifactError

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["EMBEDDING", "FEATURE_INPUTS", "OUTPUTS", "Inference", "batches", "open_session"]

OUTPUTS = ["p_meets", "quality", "output_tokens", "novelty"]
"""What a decision needs of the graph, in this order."""
FEATURE_INPUTS = ("feature_ids", "feature_weights")
"""What the graph of a static encoder takes; that of a transformer takes token ids."""
EMBEDDING = "embedding"
"""One more output, of artifacts that hold training prompts to compare with."""

_MAX_KEPT = 512
"""Arrays for single texts are kept up to this length in tokens: 3 MB a thread at most. For a longer one, making them is a small part."""
_MAX_ROWS = 256
"""Prompts in one run of the graph."""
_MAX_POSITIONS, _MAX_NARROW = 2_048, 4_096
"""Token positions, with padding, in one run: enough to keep it busy, few enough for what it gathers to stay near the processor. A
transformer gathers vectors of its width, a graph of features mostly a few numbers each (its batches were a fifth faster for it)."""


_RANGE_OF_ALL = b"DynamicQuantizeLinear"
"""The operator that makes int8 of what a transformer passes on, by the range over all rows of a run: rows would change each other's
probabilities (by up to 0.03 in MiniLM), so each has a run of its own, which takes a fifth longer."""


class Inference:
    """Runs an artifact's graph. Threads may share it: all that a call changes is its thread's own.

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
    sides : sequence of SideEncoder
        Further encoders, which read the texts themselves.
    """

    def __init__(
        self, model: bytes, inputs: Sequence[str], pad_id: int, *, threads: int = 1, sides: Sequence[SideEncoder] = ()
    ) -> None:
        self._session = open_session(model, threads)
        # The wrapper around it checks names and owners on each run, which takes a fifth of a short prompt's time.
        self._run: Any = getattr(self._session, "_sess", self._session).run
        # Options of one's own, be they the default ones, spare a tenth of it again.
        self._run_options = _default_run_options()
        self._has_features = "feature_ids" in inputs
        self._sides = [_SideInputs(side) for side in sides]
        self.most_positions = _MAX_NARROW if self._has_features and not sides else _MAX_POSITIONS
        if _RANGE_OF_ALL in model:
            self.most_positions = 1
        self._row = _Rows(self._session, self._run_options)
        self._pad_id = pad_id

    def run_one(
        self, ids: NDArray[np.int64], n_chars: int, text: str, *, outputs: Sequence[str] = OUTPUTS
    ) -> list[NDArray[np.float32]]:
        """`OUTPUTS`, or others, of one prompt, by its token ids, its length in characters, and its text for further encoders."""
        result: list[NDArray[np.float32]] = self._run(outputs, self._feed([ids], [n_chars], [text]), self._run_options)
        return result

    def run_row(self, ids: NDArray[np.int64], n_chars: int, text: str) -> list[float]:
        """The same `OUTPUTS` as plain numbers, one after the other [3 T + 1], in half the time where the graph takes features."""
        if self._has_features and len(ids) and not self._sides:
            return self._row.run(ids, n_chars)
        return [value for output in self.run_one(ids, n_chars, text) for value in output.ravel().tolist()]

    def run(
        self, ids: Sequence[NDArray[np.int64]], n_chars: Sequence[int], texts: Sequence[str]
    ) -> list[NDArray[np.float32]]:
        """`OUTPUTS` of n prompts, in one run of the graph."""
        outputs: list[NDArray[np.float32]] = self._run(OUTPUTS, self._feed(ids, n_chars, texts), self._run_options)
        return outputs

    def _feed(
        self, ids: Sequence[NDArray[np.int64]], n_chars: Sequence[int], texts: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        if self._has_features:
            feed: dict[str, NDArray[Any]] = dict(zip(FEATURE_INPUTS, feature_rows(ids, n_chars), strict=True))
        else:
            padded, is_token = _padded(ids, self._pad_id)
            log_n_chars = np.log1p(n_chars).astype(np.float32)[:, None]
            feed = {"input_ids": padded, "attention_mask": is_token.astype(np.int64), "log_n_chars": log_n_chars}
        for side in self._sides:
            feed |= side.feed(texts)
        return feed


class _SideInputs:
    """What an encoder beside the first is given of texts, by its own tokenizer."""

    def __init__(self, side: SideEncoder) -> None:
        self._side = side
        self._tokenizer = TextTokenizer(
            side.tokenizer, max_tokens=side.max_tokens, add_special_tokens=side.add_special_tokens
        )

    def feed(self, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
        padded, is_token = _padded(self._tokenizer.encode_batch(texts), self._side.pad_id)
        ids_name, mask_name = self._side.inputs
        if mask_name.startswith("attention_mask"):
            return {ids_name: padded, mask_name: is_token.astype(np.int64)}
        weights = is_token / np.maximum(is_token.sum(axis=1, keepdims=True), 1)
        return {ids_name: padded, mask_name: weights.astype(np.float32)[:, None, :]}


def _padded(ids: Sequence[NDArray[np.int64]], pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Token ids as a table [n, L], short rows filled up, and which of it are tokens."""
    lengths = np.array([len(i) for i in ids])
    # An encoder needs at least one position, also where a text has no token of the vocabulary.
    is_token = np.arange(max(1, lengths.max())) < lengths[:, None]
    padded = np.full(is_token.shape, pad_id, dtype=np.int64)
    padded[is_token] = np.concatenate(ids)
    return padded, is_token


class _Row(NamedTuple):
    """The features of a text of some length, and a run of the graph that reads them where they are."""

    features: FeatureRow
    binding: Any


class _Rows(threading.local):
    """Each thread's own rows of features, by length, and its place for the outputs of one prompt.

    What a run reads and writes is named to onnxruntime once for each length: on each call that took 3 of 20 us.
    """

    def __init__(self, session: onnxruntime.InferenceSession, options: onnxruntime.RunOptions) -> None:
        self._session, self._options = session, options
        # Without the wrapper, whose checks are for graphs on other devices and take twice as long as the run.
        self._run = getattr(session, "_sess", session).run_with_iobinding
        widths = {o.name: math.prod(d for d in o.shape if isinstance(d, int)) for o in session.get_outputs()}
        self._widths = [widths[name] for name in OUTPUTS]
        self._values = np.zeros(sum(self._widths), dtype=np.float32)
        self._rows: dict[int, _Row] = {}
        # Of texts too long to be kept: another binding for each took 30 of the 45 us that making a row for one takes.
        self._spare = self._bound_outputs()

    def run(self, ids: NDArray[np.int64], n_chars: int) -> list[float]:
        length = len(ids)
        row = self._rows.get(length)
        if row is None:
            row = self._make(length)
            if length <= _MAX_KEPT:
                self._rows[length] = row
        row.features.fill(ids, n_chars)
        self._run(row.binding, self._options)
        values: list[float] = self._values.tolist()
        return values

    def _make(self, length: int) -> _Row:
        features = FeatureRow(length)
        binding = self._bound_outputs() if length <= _MAX_KEPT else self._spare
        for name, value in zip(FEATURE_INPUTS, (features.ids, features.weights), strict=True):
            binding.bind_cpu_input(name, value)
        return _Row(features, getattr(binding, "_iobinding", binding) if hasattr(self._session, "_sess") else binding)

    def _bound_outputs(self) -> onnxruntime.IOBinding:
        """One more binding, of the outputs so far."""
        binding, start = self._session.io_binding(), 0
        for name, width in zip(OUTPUTS, self._widths, strict=True):
            shape = (1,) if name == "novelty" else (1, width)
            binding.bind_output(name, "cpu", 0, np.float32, shape, self._values[start : start + width].ctypes.data)
            start += width
        return binding


def batches(lengths: Sequence[int], most: int = _MAX_POSITIONS) -> list[NDArray[np.intp]]:
    """Rows in runs of like length, so that little is padded, of at most `most` positions each (a single row may have more)."""
    order = np.argsort(lengths, kind="stable")
    batches, start = [], 0
    for stop in range(1, len(order) + 1):
        if stop == len(order) or stop - start >= _MAX_ROWS or (stop + 1 - start) * lengths[order[stop]] > most:
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
