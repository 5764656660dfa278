"""Acceptance: whether an answer that came back is good enough; `router_ml.core.cascade` says which tier to ask next where it isn't.

The artifact may hold a second graph, the acceptance model. It is given what the router's graph says of the prompt, the tokens of
the answers seen so far, and a few numbers on their form and on how far they agree. For each set of tiers that may have answered it
gives the expected quality of every tier: of those that answered, of these very answers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_ml.core.probes import Probes
from router_ml.core.text import cut

if TYPE_CHECKING:
    import onnxruntime

__all__ = [
    "CAUTION_KEY",
    "N_FORM",
    "N_SHARED",
    "PROBES_KEY",
    "Acceptance",
    "AcceptanceGraph",
    "answer_features",
    "answer_text",
    "seen_states",
]

CAUTION_KEY = "router_ml.caution"
"""Property of the acceptance model: the factor on the price of another call."""
PROBES_KEY = "router_ml.probes"
"""Another: :class:`router_ml.core.probes.Probes`, as JSON."""

N_FORM = 13
"""Features of each answer's form."""
N_SHARED = 3
"""Features of how far two answers agree."""
MAX_SEEN = 3
"""Answers that are looked at together at most; of more, the last."""

_HEAD, _TAIL = 6144, 2048
"""Bytes of an answer that are looked at: nobody waits for them as for a decision, and the end of an answer says most."""

_WORD = re.compile(r"\w+")
_OPTION = re.compile(r"^[ \t]*\(?([A-Z])[.):][ \t]+(.+)$", re.MULTILINE)
_STATED = re.compile(r"answer(?: is)?:?[ \t]*\(?\**\(?([A-Z])\b")
_LETTER = re.compile(r"\b([A-Z])\b")


class Acceptance(NamedTuple):
    """Whether to accept an answer, and what to do otherwise.

    Attributes
    ----------
    p : float
        Calibrated probability that the answer meets the bar.
    accepted : bool
        No other call is worth its price, so that an answer at hand should be used: that of `best_tier`.
    quality : float
        Expected quality of the answer, in [0, 1].
    best_tier : str
        The tier whose answer, of those seen, has the best expected quality.
    next_tier : str or None
        Where it isn't accepted, the tier to ask next.
    policy : str
        The policy's `kind` (`router_ml.core.policy`).
    parameter : float
        Its parameter.
    """

    p: float
    accepted: bool
    quality: float
    best_tier: str
    next_tier: str | None
    policy: str
    parameter: float


class AcceptanceGraph:
    """The loaded acceptance model.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        Of the second graph.
    n_tiers : int
    """

    def __init__(self, session: onnxruntime.InferenceSession, n_tiers: int) -> None:
        self._session = session
        properties = session.get_modelmeta().custom_metadata_map
        self.caution = float(properties[CAUTION_KEY])
        self.probes = Probes.from_json(properties[PROBES_KEY])
        self.states = seen_states(n_tiers)
        self._index = {state: i for i, state in enumerate(self.states)}

    def run(
        self, quality: NDArray[np.floating], tokens: Sequence[NDArray[np.integer]], features: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``p_meets`` and ``quality`` of n prompts, S states and T tiers, shape [n, S, T].

        Parameters
        ----------
        quality : array [n, T]
            The router's own output.
        tokens : sequence of n * T arrays
            Of each prompt's answers, in ladder order; empty where a tier hasn't answered.
        features : array [n, F]
            :func:`answer_features` of each prompt.
        """
        lengths = np.array([len(t) for t in tokens])
        is_token = np.arange(max(1, int(lengths.max()))) < lengths[:, None]
        ids = np.zeros(is_token.shape, dtype=np.int64)
        ids[is_token] = np.concatenate(tokens)
        feed: dict[str, NDArray[Any]] = {
            "input_ids": ids,
            "token_weights": (is_token / np.maximum(lengths, 1)[:, None]).astype(np.float32)[:, None, :],
            "prompt_quality": quality.astype(np.float32),
            "features": features.astype(np.float32),
        }
        p_meets, expected = self._session.run(["p_meets", "quality"], feed)
        return p_meets, expected

    def state_of(self, seen: Sequence[int]) -> int:
        """Index of the state in which these tiers have answered, in the order of their answers."""
        return self._index[tuple(sorted(seen[-MAX_SEEN:]))]


def seen_states(n_tiers: int) -> tuple[tuple[int, ...], ...]:
    """The sets of tiers that may have answered: of one, two and three tiers, each ascending."""
    sizes = range(1, min(MAX_SEEN, n_tiers) + 1)
    return tuple(state for size in sizes for state in combinations(range(n_tiers), size))


def answer_text(answer: str) -> str:
    """The text of an answer that is looked at: as of a prompt its head and its tail, of more bytes, but it may be empty.

    `router_ml.core.text.RENDER_VERSION` is the version of this, too.
    """
    if len(answer) > _HEAD + _TAIL:
        answer = answer[:_HEAD] + "\n" + answer[-_TAIL:]  # before each character is looked at
    return cut(answer.replace("\0", " ").encode("utf-8", "replace").decode("utf-8"), _HEAD, _TAIL)


def answer_features(prompt: str, answers: Sequence[str | None]) -> NDArray[np.float32]:
    """What is counted on answers: `N_FORM` numbers each, then `N_SHARED` for each pair; 0 where one is None.

    Parameters
    ----------
    prompt : str
        Text of the prompt: where it lists lettered options, an answer's choice is compared with its reasoning.
    answers : sequence of T str or None
        In ladder order; see :func:`answer_text`.
    """
    options = {letter: _words(text) for letter, text in _OPTION.findall(prompt)}
    words = [None if a is None else _WORD.findall(a.lower()) for a in answers]
    row: list[float] = []
    for answer, own in zip(answers, words, strict=True):
        row += (
            [0.0] * N_FORM if answer is None or own is None else [*_form(answer, own), *_choice(answer, own, options)]
        )
    for a, b in combinations(words, 2):
        row += [0.0] * N_SHARED if a is None or b is None else _shared(a, b)
    return np.array(row, dtype=np.float32)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _form(answer: str, words: list[str]) -> list[float]:
    return [
        math.log1p(len(answer)),
        len(set(words)) / max(len(words), 1),
        float(answer.rstrip()[-1:] in tuple('.)]}`"')),
        sum(c.isdecimal() for c in answer) / max(len(answer), 1),
        math.log1p(answer.count("\n")),
        float("?" in answer),
    ]


def _choice(answer: str, words: list[str], options: Mapping[str, list[str]]) -> list[float]:
    """Whether the answer states a choice, and how much of the chosen option, and of any other, stands in it."""
    stated = _STATED.findall(answer)
    letters = stated or _LETTER.findall(answer)
    chosen = letters[-1] if letters else ""
    found = float(bool(stated))
    if len(options) < 2 or chosen not in options:
        return [float(len(options) >= 2), 0.0, 0.0, 0.0, 0.0, 0.0, found]
    there = set(words)
    share = {k: sum(w in there for w in option) / max(len(option), 1) for k, option in options.items()}
    own, other = share[chosen], max(s for k, s in share.items() if k != chosen)
    whole = "".join(options[chosen])
    return [1.0, 1.0, own, other, own - other, float(bool(whole) and whole in "".join(words)), found]


def _shared(a: list[str], b: list[str]) -> list[float]:
    """Whether two answers are the same words, end in the same word, and their words' Jaccard similarity."""
    one, two = set(a), set(b)
    return [float(a == b), float(a[-1:] == b[-1:]), len(one & two) / max(len(one | two), 1)]
