"""Hard limits: which tiers may take a query at all, whatever is expected of their answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from router_ml.core.decision import Prediction
from router_ml.core.request import Request
from router_ml.ladder import CAPABILITIES, Ladder

__all__ = ["Limits"]


class Limits:
    """The limits of a ladder's tiers: context windows and capabilities. What isn't known of a tier doesn't limit it."""

    def __init__(self, ladder: Ladder) -> None:
        self._ladder = ladder
        windows = [math.inf if t.context_window is None else t.context_window for t in ladder]
        self.windows = np.array(windows, dtype=np.float64)
        self._able = {c: np.array([t.supports is None or c in t.supports for t in ladder]) for c in CAPABILITIES}

    def permitted(
        self, request: Request, needs: Sequence[frozenset[str]] | None, prediction: Prediction
    ) -> NDArray[np.bool_]:
        """Which tiers may take each of n queries; shape [n, T].

        Parameters
        ----------
        request : Request
        needs : sequence of n sets of str, or None
            What each query requires by its content; None: nothing.
        prediction : Prediction
            Of the queries.
        """
        answer = request.output_tokens or 0.0
        # A prompt that fills the window leaves no room for an answer.
        may: NDArray[np.bool_] = request.allowed & (prediction.input_tokens + max(answer - 1, 0.0) < self.windows)
        for capability in request.requires:
            may = may & self._able[capability]
        for i, own in enumerate(needs or ()):
            for capability in own:
                may[i] &= self._able[capability]
        if request.max_cost_usd is not None:
            may = may & (self._cost_usd(request, prediction) <= request.max_cost_usd)
        return may

    def why_not(self, request: Request, needs: frozenset[str], prediction: Prediction) -> list[str | None]:
        """Of each tier, why it may not take the one query that is predicted; None where it may."""
        cost = self._cost_usd(request, prediction)[0]
        return [
            self._why_not(t, request, needs | request.requires, float(prediction.input_tokens[0, t]), float(cost[t]))
            for t in range(len(self._ladder))
        ]

    def _why_not(
        self, t: int, request: Request, needs: frozenset[str], input_tokens: float, cost_usd: float
    ) -> str | None:
        if not request.allowed[t]:
            return "not allowed"
        lacking = [c for c in CAPABILITIES if c in needs and not self._able[c][t]]
        if lacking:
            return f"doesn't support {', '.join(lacking)}"
        if input_tokens + max((request.output_tokens or 0.0) - 1, 0.0) >= self.windows[t]:
            answer = f" and {request.output_tokens:,.0f} for the answer" if request.output_tokens else ""
            return f"about {input_tokens:,.0f} tokens{answer}, its context window is {self.windows[t]:,.0f}"
        if request.max_cost_usd is not None and not cost_usd <= request.max_cost_usd:
            return f"about ${cost_usd:.6f}, the ceiling is ${request.max_cost_usd:.6f}"
        return None

    def _cost_usd(self, request: Request, prediction: Prediction) -> NDArray[np.float64]:
        if request.output_tokens is None:
            return prediction.cost_usd
        return self._ladder.cost_usd(prediction.input_tokens, request.output_tokens)
