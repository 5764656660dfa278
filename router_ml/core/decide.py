"""From what is predicted of queries to decisions: hard limits first, then novelty, then the policy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_ml.core.artifact import Metadata
from router_ml.core.decision import Decision, Estimates, Prediction
from router_ml.core.limits import Limits
from router_ml.core.policy import Rule, Threshold
from router_ml.core.request import Request
from router_ml.errors import QueryError

__all__ = ["Decider", "Predicted"]


class Predicted(NamedTuple):
    """What is predicted of some queries, and what they need by their content (None: nothing)."""

    prediction: Prediction
    needs: list[frozenset[str]] | None


class Decider:
    """Decides by an artifact's metadata: many queries with arrays, one with plain numbers, which for few tiers takes less time."""

    def __init__(self, metadata: Metadata) -> None:
        ladder = self._ladder = metadata.ladder
        self.limits = Limits(ladder)
        self._per_char = np.array(metadata.input_tokens_per_char)
        self._base = np.array(metadata.input_tokens_base)
        # Shorter prompts fit into each tier's window in any script, so there is a choice (unless there is one tier: then never).
        fits = (self.limits.windows - self._base) / np.maximum(self._per_char, 1.0)
        self.always_fits = float(fits.min()) if len(ladder) > 1 else 0.0
        per_input, per_output, per_call = ladder.prices()
        parts = (self._base, self._per_char, per_input, per_output, per_call)
        self._usd: list[tuple[float, float, float, float, float]] = list(zip(*(u.tolist() for u in parts), strict=True))
        self._names = [(tier.name, tier.model) for tier in ladder]

    def prediction(
        self, outputs: Sequence[NDArray[np.float32]], n_chars: Sequence[int], least_tokens: Sequence[float] = ()
    ) -> Prediction:
        """The graph's outputs for n prompts, with what their calls cost; see :class:`Rendered` for the lengths."""
        p_meets, quality, output_tokens, novelty = outputs
        input_tokens = self._base + self._per_char * np.array(n_chars, dtype=np.float64)[:, None]
        cost_usd = self._ladder.cost_usd(input_tokens, output_tokens)
        if any(least_tokens):
            input_tokens = np.maximum(input_tokens, np.array(least_tokens)[:, None])
        return Prediction(p_meets, quality, output_tokens, cost_usd, novelty, input_tokens)

    def decide_row(self, row: list[float], n_chars: int, request: Request) -> Decision:
        """Fast path of :meth:`decide` for one query without hard limits: plain floats from :meth:`Inference.run_row`, no arrays."""
        rule, n_tiers = request.rule, len(self._usd)
        policy = rule.policy
        p_meets, quality, tokens = row[:n_tiers], row[n_tiers : 2 * n_tiers], row[2 * n_tiers : 3 * n_tiers]
        novelty = row[-1]
        tier = 0
        if novelty > rule.novelty_threshold:
            tier, reason = rule.reference, "novel"
        elif (price := request.price) is not None:
            reason, best = policy.reason, -math.inf
            for t, (base, per_char, per_input, per_output, per_call) in enumerate(self._usd):
                cost = (base + per_char * n_chars) * per_input + tokens[t] * per_output + per_call
                utility = quality[t] - price * cost
                if utility > best:
                    tier, best = t, utility
        elif isinstance(policy, Threshold):
            reaching = (t for t, p in enumerate(p_meets) if p >= policy.p_meets)
            found = next(reaching, None)
            tier, reason = (p_meets.index(max(p_meets)), "none_meets_bar") if found is None else (found, "meets_bar")
        else:
            tier, reason = request.single or 0, policy.reason
        cost_usd = self._cost_usd(tier, tokens[tier], n_chars)
        name, model = self._names[tier]
        fields = (name, model, p_meets[tier], quality[tier], cost_usd, policy.kind, policy.parameter, reason, novelty)
        return Decision.of(fields, (self._estimates, rule, row, n_chars))

    def _cost_usd(self, tier: int, output_tokens: float, n_chars: int) -> float:
        """Expected cost of a call, in the order of `Ladder.cost_usd`, so that both ways give the same bits."""
        base, per_char, per_input, per_output, per_call = self._usd[tier]
        return (base + per_char * n_chars) * per_input + output_tokens * per_output + per_call

    def _estimates(self, rule: Rule, row: list[float], n_chars: int) -> Estimates:
        """What a decision of :meth:`decide_row` rests on; computed when it is asked for."""
        n_tiers = len(self._usd)
        tokens = row[2 * n_tiers : 3 * n_tiers]
        cost_usd = [self._cost_usd(t, tokens[t], n_chars) for t in range(n_tiers)]
        return Estimates(rule, row[:n_tiers], row[n_tiers : 2 * n_tiers], cost_usd, None)

    def decide(self, part: Predicted, request: Request) -> list[Decision]:
        """Decisions for queries; raises QueryError where no tier may take one."""
        may = self.limits.permitted(request, part.needs, part.prediction)
        if not may.any(axis=1).all():
            raise QueryError(self._no_tier(part, int(may.any(axis=1).argmin()), request))
        return self._decisions(part.prediction, may, request)

    def decide_stream(self, parts: Iterable[Predicted], request: Request) -> Iterator[Decision]:
        """:meth:`decide` for the parts of a stream; those before a query that no tier may take come first."""
        n_before = 0
        for part in parts:
            may = self.limits.permitted(request, part.needs, part.prediction)
            stuck = np.flatnonzero(~may.any(axis=1))
            before = slice(stuck[0] if len(stuck) else len(may))
            yield from self._decisions(part.prediction.take(before), may[before], request)
            if len(stuck):
                raise QueryError(f"Query {n_before + stuck[0]} (from 0): {self._no_tier(part, int(stuck[0]), request)}")
            n_before += len(may)

    def _decisions(self, said: Prediction, may: NDArray[np.bool_], request: Request) -> list[Decision]:
        rule = request.rule
        novel = rule.is_novel(said.novelty).tolist()
        chosen = rule.choose(said.p_meets, said.quality, said.cost_usd, said.novelty, may).tolist()
        rows = zip(
            chosen,
            said.p_meets.tolist(),
            said.quality.tolist(),
            said.cost_usd.tolist(),
            said.novelty.tolist(),
            may.tolist(),
            novel,
            strict=True,
        )
        return [
            self._decision(tier, Estimates(rule, p, q, c, allowed), novelty, _reason(rule, p[tier], allowed, is_novel))
            for tier, p, q, c, novelty, allowed, is_novel in rows
        ]

    def of_tier(self, part: Predicted, tier: int, request: Request, reason: str) -> Decision:
        """The decision for a tier that was chosen otherwise, for the one query that is predicted."""
        said = part.prediction
        p_meets, quality, cost_usd = (t[0].tolist() for t in (said.p_meets, said.quality, said.cost_usd))
        known = Estimates(request.rule, p_meets, quality, cost_usd, None)
        return self._decision(tier, known, float(said.novelty[0]), reason)

    def _decision(self, tier: int, known: Estimates, novelty: float, reason: str) -> Decision:
        name, model = self._names[tier]
        policy = known.rule.policy
        expected = known.p_meets[tier], known.quality[tier], known.cost_usd[tier]
        return Decision.of((name, model, *expected, policy.kind, policy.parameter, reason, novelty), known)

    def _no_tier(self, part: Predicted, row: int, request: Request) -> str:
        needs = part.needs[row] if part.needs else frozenset[str]()
        reasons = self.limits.why_not(request, needs, part.prediction.take(slice(row, row + 1)))
        named = "; ".join(f"{tier}: {reason}" for tier, reason in zip(self._ladder.names, reasons, strict=True))
        return f"No tier may take this query ({named}). Shorten it, ask for less, or allow another tier."


def _reason(rule: Rule, p_meets: float, allowed: Sequence[bool], novel: bool) -> str:
    if sum(allowed) == 1:
        return "only_tier"
    if novel:
        return "novel"
    if isinstance(rule.policy, Threshold):
        return "meets_bar" if p_meets >= rule.policy.p_meets else "none_meets_bar"
    return rule.policy.reason
