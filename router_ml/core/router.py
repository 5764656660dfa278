"""The router: loads an artifact once, then decides."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from router_ml.core.acceptance import Acceptance, next_step
from router_ml.core.answers import AnswerModel
from router_ml.core.artifact import Artifact, Metadata, Setting, read_artifact
from router_ml.core.decision import Decision, Policy, Prediction
from router_ml.core.explanation import Explanation, TierView
from router_ml.core.inference import EMBEDDING, Inference, batches
from router_ml.core.limits import Limits
from router_ml.core.neighbours import Neighbour, Neighbours
from router_ml.core.policy import choose, choose_reference
from router_ml.core.request import Options, Request, requirements, resolve
from router_ml.core.text import Query, Rendered, bounded
from router_ml.core.tokenize import TextTokenizer
from router_ml.errors import InputError, QueryError
from router_ml.ladder import Ladder

__all__ = ["Router"]

_CHUNK = 1024
"""Queries of a stream that are worked on together."""
_FEW_RUNS = 2
"""So many runs of the graph are done sooner than threads for them are started."""
_NEAREST = 5
"""Training prompts that an explanation names."""


class _Predicted(NamedTuple):
    """What is predicted of a part of a stream, and what its queries need by their content (None: nothing)."""

    prediction: Prediction
    needs: list[frozenset[str]] | None


class Router:
    """Decides, for each query, which tier is the cheapest that will still be good enough.

    Make one with :meth:`load`. Threads may share it: all that a call changes are caches (of words, of token weights, the acceptance
    model once it is asked for), which change no answer.
    """

    def __init__(self, artifact: Artifact, *, threads: int = 1) -> None:
        self.metadata: Metadata = artifact.metadata
        self.ladder: Ladder = artifact.metadata.ladder
        self.inference = Inference(artifact.model, self.metadata.inputs, self.metadata.pad_id, threads=threads)
        self._workers = max(1, _cores() // threads)
        self.tokenizer = TextTokenizer(
            artifact.tokenizer,
            max_tokens=self.metadata.max_tokens,
            add_special_tokens=self.metadata.add_special_tokens,
        )
        self._per_char = np.array(self.metadata.input_tokens_per_char)
        self._base = np.array(self.metadata.input_tokens_base)
        self._limits = Limits(self.ladder)
        # Shorter prompts fit into each tier's window, so there is a choice (unless there is one tier: then never).
        fits = (self._limits.windows - self._base) / np.maximum(self._per_char, 1e-9)
        self._always_fits = float(fits.min()) if len(self.ladder) > 1 else 0.0
        per_input, per_output, per_call = self.ladder.prices()
        # A call's expected cost: the first, plus the second a character, plus the third a token of the answer.
        usd = (per_call + self._base * per_input, self._per_char * per_input, per_output)
        self._usd: list[tuple[float, float, float]] = list(zip(*(u.tolist() for u in usd), strict=True))
        self._names = [(tier.name, tier.model) for tier in self.ladder]
        self._reference = self.ladder.index(self.metadata.reference)
        self._default = resolve(self.metadata)
        self._answers = AnswerModel(artifact.acceptance, self.ladder, self.tokenizer)
        self._neighbours = artifact.neighbours

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

    def route(self, query: Query, **options: Unpack[Options]) -> Decision:
        """Choose the tier for one query.

        Hard limits come first (context window, images, tools, tiers by name, a cost ceiling), then novelty: a query unlike the
        training traffic goes to the reference tier. Only then is anything expected of anyone.

        Parameters
        ----------
        query : str or list of chat messages
            What :func:`router_ml.core.text.render` takes.
        **options
            See :class:`router_ml.core.request.Options`: a policy with its knob or a certified promise, and limits.

        Raises
        ------
        QueryError
            If the query can't be rendered, or no tier may take it; the message names each tier's reason.
        InputError
            If an option is out of its range, or the artifact doesn't promise what is asked.

        Examples
        --------
        >>> router.route("What is 2 + 2?", max_loss=0.02, forbidden=["full"]).tier  # doctest: +SKIP
        'nano'
        """
        request = resolve(self.metadata, **options) if options else self._default
        text = bounded(query)
        ids = self.tokenizer.encode(text.text)
        needs = requirements(query)
        if needs or not request.is_plain or text.n_chars >= self._always_fits:
            said = self._prediction(self.inference.run_one(ids, text.n_chars), [text.n_chars])
            return self._decide(_Predicted(said, [needs]), request)[0]
        return self._decide_plainly(self.inference.run_row(ids, text.n_chars), text.n_chars, request)

    def route_batch(self, queries: Iterable[Query], **options: Unpack[Options]) -> list[Decision]:
        """Choose the tier for each of many queries, on all cores; options as in :meth:`route`."""
        return list(self.route_iter(queries, **options))

    def route_iter(self, queries: Iterable[Query], **options: Unpack[Options]) -> Iterator[Decision]:
        """:meth:`route_batch` for a stream of any length: memory is bounded, decisions come in the queries' order.

        Some thousand queries are read ahead.
        """
        request = resolve(self.metadata, **options) if options else self._default
        return chain.from_iterable(self._decide(part, request) for part in self._stream(_queries(queries)))

    def explain(self, query: Query, **options: Unpack[Options]) -> Explanation:
        """Say why a query goes where it goes; options as in :meth:`route`. Not as fast: it is made for people.

        Raises
        ------
        QueryError
            If the query can't be rendered. That no tier may take it is part of the answer.
        InputError
            See :meth:`route`.
        """
        request = resolve(self.metadata, **options)
        text, needs = bounded(query), requirements(query)
        ids = self.tokenizer.encode(text.text)
        part = _Predicted(self._prediction(self.inference.run_one(ids, text.n_chars), [text.n_chars]), [needs])
        said = part.prediction
        why_not = self._limits.why_not(request, needs, said)
        tables = (said.p_meets, said.quality, said.output_tokens, said.cost_usd)
        expected: list[tuple[float, float, float, float]] = list(zip(*(t[0].tolist() for t in tables), strict=True))
        views = tuple(
            TierView(name, model, *row, why)
            for (name, model), row, why in zip(self._names, expected, why_not, strict=True)
        )
        nearest: tuple[Neighbour, ...] = ()
        if self._neighbours:
            embedding = self.inference.run_one(ids, text.n_chars, outputs=[EMBEDDING])[0][0]
            nearest = Neighbours.from_text(self._neighbours).nearest(embedding, _NEAREST, self.ladder.names)
        decision = None if all(why_not) else self._decide(part, request)[0]
        return Explanation(decision, views, float(said.novelty[0]), self.metadata.novelty_threshold, nearest)

    @property
    def can_accept(self) -> bool:
        """Whether the artifact holds an acceptance model."""
        return self._answers.is_there

    @property
    def caution(self) -> float:
        """The factor on the price of another call that :meth:`accept` reckons with, chosen when it was fitted."""
        return self._answers.graph.caution

    def accept(
        self,
        query: Query,
        answer: str,
        tier: str,
        *,
        earlier: Mapping[str, str] | None = None,
        prediction: Prediction | None = None,
        **options: Unpack[Options],
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
        prediction : Prediction, optional
            What :meth:`predict` said of this one query, to spare asking again.
        **options
            As in :meth:`route`. ``"value"``: another tier is asked where its expected quality, in the light of the answers, less
            ``lam`` times its cost (and the artifact's caution) exceeds that of the best answer at hand. ``"bar"``: where no answer at
            hand reaches the threshold, the cheapest tier that does, else a likelier one. ``"reference"``: the reference tier, until
            it has answered.

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
        request = resolve(self.metadata, **options)
        policy, knob = request.policy, request.knob
        seen, answers = self._answers.seen(answer, tier, earlier or {})
        before = self.predict([query]) if prediction is None else prediction
        if before.quality.shape != (1, len(self.ladder)):
            raise InputError(
                f"'prediction' is of {len(before.quality)} queries; it needs to be what predict([query]) gave for this one."
            )
        told = self._answers.predict([query], [answers], before)
        p, q = (table[0, self._answers.graph.state_of(seen)].astype(np.float64) for table in told)
        may = self._limits.permitted(request, [requirements(query)], before)[0]
        if policy == "bar":
            at_hand, following = next_step(p, p, seen, may)
            reaching = (t for t in np.flatnonzero(may).tolist() if t not in seen and p[t] >= knob)
            following = None if p[at_hand] >= knob else next(reaching, following)
        else:
            lam = knob if policy == "value" else 0.0
            at_hand, following = next_step(q, q - self.caution * lam * before.cost_usd[0], seen, may)
            if policy == "reference":
                following = None if self._reference in seen or not may[self._reference] else self._reference
        following_name = None if following is None else self.ladder[following].name
        own = seen[-1]
        return Acceptance(
            float(p[own]), following is None, float(q[own]), self.ladder[at_hand].name, following_name, policy, knob
        )

    def predict_answers(
        self, queries: Sequence[Query], answers: Sequence[Sequence[str | None]], prediction: Prediction
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``p_meets`` and ``quality`` in the light of answers, shape [n, S, T]; see :meth:`AnswerModel.predict`."""
        return self._answers.predict(queries, answers, prediction)

    def predict(self, queries: Iterable[Query]) -> Prediction:
        """The model's outputs for each query, before any policy."""
        parts = list(self.predict_iter(queries))
        if not parts:
            none = np.empty((0, len(self.ladder)), np.float32)
            return self._prediction([none, none, none, np.empty(0, np.float32)], [])
        return parts[0] if len(parts) == 1 else Prediction.concatenate(parts)

    def predict_iter(self, queries: Iterable[Query]) -> Iterator[Prediction]:
        """:meth:`predict` for a stream of any length, in parts of about a thousand queries each."""
        return (part.prediction for part in self._stream(_queries(queries)))

    def _stream(self, queries: Iterator[Query]) -> Iterator[_Predicted]:
        # The graph runs in threads of its own (onnxruntime lets go of the interpreter's lock), while this one tokenizes.
        waiting: deque[tuple[_Chunk, list[NDArray[np.intp]], list[Future[Any]]]] = deque()
        n_read = 0
        with ThreadPoolExecutor(self._workers) as pool:
            while read := list(islice(queries, _CHUNK)):
                texts = _bounded_all(read, n_read)
                n_read += len(read)
                ids = self.tokenizer.encode_batch([t.text for t in texts])
                chunk = _Chunk([t.n_chars for t in texts], _needs(read))
                rows = batches([len(i) for i in ids])
                parts = [([ids[i] for i in b], [chunk.n_chars[i] for i in b]) for b in (r.tolist() for r in rows)]
                if len(parts) <= _FEW_RUNS and not waiting:
                    yield self._collect(chunk, rows, [self.inference.run(*part) for part in parts])
                    continue
                waiting.append((chunk, rows, [pool.submit(self.inference.run, *part) for part in parts]))
                if len(waiting) > 1:
                    chunk, rows, runs = waiting.popleft()
                    yield self._collect(chunk, rows, [run.result() for run in runs])
            for chunk, rows, runs in waiting:
                yield self._collect(chunk, rows, [run.result() for run in runs])

    def _collect(
        self, chunk: _Chunk, rows: list[NDArray[np.intp]], outputs: list[list[NDArray[np.float32]]]
    ) -> _Predicted:
        back = np.argsort(np.concatenate(rows))
        columns = [np.concatenate(column)[back] for column in zip(*outputs, strict=True)]
        return _Predicted(self._prediction(columns, chunk.n_chars), chunk.needs)

    def _prediction(self, outputs: Sequence[NDArray[np.float32]], n_chars: Sequence[int]) -> Prediction:
        p_meets, quality, output_tokens, novelty = outputs
        input_tokens = self._base + self._per_char * np.array(n_chars, dtype=np.float64)[:, None]
        cost_usd = self.ladder.cost_usd(input_tokens, output_tokens)
        return Prediction(p_meets, quality, output_tokens, cost_usd, novelty, input_tokens)

    def _decide_plainly(self, row: list[float], n_chars: int, request: Request) -> Decision:
        """What :meth:`_decide` answers for one query that each tier may take, from :meth:`Inference.run_row`, without arrays."""
        policy, knob, n_tiers = request.policy, request.knob, len(self._usd)
        p_meets, quality, tokens = row[:n_tiers], row[n_tiers : 2 * n_tiers], row[2 * n_tiers : 3 * n_tiers]
        novelty = row[-1]
        tier, reason = 0, "best_value"
        if novelty > request.novelty:
            tier, reason = self._reference, "novel"
        elif policy == "value":
            best = -math.inf
            for t, (fixed, per_char, per_output) in enumerate(self._usd):
                value = quality[t] - knob * (fixed + per_char * n_chars + per_output * tokens[t])
                if value > best:
                    tier, best = t, value
        elif policy == "bar":
            reason = "meets_bar"
            while p_meets[tier] < knob:
                tier += 1
                if tier == len(p_meets):
                    tier, reason = p_meets.index(max(p_meets)), "none_meets_bar"
                    break
        else:
            tier, reason = self._reference, "reference"
        fixed, per_char, per_output = self._usd[tier]
        cost_usd = fixed + per_char * n_chars + per_output * tokens[tier]
        name, model = self._names[tier]
        return Decision(name, model, p_meets[tier], quality[tier], cost_usd, policy, knob, reason, novelty)

    def _decide(self, part: _Predicted, request: Request) -> list[Decision]:
        said, policy, knob = part.prediction, request.policy, request.knob
        may = self._limits.permitted(request, part.needs, said)
        n_allowed = may.sum(axis=1)
        if not n_allowed.all():
            raise QueryError(self._no_tier(part, int(n_allowed.argmin()), request))
        novel = said.novelty > np.float64(request.novelty)  # in double precision, as for one query
        chosen = np.where(
            novel,
            choose_reference(said.quality, self._reference, may),
            choose(policy, knob, said.p_meets, said.quality, said.cost_usd, may),
        )
        rows = np.arange(len(chosen))
        p_meets, quality, cost_usd = (
            table[rows, chosen].tolist() for table in (said.p_meets, said.quality, said.cost_usd)
        )
        return [
            Decision(name, model, p, q, c, policy, knob, _reason(policy, p >= knob, n, is_novel), novelty)
            for (name, model), p, q, c, n, is_novel, novelty in zip(
                (self._names[tier] for tier in chosen.tolist()),
                p_meets,
                quality,
                cost_usd,
                n_allowed.tolist(),
                novel.tolist(),
                said.novelty.tolist(),
                strict=True,
            )
        ]

    def _no_tier(self, part: _Predicted, row: int, request: Request) -> str:
        needs = part.needs[row] if part.needs else frozenset[str]()
        reasons = self._limits.why_not(request, needs, part.prediction.take(slice(row, row + 1)))
        named = "; ".join(f"{tier}: {reason}" for tier, reason in zip(self.ladder.names, reasons, strict=True))
        return f"No tier may take this query ({named}). Shorten it, ask for less, or allow another tier."


class _Chunk(NamedTuple):
    """What is remembered of a chunk of a stream while the graph runs: lengths in characters, and needs."""

    n_chars: list[int]
    needs: list[frozenset[str]] | None


def _queries(queries: Iterable[Query]) -> Iterator[Query]:
    if isinstance(queries, str):
        raise InputError("'queries' is one string; it needs to be a sequence of queries, e.g. ['...'].")
    return iter(queries)


def _needs(queries: Sequence[Query]) -> list[frozenset[str]] | None:
    needs = [requirements(query) for query in queries]
    return needs if any(needs) else None


def _reason(policy: Policy, reaches: bool, n_allowed: int, novel: bool) -> str:
    if n_allowed == 1:
        return "only_tier"
    if novel:
        return "novel"
    if policy == "bar":
        return "meets_bar" if reaches else "none_meets_bar"
    return "best_value" if policy == "value" else "reference"


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
