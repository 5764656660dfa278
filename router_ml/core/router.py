"""The router: loads an artifact once, then decides."""

from __future__ import annotations

import base64
import math
import os
import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeGuard

import numpy as np
from numpy.typing import NDArray

from router_ml.core.acceptance import Acceptance, AcceptanceGraph, answer_features, answer_text, next_step
from router_ml.core.artifact import Artifact, Metadata, Setting, read_artifact
from router_ml.core.decision import Decision, Policy, Prediction
from router_ml.core.policy import choose
from router_ml.core.text import Query, Rendered, bounded
from router_ml.core.tokenize import TextTokenizer
from router_ml.errors import ArtifactError, InputError, QueryError
from router_ml.ladder import Ladder

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Router"]

_OUTPUTS = ["p_meets", "quality", "output_tokens", "novelty"]
_CHUNK = 1024
"""Queries of a stream that are worked on together."""
_FEW_RUNS = 2
"""So many runs of the graph are done sooner than threads for them are started."""
_MAX_UNIFORM = 1024
"""Token weights of single texts are kept up to this length: 2 MB at most."""
_MAX_ROWS, _MAX_POSITIONS = 256, 2_048
"""Prompts, and token positions with padding, in one run of the graph: enough to keep it busy, few enough for what a run
gathers (a position is a vector of the encoder's width) to stay near the processor."""
_ANSWERED = 16
"""Prompts whose answers go through the acceptance model together: their tokens are counted in a table each."""
_NO_TOKENS = np.empty(0, dtype=np.int64)


