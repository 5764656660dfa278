"""The router: loads an artifact once, then decides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, Unpack

import numpy as np
from numpy.typing import NDArray

from router_ml.core.acceptance import Acceptance
from router_ml.core.answers import AnswerModel
from router_ml.core.artifact import Artifact, Metadata, check_reads_tokens, read_artifact
from router_ml.core.cascade import Answered, next_call, opening
from router_ml.core.decide import Decider, Predicted
from router_ml.core.decision import Decision, Prediction
from router_ml.core.explanation import Explanation, TierView
from router_ml.core.inference import EMBEDDING, Inference
from router_ml.core.menu import Menu, OperatingPoint
from router_ml.core.neighbours import Neighbour, StoredNeighbours
from router_ml.core.probes import Probes
from router_ml.core.request import Options, RequestCache, requirements
from router_ml.core.stream import cores, run_stream
from router_ml.core.text import Query, Rendered, bounded
from router_ml.core.tokenize import TextTokenizer
from router_ml.errors import InputError
from router_ml.ladder import Ladder

__all__ = ["Router"]

_NEAREST = 5
"""Training prompts that an explanation names."""


class Router:
    """Decides, for each query, which tier is the cheapest that will still be good enough.

    Make one with :meth:`load`. Threads may share it: all that a call changes are caches (of words, of token weights, the acceptance
    model once it is asked for), which change no answer.
    """

    def __init__(self, artifact: Artifact, *, threads: int = 1, name: str = "") -> None:
        if not isinstance(artifact, Artifact):
            raise InputError(f"Router got {artifact!r}; it is made of a verified artifact. Use Router.load(path).")
        if not isinstance(threads, int) or threads < 1:
            raise InputError(f"'threads' is {threads!r}; it needs to be a whole number >= 1.")
        check_reads_tokens(artifact.metadata)
        self._name = name
        self.metadata: Metadata = artifact.metadata
        self.ladder: Ladder = artifact.metadata.ladder
        self.inference = Inference(
            artifact.model,
            self.metadata.inputs,
            self.metadata.pad_id,
            threads=threads,
            sides=self.metadata.side_encoders,
        )
        self._workers = max(1, cores() // threads)
        self.tokenizer = TextTokenizer(
            artifact.tokenizer,
            max_tokens=self.metadata.max_tokens,
            add_special_tokens=self.metadata.add_special_tokens,
        )
        self._decider = Decider(self.metadata)
        self._requests = RequestCache(self.metadata)
        self._answers = AnswerModel(artifact.acceptance, self.ladder, self.tokenizer)
        self._neighbours = StoredNeighbours(artifact.neighbours)

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
        InputError
            If `threads` is less than one.
        ArtifactError
            See :func:`router_ml.core.artifact.read_artifact`; or if the artifact takes text, which is for onnxruntime-extensions.
        """
        return cls(read_artifact(path), threads=threads, name=Path(path).name)

    def __repr__(self) -> str:
        """The file's name, the tiers from the cheapest to the most expensive, the default operating point and the learner."""
        tiers = " < ".join(self.ladder.names)
        return (
            f"Router({self._name!r}: {tiers}; default {self.default.name}; learner {self.metadata.learner.get('name')})"
        )

    @property
    def default(self) -> OperatingPoint:
        """The operating point that is used where a request names none."""
        return self.metadata.point()

    @property
    def menu(self) -> Menu:
        """All operating points of the artifact, each usable by name: ``route(query, at="2pt")``."""
        return self.metadata.menu

    def route(self, query: Query, **options: Unpack[Options]) -> Decision:
        """Choose the tier for one query.

        Hard limits come first (context window, images, tools, tiers by name, a cost ceiling), then novelty: a query unlike the
        training traffic goes to the reference tier. The policy is applied last.

        Parameters
        ----------
        query : str or list of chat messages
            What :func:`router_ml.core.text.render` takes.
        **options
            See :class:`router_ml.core.request.Options`: an operating point, a policy or a certified promise, and limits.

        Raises
        ------
        QueryError
            If the query can't be rendered, or no tier may take it; the message names each tier's reason.
        InputError
            If an option is out of its range, or the artifact doesn't promise what is asked.

        Examples
        --------
        >>> router.route("What is 2 + 2?", at="2pt", forbidden=["full"]).tier  # doctest: +SKIP
        'nano'
        """
        request = self._requests.resolve(options)
        rendered = bounded(query)
        text, n_chars = rendered
        ids = self.tokenizer.encode(text)
        needs = requirements(query)
        if needs or not request.is_plain or n_chars >= self._decider.always_fits:
            return self._decider.decide(self._predicted(ids, rendered, needs), request)[0]
        return self._decider.decide_row(self.inference.run_row(ids, n_chars, text), n_chars, request)

    def route_batch(self, queries: Iterable[Query], **options: Unpack[Options]) -> list[Decision]:
        """Choose the tier for each of many queries, on all cores; options as in :meth:`route`."""
        return list(self.route_iter(queries, **options))

    def route_iter(self, queries: Iterable[Query], **options: Unpack[Options]) -> Iterator[Decision]:
        """:meth:`route_batch` for a stream of any length: memory is bounded, decisions come in the queries' order.

        Some thousand queries are read ahead. Where one fails, or the source does, the decisions before it come first.
        """
        request = self._requests.resolve(options)
        return self._decider.decide_stream(self._stream(_queries(queries)), request)

    def explain(self, query: Query, **options: Unpack[Options]) -> Explanation:
        """Say why a query goes where it goes; options as in :meth:`route`. Not as fast: it is made for people.

        Raises
        ------
        QueryError
            If the query can't be rendered. That no tier may take it is part of the answer.
        InputError
            See :meth:`route`.
        """
        request = self._requests.resolve(options)
        rendered = bounded(query)
        ids = self.tokenizer.encode(rendered.text)
        needs = requirements(query)
        part = self._predicted(ids, rendered, needs)
        said = part.prediction
        why_not = self._decider.limits.why_not(request, needs, said)
        tables = (said.p_meets, said.quality, said.output_tokens, said.cost_usd)
        expected: list[tuple[float, float, float, float]] = list(zip(*(t[0].tolist() for t in tables), strict=True))
        views = tuple(
            TierView(tier.name, tier.model, *row, why)
            for tier, row, why in zip(self.ladder, expected, why_not, strict=True)
        )
        nearest: tuple[Neighbour, ...] = ()
        if self._neighbours.is_there:
            embedding = self.inference.run_one(ids, rendered.n_chars, rendered.text, outputs=[EMBEDDING])[0][0]
            nearest = self._neighbours.nearest(embedding, _NEAREST, self.ladder.names)
        decision = None if all(why_not) else self._decider.decide(part, request)[0]
        return Explanation(decision, views, float(said.novelty[0]), self.metadata.novelty_threshold, nearest)

    def training_prompt_ids(self) -> NDArray[np.str_]:
        """Ids of the training prompts, or of a sample, that the artifact holds; empty without ``fit --neighbours``."""
        return self._neighbours.ids()

    @property
    def can_accept(self) -> bool:
        """Whether the artifact holds an acceptance model."""
        return self._answers.is_there

    @property
    def caution(self) -> float:
        """The factor on the price of another call that :meth:`accept` applies, chosen when it was fitted; 1 without acceptance model."""
        return self._answers.graph.caution if self.can_accept else 1.0

    @property
    def probes(self) -> Probes:
        """The tiers that a cascade asks first for what their answers tell, chosen when it was fitted; none without acceptance model."""
        return self._answers.graph.probes if self.can_accept else Probes()

    def triage(self, query: Query, **options: Unpack[Options]) -> Decision:
        """Choose the tier that a cascade begins with; :meth:`accept` says how it goes on.

        It is :meth:`route`'s, except that under a policy that weighs quality against cost other tiers may go first for what their
        answers tell, where that paid on the training traffic (reason ``"probe"``).

        Raises
        ------
        QueryError
            As :meth:`route` does.
        InputError
            See :meth:`route`; or if the artifact holds no acceptance model, or a promise is asked for: none was certified for cascades.
        """
        _refuse_promise(options)
        request, probes = self._requests.resolve(options), self._answers.graph.probes
        rendered = bounded(query)
        part = self._predicted(self.tokenizer.encode(rendered.text), rendered, requirements(query))
        decision = self._decider.decide(part, request)[0]
        price = request.rule.quality_per_usd
        if price is None or decision.reason not in ("will_do", "best_utility"):
            return decision
        may = self._decider.limits.permitted(request, part.needs, part.prediction)[0]
        start = self.ladder.index(decision.tier)
        first = opening(probes, quality_per_usd=price, start=start, allowed=np.flatnonzero(may).tolist())
        return self._decider.of_tier(part, first[0], request, "probe") if first else decision

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
            Result of ``predict([query])``, to avoid computing it again.
        **options
            As in :meth:`route`. Policies that weigh quality against cost ask another tier where its expected quality, in the light of
            the answers, less the price of its cost (and the artifact's caution) exceeds that of the best answer at hand, and after a
            probe of :meth:`triage` those that go with it. `Threshold`: where no answer at hand reaches it, the cheapest tier that
            does, else a likelier one. `Reference` and `Single`: that tier, until it has answered.

        Raises
        ------
        QueryError
            If the query can't be rendered.
        InputError
            If the artifact holds no acceptance model, an argument is out of its range, or a promise is asked for.

        References
        ----------
        L. Chen, M. Zaharia, J. Zou (2023), "FrugalGPT", arXiv:2305.05176.
        """
        _refuse_promise(options)
        request = self._requests.resolve(options)
        graph = self._answers.graph
        seen, answers = self._answers.seen(answer, tier, earlier or {})
        before = self.predict([query]) if prediction is None else prediction
        if before.quality.shape != (1, len(self.ladder)):
            raise InputError(
                f"'prediction' is of {len(before.quality)} queries; it needs to be what predict([query]) gave for this one."
            )
        told = self._answers.predict([query], [answers], before)
        p, q = (table[0, graph.state_of(seen)].astype(np.float64) for table in told)
        may = self._decider.limits.permitted(request, [requirements(query)], before)[0]
        answered = Answered(seen=seen, p_meets=p, quality=q, before=before)
        at_hand, following = next_call(request.rule, answered, allowed=may, caution=graph.caution, probes=graph.probes)
        own, policy = seen[-1], request.rule.policy
        return Acceptance(
            p=float(p[own]),
            accepted=following is None,
            quality=float(q[own]),
            best_tier=self.ladder[at_hand].name,
            next_tier=None if following is None else self.ladder[following].name,
            policy=policy.kind,
            parameter=policy.parameter,
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
            return self._decider.prediction([none, none, none, np.empty(0, np.float32)], [])
        return parts[0] if len(parts) == 1 else Prediction.concatenate(parts)

    def predict_iter(self, queries: Iterable[Query]) -> Iterator[Prediction]:
        """:meth:`predict` for a stream of any length, in parts of about a thousand queries each."""
        return (part.prediction for part in self._stream(_queries(queries)))

    def _stream(self, queries: Iterator[Query]) -> Iterator[Predicted]:
        parts = run_stream(self.inference, self.tokenizer, queries, workers=self._workers)
        return (Predicted(self._decider.prediction(p.outputs, p.n_chars, p.least_tokens), p.needs) for p in parts)

    def _predicted(self, ids: NDArray[np.int64], rendered: Rendered, needs: frozenset[str]) -> Predicted:
        text, n_chars = rendered
        outputs = self.inference.run_one(ids, n_chars, text)
        return Predicted(self._decider.prediction(outputs, [n_chars], [rendered.least_tokens]), [needs])


def _queries(queries: Iterable[Query]) -> Iterator[Query]:
    if isinstance(queries, str | Mapping) or not isinstance(queries, Iterable):
        raise InputError(
            f"'queries' is a {type(queries).__name__}; it needs to be a sequence of queries, e.g. ['...']."
        )
    return iter(queries)


def _refuse_promise(options: Options) -> None:
    if options.get("max_loss") is not None or options.get("max_violation") is not None:
        raise InputError(
            "A promise is asked of a cascade, and was certified for route() alone; give an operating point or a policy instead."
        )
