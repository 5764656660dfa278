"""The router: loads an artifact once, then decides."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, TypeGuard

import numpy as np
from numpy.typing import NDArray

from router_ml.core.artifact import Artifact, Metadata, read_artifact
from router_ml.core.policy import choose_by_bar, choose_by_value
from router_ml.core.text import Query, Rendered, render
from router_ml.core.tokenize import TextTokenizer
from router_ml.errors import ArtifactError, InputError, QueryError
from router_ml.ladder import Ladder

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Decision", "Policy", "Prediction", "Router"]

Policy = Literal["bar", "value"]

_OUTPUTS = ["p_meets", "quality", "output_tokens", "novelty"]
_MAX_ROWS, _MAX_POSITIONS = 256, 65_536
"""Prompts, and token positions with padding, in one run of the graph: enough to keep it busy, few enough to hold memory
flat (a position is a vector of the encoder's width)."""


class Decision(NamedTuple):
    """Which tier a query goes to, and why.

    Attributes
    ----------
    tier, model : str
        The chosen tier and the model behind it.
    p_meets : float
        Calibrated probability that its answer meets the bar.
    quality : float
        Expected quality of its answer, in [0, 1].
    cost_usd : float
        Expected cost of the call.
    policy : str
        ``"bar"`` or ``"value"``.
    knob : float
        The threshold, or `lam`, that was used.
    reason : str
        ``"meets_bar"``: the cheapest tier that reaches the threshold; ``"none_meets_bar"``: none reaches it, so the
        likeliest; ``"best_value"``: the best quality for its cost; ``"only_tier"``: no other tier may take the query.
    """

    tier: str
    model: str
    p_meets: float
    quality: float
    cost_usd: float
    policy: str
    knob: float
    reason: str

    @property
    def explanation(self) -> str:
        """The reason as a sentence."""
        match self.reason:
            case "meets_bar":
                return (
                    f"{self.tier} is the cheapest tier whose answer is likely enough to meet the bar "
                    f"({self.p_meets:.0%}, threshold {self.knob:.0%})."
                )
            case "none_meets_bar":
                return (
                    f"No tier reaches the threshold of {self.knob:.0%}; {self.tier} comes nearest ({self.p_meets:.0%})."
                )
            case "best_value":
                return f"{self.tier} has the best expected quality ({self.quality:.2f}) for its cost (${self.cost_usd:.6f})."
            case _:
                return f"{self.tier} is the only tier that may take this query."


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's outputs for n prompts and T tiers in ladder order.

    Attributes
    ----------
    p_meets, quality, output_tokens, cost_usd : array [n, T]
        Probability of meeting the bar, expected quality, expected tokens of the answer, expected cost in USD.
    novelty : array [n]
        How unlike the training traffic the prompt is; about 1 on that traffic itself.
    input_tokens : array [n, T]
        Expected tokens of the prompt.
    """

    p_meets: NDArray[np.float32]
    quality: NDArray[np.float32]
    output_tokens: NDArray[np.float32]
    cost_usd: NDArray[np.float64]
    novelty: NDArray[np.float32]
    input_tokens: NDArray[np.float64]


class Router:
    """Decides, for each query, which tier is the cheapest that will still be good enough.

    Make one with :meth:`load`. Threads may share it: the one thing that a call changes is the tokenizer's cache of words, which
    changes no answer.
    """

    def __init__(self, artifact: Artifact, *, threads: int = 1) -> None:
        self.metadata: Metadata = artifact.metadata
        self.ladder: Ladder = artifact.metadata.ladder
        self._session = _session(artifact.model, threads)
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
        prices = np.array([self._per_char, self._base, per_input, per_output, per_call]).T.tolist()
        self._plain = [(tier.name, tier.model, *usd) for tier, usd in zip(self.ladder, prices, strict=True)]

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
    def threshold(self) -> float:
        """The threshold used where none is given."""
        return self.metadata.thresholds[0].threshold

    def route(
        self,
        query: Query,
        *,
        policy: Policy = "bar",
        threshold: float | None = None,
        lam: float | None = None,
        allowed: Collection[str] | None = None,
    ) -> Decision:
        """Choose the tier for one query.

        Parameters
        ----------
        query : str or list of chat messages
            What :func:`router_ml.core.text.render` takes.
        policy : {"bar", "value"}
            ``"bar"``: the cheapest tier with ``p_meets >= threshold``; ``"value"``: the largest
            ``quality - lam * cost_usd``.
        threshold : float, optional
            For ``"bar"``, in [0, 1]; the artifact's first threshold where not given.
        lam : float, optional
            For ``"value"``, >= 0: the quality that one US dollar is worth.
        allowed : collection of str, optional
            Names of the tiers that may be chosen.

        Raises
        ------
        QueryError
            If the query can't be rendered, or no tier may take it.
        InputError
            If an option is out of its range.
        """
        knob = self._knob(policy, threshold, lam)
        mask = self._mask(allowed)
        rendered = render(query)
        ids = self.tokenizer.encode(rendered.text)
        outputs = self.run([ids], np.array([rendered.n_chars], dtype=np.float32))
        if policy == "value" or allowed is not None or rendered.n_chars >= self._always_fits:
            return self._decide(self._prediction(outputs, [rendered]), policy, knob, mask)[0]
        return self._decide_plainly(outputs, rendered.n_chars, knob)

    def route_batch(
        self,
        queries: Sequence[Query],
        *,
        policy: Policy = "bar",
        threshold: float | None = None,
        lam: float | None = None,
        allowed: Collection[str] | None = None,
    ) -> list[Decision]:
        """Choose the tier for each of many queries; options as in :meth:`route`."""
        knob = self._knob(policy, threshold, lam)
        mask = self._mask(allowed)
        return self._decide(self.predict(queries), policy, knob, mask)

    def _decide_plainly(self, outputs: Sequence[NDArray[np.float32]], n_chars: int, threshold: float) -> Decision:
        """What :meth:`_decide` answers for one query and the bar policy where each tier may be chosen, without arrays."""
        p_meets = outputs[0][0].tolist()
        tier = next((t for t, p in enumerate(p_meets) if p >= threshold), None)
        reason = "none_meets_bar" if tier is None else "meets_bar"
        if tier is None:
            tier = p_meets.index(max(p_meets))
        name, model, per_char, base, per_input, per_output, per_call = self._plain[tier]
        cost_usd = (base + per_char * n_chars) * per_input + float(outputs[2][0, tier]) * per_output + per_call
        quality = float(outputs[1][0, tier])
        return Decision(name, model, p_meets[tier], quality, cost_usd, "bar", threshold, reason)

    def _decide(self, prediction: Prediction, policy: Policy, knob: float, mask: NDArray[np.bool_]) -> list[Decision]:
        may = mask & (prediction.input_tokens < self._windows)
        if not may.any(axis=1).all():
            raise QueryError(self._no_tier(prediction.input_tokens[may.any(axis=1).argmin()], mask))
        if policy == "bar":
            chosen = choose_by_bar(prediction.p_meets, knob, may)
        else:
            chosen = choose_by_value(prediction.quality, prediction.cost_usd, knob, may)
        return [self._decision(prediction, i, int(k), policy, knob, int(may[i].sum())) for i, k in enumerate(chosen)]

    def predict(self, queries: Sequence[Query]) -> Prediction:
        """The model's outputs for each query, before any policy."""
        if isinstance(queries, str):
            raise InputError("'queries' is one string; it needs to be a sequence of queries, e.g. ['...'].")
        rendered = _render_all(queries)
        if not rendered:
            return self._prediction(
                [np.empty((0, len(self.ladder)), np.float32)] * 3 + [np.empty(0, np.float32)], rendered
            )
        ids = self.tokenizer.encode_batch([r.text for r in rendered])
        n_chars = np.array([r.n_chars for r in rendered], dtype=np.float32)
        batches = _batches([len(i) for i in ids])
        runs = [self.run([ids[i] for i in rows], n_chars[rows]) for rows in batches]
        back = np.argsort(np.concatenate(batches))
        return self._prediction([np.concatenate(column)[back] for column in zip(*runs, strict=True)], rendered)

    def run(self, ids: Sequence[NDArray[np.int64]], n_chars: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Run the graph once: token ids and lengths in characters of n prompts to its four outputs."""
        # An encoder needs at least one position, also where a text has no token of the vocabulary.
        longest = max(1, max(map(len, ids)))
        if len(ids) == 1 and len(ids[0]) == longest:
            padded = ids[0].reshape(1, longest)
        else:
            padded = np.full((len(ids), longest), self.metadata.pad_id, dtype=np.int64)
            for row, tokens in zip(padded, ids, strict=True):
                row[: len(tokens)] = tokens
        feed = {"input_ids": padded, "n_chars": n_chars}
        if "attention_mask" in self.metadata.inputs:
            lengths = np.array([len(t) for t in ids])
            feed["attention_mask"] = (np.arange(longest) < lengths[:, None]).astype(np.int64)
        outputs: list[NDArray[np.float32]] = self._session.run(_OUTPUTS, feed)
        return outputs

    def _prediction(self, outputs: Sequence[NDArray[np.float32]], rendered: Sequence[Rendered]) -> Prediction:
        p_meets, quality, output_tokens, novelty = outputs
        chars = np.array([r.n_chars for r in rendered], dtype=np.float64)
        input_tokens = self._base + self._per_char * chars[:, None]
        cost_usd = self.ladder.cost_usd(input_tokens, output_tokens)
        return Prediction(p_meets, quality, output_tokens, cost_usd, novelty, input_tokens)

    def _decision(
        self, prediction: Prediction, row: int, tier: int, policy: Policy, knob: float, n_allowed: int
    ) -> Decision:
        p_meets = float(prediction.p_meets[row, tier])
        if n_allowed == 1:
            reason = "only_tier"
        elif policy == "value":
            reason = "best_value"
        else:
            reason = "meets_bar" if p_meets >= knob else "none_meets_bar"
        return Decision(
            tier=self.ladder[tier].name,
            model=self.ladder[tier].model,
            p_meets=p_meets,
            quality=float(prediction.quality[row, tier]),
            cost_usd=float(prediction.cost_usd[row, tier]),
            policy=policy,
            knob=knob,
            reason=reason,
        )

    def _knob(self, policy: Policy, threshold: float | None, lam: float | None) -> float:
        if policy == "bar":
            if lam is not None:
                raise InputError("'lam' belongs to policy='value'; with policy='bar' give 'threshold'.")
            value = self.threshold if threshold is None else threshold
            if not _finite(value) or not 0 <= value <= 1:
                raise InputError(f"The threshold is {value!r}; it needs to be a probability in [0, 1].")
            return float(value)
        if policy == "value":
            if threshold is not None:
                raise InputError("'threshold' belongs to policy='bar'; with policy='value' give 'lam'.")
            if not _finite(lam) or lam < 0:
                raise InputError(
                    f"'lam' is {lam!r}; policy='value' needs a number >= 0: the quality that one US dollar is worth."
                )
            return float(lam)
        raise InputError(f"The policy is {policy!r}; choose 'bar' or 'value'.")

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


def _render_all(queries: Sequence[Query]) -> list[Rendered]:
    rendered = []
    for i, query in enumerate(queries):
        try:
            rendered.append(render(query))
        except QueryError as exc:
            if len(queries) == 1:
                raise
            raise QueryError(f"Query {i} of {len(queries)} (from 0): {exc}") from exc
    return rendered


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