class Router:
    """Decides, for each query, which tier is the cheapest that will still be good enough.

    Make one with :meth:`load`. Threads may share it: all that a call changes are caches (of words, of token weights, the acceptance
    model once it is asked for), which change no answer.
    """

    def __init__(self, artifact: Artifact, *, threads: int = 1) -> None:
        self.metadata: Metadata = artifact.metadata
        self.ladder: Ladder = artifact.metadata.ladder
        self._session = _session(artifact.model, threads)
        # The wrapper around it checks names and owners on each run, which takes a fifth of a short prompt's time.
        self._run: Any = getattr(self._session, "_sess", self._session).run
        self._workers = max(1, _cores() // threads)
        self._has_weights = "token_weights" in self.metadata.inputs
        self._has_mask = "attention_mask" in self.metadata.inputs
        self._uniform: dict[int, NDArray[np.float32]] = {}
        self.tokenizer = TextTokenizer(
            artifact.tokenizer,
            max_tokens=self.metadata.max_tokens,
            add_special_tokens=self.metadata.add_special_tokens,
        )
        self._per_char = np.array(self.metadata.input_tokens_per_char)
        self._base = np.array(self.metadata.input_tokens_base)
        windows = [math.inf if t.context_window is None else t.context_window for t in self.ladder]
        self._windows = np.array(windows, dtype=np.float64)
        self._everyone = np.ones(len(self.ladder), dtype=bool)
        # Shorter prompts fit into each tier's window, so there is a choice (unless there is one tier: then never).
        fits = (self._windows - self._base) / np.maximum(self._per_char, 1e-9)
        self._always_fits = float(fits.min()) if len(self.ladder) > 1 else 0.0
        per_input, per_output, per_call = self.ladder.prices()
        # A call's expected cost: the first, plus the second a character, plus the third a token of the answer.
        usd = (per_call + self._base * per_input, self._per_char * per_input, per_output)
        self._usd: list[tuple[float, float, float]] = list(zip(*(u.tolist() for u in usd), strict=True))
        self._names = [(tier.name, tier.model) for tier in self.ladder]
        self._default = (self.setting.policy, self.setting.knob)
        self._acceptance_model = artifact.acceptance
        self._acceptance_lock = threading.Lock()
        self._acceptance_graph: AcceptanceGraph | None = None

    @classmethod
    def load(cls, path: str | Path, *, threads: int = 1) -> Self:
        """Load an artifact, after verifying it.

        Parameters
        ----------
        path : str or Path
            The ``.onnx`` file that ``router-ml fit`` wrote.
        threads : int
            Threads that one run of the graph may use.

        Raises
        ------
        ArtifactError
            See :func:`router_ml.core.artifact.read_artifact`.
        """
        return cls(read_artifact(path), threads=threads)

    @property
    def setting(self) -> Setting:
        """The policy and knob used where none is given."""
        return self.metadata.settings[0]

    def route(
        self,
        query: Query,
        *,
        policy: Policy | None = None,
        threshold: float | None = None,
        lam: float | None = None,
        allowed: Collection[str] | None = None,
    ) -> Decision:
        """Choose the tier for one query.

        Parameters
        ----------
        query : str or list of chat messages
            What :func:`router_ml.core.text.render` takes.
        policy : {"bar", "value"}, optional
            ``"bar"``: the cheapest tier with ``p_meets >= threshold``; ``"value"``: the largest
            ``quality - lam * cost_usd``. Without it, the one whose knob is given, else the artifact's default.
        threshold : float, optional
            For ``"bar"``, in [0, 1]; the artifact's where not given.
        lam : float, optional
            For ``"value"``, >= 0: the quality that one US dollar is worth; the artifact's where not given.
        allowed : collection of str, optional
            Names of the tiers that may be chosen.

        Raises
        ------
        QueryError
            If the query can't be rendered, or no tier may take it.
        InputError
            If an option is out of its range.
        """
        policy, knob = self._knob(policy, threshold, lam)
        text = bounded(query)
        outputs = self._run(_OUTPUTS, self._feed_one(self.tokenizer.encode(text.text), text.n_chars), None)
        if allowed is not None or text.n_chars >= self._always_fits:
            return self._decide(self._prediction(outputs, [text.n_chars]), policy, knob, self._mask(allowed))[0]
        return self._decide_plainly(outputs, text.n_chars, policy, knob)

    def route_batch(
        self,
        queries: Iterable[Query],
        *,
        policy: Policy | None = None,
        threshold: float | None = None,
        lam: float | None = None,
        allowed: Collection[str] | None = None,
    ) -> list[Decision]:
        """Choose the tier for each of many queries, on all cores; options as in :meth:`route`."""
        return list(self.route_iter(queries, policy=policy, threshold=threshold, lam=lam, allowed=allowed))

    def route_iter(
        self,
        queries: Iterable[Query],
        *,
        policy: Policy | None = None,
        threshold: float | None = None,
        lam: float | None = None,
        allowed: Collection[str] | None = None,
    ) -> Iterator[Decision]:
        """:meth:`route_batch` for a stream of any length: memory is bounded, decisions come in the queries' order.

        Some thousand queries are read ahead.
        """
        policy, knob = self._knob(policy, threshold, lam)
        mask = self._mask(allowed)
        return chain.from_iterable(self._decide(p, policy, knob, mask) for p in self.predict_iter(queries))

    @property
    def can_accept(self) -> bool:
        """Whether the artifact holds an acceptance model."""
        return bool(self._acceptance_model)

    @property
    def caution(self) -> float:
        """The factor on the price of another call that :meth:`accept` reckons with, chosen when it was fitted."""
        return self._acceptance().caution

    def accept(
        self,
        query: Query,
        answer: str,
        tier: str,
        *,
        earlier: Mapping[str, str] | None = None,
        policy: Policy | None = None,
        threshold: float | None = None,
        lam: float | None = None,
        allowed: Collection[str] | None = None,
        prediction: Prediction | None = None,
    ) -> Acceptance:
        """Say whether a tier's answer is good enough, and which tier to ask next where it isn't.

        Parameters
        ----------
        query : str or list of chat messages
            As in :meth:`route`.
        answer : str
            What the tier answered; it may be empty.
        tier : str
            The tier that answered.
        earlier : mapping of tier to answer, optional
            Answers of other tiers that were seen before this one, in their order: that answers agree says much.
        policy, threshold, lam, allowed : optional
            As in :meth:`route`. ``"value"``: another tier is asked where its expected quality, in the light of the answers, less
            ``lam`` times its cost (and the artifact's caution) exceeds that of the best answer at hand. ``"bar"``: where no answer at
            hand reaches the threshold, the cheapest tier that does, else a likelier one.
        prediction : Prediction, optional
            What :meth:`predict` said of this one query, to spare asking again.

        Raises
        ------
        QueryError
            If the query can't be rendered.
        InputError
            If the artifact holds no acceptance model, or an argument is out of its range.

        References
        ----------
        L. Chen, M. Zaharia, J. Zou (2023), "FrugalGPT", arXiv:2305.05176.
        """
        policy, knob = self._knob(policy, threshold, lam)
        mask = self._mask(allowed)
        seen, answers = self._seen(answer, tier, earlier or {})
        before = self.predict([query]) if prediction is None else prediction
        if before.quality.shape != (1, len(self.ladder)):
            raise InputError(
                f"'prediction' is of {len(before.quality)} queries; it needs to be what predict([query]) gave for this one."
            )
        p_meets, quality = self.predict_answers([query], [answers], before)
        graph = self._acceptance()
        p, q = (table[0, graph.state_of(seen)].astype(np.float64) for table in (p_meets, quality))
        may = mask & (before.input_tokens[0] < self._windows)
        if policy == "value":
            at_hand, following = next_step(q, q - graph.caution * knob * before.cost_usd[0], seen, may)
        else:
            at_hand, following = next_step(p, p, seen, may)
            reaching = (t for t in np.flatnonzero(may).tolist() if t not in seen and p[t] >= knob)
            following = None if p[at_hand] >= knob else next(reaching, following)
        following_name = None if following is None else self.ladder[following].name
        own = seen[-1]
        return Acceptance(
            float(p[own]), following is None, float(q[own]), self.ladder[at_hand].name, following_name, policy, knob
        )

    def predict_answers(
        self, queries: Sequence[Query], answers: Sequence[Sequence[str | None]], prediction: Prediction
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``p_meets`` and ``quality`` in the light of answers, shape [n, S, T]: in each state of `seen_states`, before any policy.

        Parameters
        ----------
        queries : sequence of n queries
        answers : sequence of n sequences of T str or None
            In ladder order; what a state hasn't seen changes nothing in it.
        prediction : Prediction
            What :meth:`predict` said of the queries.
        """
        graph = self._acceptance()
        parts = []
        for start in range(0, len(queries), _ANSWERED):
            rows = slice(start, start + _ANSWERED)
            texts = [[None if a is None else answer_text(a) for a in row] for row in answers[rows]]
            ids = iter(self.tokenizer.encode_batch([text for row in texts for text in row if text]))
            tokens = [next(ids) if text else _NO_TOKENS for row in texts for text in row]
            features = [answer_features(bounded(q).text, row) for q, row in zip(queries[rows], texts, strict=True)]
            parts.append(graph.run(prediction.quality[rows], tokens, np.stack(features)))
        p_meets, quality = zip(*parts, strict=True)
        return np.concatenate(p_meets), np.concatenate(quality)

    def _seen(self, answer: str, tier: str, earlier: Mapping[str, str]) -> tuple[list[int], list[str | None]]:
        """The tiers that have answered, in the order of their answers, and the answers in ladder order."""
        answers: list[str | None] = [None] * len(self.ladder)
        seen = []
        for name, text in (*earlier.items(), (tier, answer)):
            if not isinstance(text, str):
                raise InputError(f"The answer of {name!r} is a {type(text).__name__}; it needs to be a string.")
            index = self.ladder.index(name)
            if index in seen:
                raise InputError(f"The tier {name!r} answered twice; give its last answer alone.")
            answers[index] = text
            seen.append(index)
        return seen, answers

    def _acceptance(self) -> AcceptanceGraph:
        """The acceptance model, loaded when it is first asked for."""
        if not self._acceptance_model:
            raise InputError("The artifact holds no acceptance model. Fit it with 'router-ml fit --cascade'.")
        with self._acceptance_lock:
            if self._acceptance_graph is None:
                session = _session(base64.b64decode(self._acceptance_model), 1)
                self._acceptance_graph = AcceptanceGraph(session, len(self.ladder))
            return self._acceptance_graph

    def predict(self, queries: Iterable[Query]) -> Prediction:
        """The model's outputs for each query, before any policy."""
        parts = list(self.predict_iter(queries))
        if not parts:
            none = np.empty((0, len(self.ladder)), np.float32)
            return self._prediction([none, none, none, np.empty(0, np.float32)], [])
        return parts[0] if len(parts) == 1 else Prediction.concatenate(parts)

    def predict_iter(self, queries: Iterable[Query]) -> Iterator[Prediction]:
        """:meth:`predict` for a stream of any length, in parts of about a thousand queries each."""
        if isinstance(queries, str):
            raise InputError("'queries' is one string; it needs to be a sequence of queries, e.g. ['...'].")
        return self._predict_stream(iter(queries))

    def _predict_stream(self, queries: Iterator[Query]) -> Iterator[Prediction]:
        # The graph runs in threads of its own (onnxruntime lets go of the interpreter's lock), while this one tokenizes.
        waiting: deque[tuple[list[int], list[NDArray[np.intp]], list[Future[Any]]]] = deque()
        n_read = 0
        with ThreadPoolExecutor(self._workers) as pool:
            while chunk := list(islice(queries, _CHUNK)):
                texts = _bounded_all(chunk, n_read)
                n_read += len(chunk)
                ids = self.tokenizer.encode_batch([t.text for t in texts])
                n_chars = [t.n_chars for t in texts]
                batches = _batches([len(i) for i in ids])
                parts = [([ids[i] for i in rows], [n_chars[i] for i in rows]) for rows in (b.tolist() for b in batches)]
                if len(parts) <= _FEW_RUNS and not waiting:
                    yield self._collect(n_chars, batches, [self.run(*part) for part in parts])
                    continue
                waiting.append((n_chars, batches, [pool.submit(self.run, *part) for part in parts]))
                if len(waiting) > 1:
                    n_chars, batches, runs = waiting.popleft()
                    yield self._collect(n_chars, batches, [run.result() for run in runs])
            for n_chars, batches, runs in waiting:
                yield self._collect(n_chars, batches, [run.result() for run in runs])

    def _collect(
        self, n_chars: list[int], batches: list[NDArray[np.intp]], outputs: list[list[NDArray[np.float32]]]
    ) -> Prediction:
        back = np.argsort(np.concatenate(batches))
        return self._prediction([np.concatenate(column)[back] for column in zip(*outputs, strict=True)], n_chars)

    def run(self, ids: Sequence[NDArray[np.int64]], n_chars: Sequence[int]) -> list[NDArray[np.float32]]:
        """Run the graph once: token ids and lengths in characters of n prompts to its four outputs."""
        feed = self._feed_one(ids[0], n_chars[0]) if len(ids) == 1 else self._feed(ids, n_chars)
        outputs: list[NDArray[np.float32]] = self._run(_OUTPUTS, feed, None)
        return outputs

    def _feed_one(self, ids: NDArray[np.int64], n_chars: int) -> dict[str, NDArray[Any]]:
        length = len(ids)
        if length == 0:
            return self._feed([ids], [n_chars])
        feed: dict[str, NDArray[Any]] = {
            "input_ids": ids.reshape(1, length),
            "log_n_chars": np.array([[math.log1p(n_chars)]], dtype=np.float32),
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
        padded = np.full(is_token.shape, self.metadata.pad_id, dtype=np.int64)
        padded[is_token] = np.concatenate(ids)
        feed: dict[str, NDArray[Any]] = {
            "input_ids": padded,
            "log_n_chars": np.log1p(n_chars).astype(np.float32)[:, None],
        }
        if self._has_weights:
            feed["token_weights"] = (is_token / np.maximum(lengths, 1)[:, None]).astype(np.float32)[:, None, :]
        if self._has_mask:
            feed["attention_mask"] = is_token.astype(np.int64)
        return feed

    def _prediction(self, outputs: Sequence[NDArray[np.float32]], n_chars: Sequence[int]) -> Prediction:
        p_meets, quality, output_tokens, novelty = outputs
        input_tokens = self._base + self._per_char * np.array(n_chars, dtype=np.float64)[:, None]
        cost_usd = self.ladder.cost_usd(input_tokens, output_tokens)
        return Prediction(p_meets, quality, output_tokens, cost_usd, novelty, input_tokens)

    def _decide_plainly(
        self, outputs: Sequence[NDArray[np.float32]], n_chars: int, policy: Policy, knob: float
    ) -> Decision:
        """What :meth:`_decide` answers for one query that each tier may take, without arrays."""
        p_meets: list[float] = outputs[0][0].tolist()
        quality: list[float] = outputs[1][0].tolist()
        tokens: list[float] = outputs[2][0].tolist()
        tier, reason = 0, "best_value"
        if policy == "value":
            best = -math.inf
            for t, (fixed, per_char, per_output) in enumerate(self._usd):
                value = quality[t] - knob * (fixed + per_char * n_chars + per_output * tokens[t])
                if value > best:
                    tier, best = t, value
        else:
            reason = "meets_bar"
            while p_meets[tier] < knob:
                tier += 1
                if tier == len(p_meets):
                    tier, reason = p_meets.index(max(p_meets)), "none_meets_bar"
                    break
        fixed, per_char, per_output = self._usd[tier]
        cost_usd = fixed + per_char * n_chars + per_output * tokens[tier]
        name, model = self._names[tier]
        return Decision(name, model, p_meets[tier], quality[tier], cost_usd, policy, knob, reason)

    def _decide(self, prediction: Prediction, policy: Policy, knob: float, mask: NDArray[np.bool_]) -> list[Decision]:
        may = mask & (prediction.input_tokens < self._windows)
        n_allowed = may.sum(axis=1)
        if not n_allowed.all():
            raise QueryError(self._no_tier(prediction.input_tokens[n_allowed.argmin()], mask))
        chosen = choose(policy, knob, prediction.p_meets, prediction.quality, prediction.cost_usd, may)
        rows = np.arange(len(chosen))
        p_meets, quality, cost_usd = (
            table[rows, chosen].tolist() for table in (prediction.p_meets, prediction.quality, prediction.cost_usd)
        )
        return [
            Decision(name, model, p, q, c, policy, knob, _reason(policy, p >= knob, n))
            for (name, model), p, q, c, n in zip(
                (self._names[tier] for tier in chosen.tolist()),
                p_meets,
                quality,
                cost_usd,
                n_allowed.tolist(),
                strict=True,
            )
        ]

    def _knob(self, policy: Policy | None, threshold: float | None, lam: float | None) -> tuple[Policy, float]:
        if policy is None:
            if threshold is None and lam is None:
                return self._default
            policy = "bar" if lam is None else "value"
        if policy == "bar":
            if lam is not None:
                raise InputError("'lam' belongs to policy='value'; with policy='bar' give 'threshold'.")
            value = self._own_knob("bar") if threshold is None else threshold
            if not _finite(value) or not 0 <= value <= 1:
                raise InputError(f"The threshold is {value!r}; it needs to be a probability in [0, 1].")
            return policy, float(value)
        if policy == "value":
            if threshold is not None:
                raise InputError("'threshold' belongs to policy='bar'; with policy='value' give 'lam'.")
            value = self._own_knob("value") if lam is None else lam
            if not _finite(value) or value < 0:
                raise InputError(
                    f"'lam' is {lam!r}; policy='value' needs a number >= 0: the quality that one US dollar is worth."
                )
            return policy, float(value)
        raise InputError(f"The policy is {policy!r}; choose 'bar' or 'value'.")

    def _own_knob(self, policy: Policy) -> float | None:
        return next((s.knob for s in self.metadata.settings if s.policy == policy), None)

    def _mask(self, allowed: Collection[str] | None) -> NDArray[np.bool_]:
        if allowed is None:
            return self._everyone
        if isinstance(allowed, str) or not allowed:
            raise InputError(f"'allowed' is {allowed!r}; it needs to be a non-empty collection of tier names.")
        mask = np.zeros(len(self.ladder), dtype=bool)
        mask[[self.ladder.index(name) for name in allowed]] = True
        return mask

    def _no_tier(self, input_tokens: NDArray[np.float64], mask: NDArray[np.bool_]) -> str:
        reasons = [
            f"{tier.name}: about {tokens:,.0f} tokens, its context window is {tier.context_window:,}"
            if may
            else f"{tier.name}: not allowed"
            for tier, tokens, may in zip(self.ladder, input_tokens, mask, strict=True)
        ]
        return "No tier may take this query (" + "; ".join(reasons) + "). Shorten it, or allow another tier."


def _finite(value: object) -> TypeGuard[float]:
    try:
        return isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def _reason(policy: Policy, reaches: bool, n_allowed: int) -> str:
    if n_allowed == 1:
        return "only_tier"
    if policy == "value":
        return "best_value"
    return "meets_bar" if reaches else "none_meets_bar"


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _bounded_all(queries: Sequence[Query], n_before: int) -> list[Rendered]:
    texts = []
    for i, query in enumerate(queries):
        try:
            texts.append(bounded(query))
        except QueryError as exc:
            raise QueryError(f"Query {n_before + i} (from 0): {exc}") from exc
    return texts


def _batches(lengths: Sequence[int]) -> list[NDArray[np.intp]]:
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


def _session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's errors share no base of their own
        raise ArtifactError(f"onnxruntime can't load the artifact's graph ({exc}); export it again.") from exc
