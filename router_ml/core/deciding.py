"""From what is predicted of queries to decisions: hard limits first, then novelty, then the policy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_ml.core.artifact import Metadata
from router_ml.core.decision import Decision, Policy, Prediction
from router_ml.core.limits import Limits
from router_ml.core.policy import choose, choose_reference
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
        # A call's expected cost: the first, plus the second a character, plus the third a token of the answer.
        usd = (per_call + self._base * per_input, self._per_char * per_input, per_output)
        self._usd: list[tuple[float, float, float]] = list(zip(*(u.tolist() for u in usd), strict=True))
        self._names = [(tier.name, tier.model) for tier in ladder]
        self.reference = ladder.index(metadata.reference)

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
        """What :meth:`decide` answers for one query that each tier may take, from :meth:`Inference.run_row`, without arrays."""
        policy, knob, n_tiers = request.policy, request.knob, len(self._usd)
        p_meets, quality, tokens = row[:n_tiers], row[n_tiers : 2 * n_tiers], row[2 * n_tiers : 3 * n_tiers]
        novelty = row[-1]
        tier, reason = 0, "best_value"
        if novelty > request.novelty:
            tier, reason = self.reference, "novel"
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
            tier, reason = self.reference, "reference"
        fixed, per_char, per_output = self._usd[tier]
        cost_usd = fixed + per_char * n_chars + per_output * tokens[tier]
        name, model = self._names[tier]
        return Decision(name, model, p_meets[tier], quality[tier], cost_usd, policy, knob, reason, novelty)

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
        policy, knob = request.policy, request.knob
        novel = said.novelty > np.float64(request.novelty)  # in double precision, as for one query
        chosen = np.where(
            novel,
            choose_reference(said.quality, self.reference, may),
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
                may.sum(axis=1).tolist(),
                novel.tolist(),
                said.novelty.tolist(),
                strict=True,
            )
        ]

    def of_tier(self, part: Predicted, tier: int, request: Request, reason: str) -> Decision:
        """The decision for a tier that was chosen otherwise, for the one query that is predicted."""
        said, (name, model) = part.prediction, self._names[tier]
        p_meets, quality, cost_usd = (float(t[0, tier]) for t in (said.p_meets, said.quality, said.cost_usd))
        return Decision(
            name, model, p_meets, quality, cost_usd, request.policy, request.knob, reason, float(said.novelty[0])
        )

    def _no_tier(self, part: Predicted, row: int, request: Request) -> str:
        needs = part.needs[row] if part.needs else frozenset[str]()
        reasons = self.limits.why_not(request, needs, part.prediction.take(slice(row, row + 1)))
        named = "; ".join(f"{tier}: {reason}" for tier, reason in zip(self._ladder.names, reasons, strict=True))
        return f"No tier may take this query ({named}). Shorten it, ask for less, or allow another tier."


def _reason(policy: Policy, reaches: bool, n_allowed: int, novel: bool) -> str:
    if n_allowed == 1:
        return "only_tier"
    if novel:
        return "novel"
    if policy == "bar":
        return "meets_bar" if reaches else "none_meets_bar"
    return "best_value" if policy == "value" else "reference"
