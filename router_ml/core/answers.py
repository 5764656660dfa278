"""The acceptance model at work: answers in, and what they say of each tier's quality out."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from router_ml.core.acceptance import AcceptanceGraph, answer_features, answer_text
from router_ml.core.decision import Prediction
from router_ml.core.inference import open_session
from router_ml.core.text import Query, bounded
from router_ml.core.tokenize import TextTokenizer
from router_ml.errors import InputError
from router_ml.ladder import Ladder

__all__ = ["AnswerModel"]

_TOGETHER = 16
"""Prompts whose answers go through the model together: their tokens are counted in a table each."""
_NO_TOKENS = np.empty(0, dtype=np.int64)


class AnswerModel:
    """An artifact's acceptance model, loaded when it is first asked for.

    Parameters
    ----------
    model : str
        In base64; empty: the artifact holds none.
    ladder : Ladder
    tokenizer : TextTokenizer
        The artifact's.
    """

    def __init__(self, model: str, ladder: Ladder, tokenizer: TextTokenizer) -> None:
        self._model = model
        self._ladder = ladder
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._graph: AcceptanceGraph | None = None

    @property
    def is_there(self) -> bool:
        """Whether the artifact holds one."""
        return bool(self._model)

    @property
    def graph(self) -> AcceptanceGraph:
        """The loaded model; raises InputError where there is none."""
        if not self._model:
            raise InputError("The artifact holds no acceptance model. Fit it with 'router-ml fit --cascade'.")
        with self._lock:
            if self._graph is None:
                self._graph = AcceptanceGraph(open_session(base64.b64decode(self._model), 1), len(self._ladder))
            return self._graph

    def predict(
        self, queries: Sequence[Query], answers: Sequence[Sequence[str | None]], prediction: Prediction
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``p_meets`` and ``quality`` in the light of answers, shape [n, S, T]: in each state of `seen_states`, before any policy.

        Parameters
        ----------
        queries : sequence of n queries
        answers : sequence of n sequences of T str or None
            In ladder order; what a state hasn't seen changes nothing in it.
        prediction : Prediction
            What the router said of the queries.
        """
        graph = self.graph
        parts = []
        for start in range(0, len(queries), _TOGETHER):
            rows = slice(start, start + _TOGETHER)
            texts = [[None if a is None else answer_text(a) for a in row] for row in answers[rows]]
            ids = iter(self._tokenizer.encode_batch([text for row in texts for text in row if text]))
            tokens = [next(ids) if text else _NO_TOKENS for row in texts for text in row]
            features = [answer_features(bounded(q).text, row) for q, row in zip(queries[rows], texts, strict=True)]
            parts.append(graph.run(prediction.quality[rows], tokens, np.stack(features)))
        p_meets, quality = zip(*parts, strict=True)
        return np.concatenate(p_meets), np.concatenate(quality)

    def seen(self, answer: str, tier: str, earlier: Mapping[str, str]) -> tuple[list[int], list[str | None]]:
        """The tiers that have answered, in the order of their answers, and the answers in ladder order."""
        answers: list[str | None] = [None] * len(self._ladder)
        seen = []
        for name, text in (*earlier.items(), (tier, answer)):
            if not isinstance(text, str):
                raise InputError(f"The answer of {name!r} is a {type(text).__name__}; it needs to be a string.")
            index = self._ladder.index(name)
            if index in seen:
                raise InputError(f"The tier {name!r} answered twice; give its last answer alone.")
            answers[index] = text
            seen.append(index)
        return seen, answers
