"""The acceptance model: what an answer says of its own quality, and of how other tiers would do on the same prompt.

In the light of the answers seen, each tier's expected quality moves away from what the prompt alone says. What is learned is that
move: with little data it shrinks to nothing, and the cascade to the router that starts it.

Two steps, both ridge regressions. On the tokens of each tier's answer: how far its quality is from expectation, and how far the
other tiers' is on average (a failed answer says that the prompt is hard). Then, for each set of tiers that may have answered, on
these scores, on the prompt's expected quality, on the answers' form and on how far they agree: the move of every tier.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from router_ml.core.acceptance import (
    CAUTION_KEY,
    N_FORM,
    N_SHARED,
    PROBES_KEY,
    answer_features,
    answer_text,
    seen_states,
)
from router_ml.core.probes import Probes
from router_ml.core.text import bounded
from router_ml.errors import InputError
from router_ml.graph.builder import Graph
from router_ml.learning.calibration import fit_platt
from router_ml.learning.escalation import Escalation, choose_escalation
from router_ml.learning.inputs import InputNames
from router_ml.learning.ngrams import N_FEATURES, NgramCounts, add_to_graph
from router_ml.learning.targets import expit, logit

if TYPE_CHECKING:
    import onnx
    from scipy.sparse import csr_matrix

__all__ = ["AcceptanceModel", "Answers", "fit_acceptance"]

Tokenize = Callable[[Sequence[str]], Sequence[NDArray[np.integer]]]

_ALPHA_WORDS = 10.0
"""Regularisation of the answers' words, in prompts: what cross-validation chose for prompts' words, too."""
_ALPHAS = (10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 1e5)
"""Of the second step; the last all but keeps what the prompt says."""
_MIN_ROWS = 50
"""Fewer prompts than this on which a set of tiers answered, and the last of them decides alone."""
_BY_WORDS = 2
_IN_HEADER = ("caution", "probes")
_P_MIN = 1e-3


@dataclass(frozen=True, slots=True)
class Answers:
    """What is known of the answers to n prompts.

    Attributes
    ----------
    tokens : sequence of T sequences of n arrays of int
        Token ids of each answer; empty where a tier hasn't answered.
    features : array [n, F]
        `router_ml.core.acceptance.answer_features`.
    seen : array [n, T] of bool
        Whether the tier has answered.
    """

    tokens: Sequence[Sequence[NDArray[np.integer]]]
    features: NDArray[np.float64]
    seen: NDArray[np.bool_]

    @classmethod
    def of(cls, prompts: Sequence[str], responses: NDArray[np.object_], tokenize: Tokenize) -> Answers:
        """From prompts and responses [n, T] of str or None."""
        texts = [[None if r is None else answer_text(r) for r in row] for row in responses.tolist()]
        rows = [answer_features(bounded(p).text, row) for p, row in zip(prompts, texts, strict=True)]
        none = np.empty(0, dtype=np.int64)
        ids = iter(tokenize([text for row in texts for text in row if text]))
        by_prompt = [[next(ids) if text else none for text in row] for row in texts]
        tokens = [list(column) for column in zip(*by_prompt, strict=True)]
        seen = np.array([[r is not None for r in row] for row in texts])
        return cls(tokens, np.array(rows, dtype=np.float64), seen)


@dataclass(frozen=True, slots=True)
class AcceptanceModel:
    """Fitted.

    Attributes
    ----------
    idf : array [N_FEATURES]
    words : array [N_FEATURES, 2 T]
        Of each tier's answers: the move of its own quality, and the mean move of the others'.
    weight : array [D, S, T]
        The second step, zero on what a state hasn't seen.
    intercept : array [S, T]
    platt : array [2, T]
        From the logit of the expected quality to that of meeting the bar.
    caution : float
        See `router_ml.evaluation.cascade`.
    probes : Probes
        Tiers that are asked first.
    """

    idf: NDArray[np.float64]
    words: NDArray[np.float32]
    weight: NDArray[np.float64]
    intercept: NDArray[np.float64]
    platt: NDArray[np.float64]
    caution: float
    probes: Probes

    @property
    def n_tiers(self) -> int:
        """Number of tiers."""
        return int(self.intercept.shape[1])

    def predict(
        self, prompt_quality: NDArray[np.floating], answers: Answers
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """``p_meets`` and ``quality`` [n, S, T] in each state (`router_ml.core.acceptance.seen_states`)."""
        scores = [
            NgramCounts.of(tokens).tf_idf(self.idf)
            @ self.words[:, _BY_WORDS * t : _BY_WORDS * (t + 1)].astype(np.float64)
            for t, tokens in enumerate(answers.tokens)
        ]
        X = np.column_stack([prompt_quality, *scores, answers.features])
        moved = np.einsum("nd,dst->nst", X, self.weight) + self.intercept
        quality = np.clip(prompt_quality[:, None, :] + moved, _P_MIN, 1 - _P_MIN)
        return expit(self.platt[0] * logit(quality) + self.platt[1]), quality

    def to_onnx(self) -> onnx.ModelProto:
        """The second graph; its inputs are those of `router_ml.core.acceptance.AcceptanceGraph`."""
        n_tiers, n_states = self.n_tiers, len(self.intercept)
        n_features = len(self.weight) - (1 + _BY_WORDS) * n_tiers
        graph = Graph()
        names = InputNames(
            "",
            graph.input("input_ids", np.int64, ["answers", "length"]),
            graph.input("token_weights", np.float32, ["answers", 1, "length"]),
        )
        prompt = graph.input("prompt_quality", np.float32, ["n", n_tiers])
        features = graph.input("features", np.float32, ["n", n_features])
        by_words = add_to_graph(graph, names, self.words, self.idf)
        # An answer has the scores of every tier's answers; those of its own tier stand on the diagonal.
        flat = graph.node("Reshape", by_words, graph.constant(np.array([-1, n_tiers * n_tiers * _BY_WORDS], np.int64)))
        diagonal = [t * n_tiers * _BY_WORDS + t * _BY_WORDS + k for t in range(n_tiers) for k in range(_BY_WORDS)]
        scores = graph.node("Gather", flat, graph.constant(np.array(diagonal, np.int64)), axis=1)
        x = graph.node("Concat", prompt, scores, features, axis=1)
        moved = graph.linear(x, self.weight.reshape(len(self.weight), -1), self.intercept.ravel())
        shape = graph.constant(np.array([-1, n_states, n_tiers], np.int64))
        before = graph.node("Unsqueeze", prompt, graph.constant(np.array([1], np.int64)))
        total = graph.node("Add", graph.node("Reshape", moved, shape), before)
        quality = graph.node("Clip", total, graph.floats(_P_MIN), graph.floats(1 - _P_MIN))
        odds = graph.node("Log", graph.node("Div", quality, graph.node("Sub", graph.floats(1), quality)))
        p_meets = graph.node("Sigmoid", graph.affine(odds, self.platt[0], self.platt[1]))
        graph.output(p_meets, "p_meets", ["n", n_states, n_tiers])
        graph.output(quality, "quality", ["n", n_states, n_tiers])
        model = graph.model()
        model.metadata_props.add(key=CAUTION_KEY, value=repr(self.caution))
        model.metadata_props.add(key=PROBES_KEY, value=self.probes.to_json())
        return model

    def save(self, path: str | Path) -> None:
        """Write as ``.npz``, without pickle; the inverse of :meth:`load`."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _IN_HEADER}
        header = {"caution": self.caution, "probes": self.probes.to_json()}
        np.savez(path, header=np.array(json.dumps(header)), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote; raises InputError where it can't be read."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                header = json.loads(str(stored["header"]))
                arrays = {f.name: stored[f.name] for f in fields(cls) if f.name not in _IN_HEADER}
            return cls(**arrays, caution=float(header["caution"]), probes=Probes.from_json(header["probes"]))
        except (OSError, EOFError, BadZipFile, ValueError, KeyError, TypeError) as exc:
            raise InputError(f"The acceptance model {path} can't be read ({exc}); train it again.") from exc


def fit_acceptance(
    prompt_quality: NDArray[np.float64],
    expected_cost: NDArray[np.float64],
    answers: Answers,
    quality: NDArray[np.float64],
    meets: NDArray[np.float64],
    cost: NDArray[np.float64],
    folds: NDArray[np.intp],
) -> AcceptanceModel:
    """Fit on logged answers.

    Parameters
    ----------
    prompt_quality, expected_cost : array [n, T]
        Expected from the prompt, out of fold.
    answers : Answers
    quality, meets, cost : array [n, T]
        Observed, NaN where not.
    folds : array [n]
        Those that the expectations were made over.

    Raises
    ------
    InputError
        If fewer than 50 answers are at hand.
    """
    n, n_tiers = quality.shape
    if (answers.seen & ~np.isnan(quality)).sum() < _MIN_ROWS:
        raise InputError(
            f"The traffic holds {int(answers.seen.sum())} responses, and a cascade needs {_MIN_ROWS} judged ones to learn from. "
            "Log the column 'response', or fit without --cascade."
        )
    move = quality - prompt_quality
    counts = [NgramCounts.of(tokens) for tokens in answers.tokens]
    idf = _stacked_idf(counts, answers.seen)
    scores = np.zeros((n, _BY_WORDS * n_tiers))
    words = np.zeros((N_FEATURES, _BY_WORDS * n_tiers), dtype=np.float32)
    for t in range(n_tiers):
        block = slice(_BY_WORDS * t, _BY_WORDS * (t + 1))
        Z, targets = counts[t].tf_idf(idf), _word_targets(move, t)
        words[:, block] = _fit_words(Z, targets, answers.seen[:, t])
        for fold in np.unique(folds):
            out = folds == fold
            scores[out, block] = Z[out] @ _fit_words(Z, targets, answers.seen[:, t] & ~out)
    X = np.column_stack([prompt_quality, scores, answers.features])
    states = seen_states(n_tiers)
    weight, intercept = np.zeros((X.shape[1], len(states), n_tiers)), np.zeros((len(states), n_tiers))
    after: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for s, state in enumerate(states):
        columns = _columns(state, n_tiers)
        rows = np.asarray(answers.seen[:, list(state)].all(axis=1))
        if rows.sum() < _MIN_ROWS:
            last = states.index((state[-1],))
            weight[:, s], intercept[s] = weight[:, last], intercept[last]
            after[state] = after[(state[-1],)] if len(state) > 1 else prompt_quality
            continue
        moves, alpha = _out_of_fold(X[:, columns], move, rows, folds, state)
        weight[columns, s], intercept[s] = _fit_moves(X[:, columns], move, rows, alpha)
        after[state] = np.clip(prompt_quality + moves, _P_MIN, 1 - _P_MIN)
    platt = [
        fit_platt(logit(after[(t,)][:, t]), np.where(answers.seen[:, t], meets[:, t], np.nan)) for t in range(n_tiers)
    ]
    escalation = Escalation()
    # It can be played on prompts that every tier answered.
    whole = np.asarray(answers.seen.all(axis=1) & ~np.isnan(quality + cost).any(axis=1))
    if whole.sum() >= 2 * _MIN_ROWS and n_tiers > 1:
        told = {state: table[whole] for state, table in after.items()}
        escalation = choose_escalation(prompt_quality[whole], expected_cost[whole], told, quality[whole], cost[whole])
    return AcceptanceModel(idf, words, weight, intercept, np.array(platt).T, *escalation)


def _stacked_idf(counts: Sequence[NgramCounts], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Inverse document frequency over the answers of all tiers."""
    from scipy.sparse import vstack

    there = [(c, seen[:, t]) for t, c in enumerate(counts)]
    return NgramCounts(vstack([c.counts[rows] for c, rows in there])).inverse_frequency()


def _word_targets(move: NDArray[np.float64], tier: int) -> NDArray[np.float64]:
    """The tier's own move, and the mean of the others'; NaN where none is known."""
    others = np.delete(move, tier, axis=1)
    known = ~np.isnan(others)
    mean = np.where(known, others, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.column_stack([move[:, tier], np.where(known.any(axis=1), mean, np.nan)])


def _fit_words(Z: csr_matrix, targets: NDArray[np.float64], rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights [N_FEATURES, 2]; zero where too few prompts tell."""
    weights = np.zeros((Z.shape[1], targets.shape[1]))
    for k in range(targets.shape[1]):
        known = rows & ~np.isnan(targets[:, k])
        if known.sum() >= _MIN_ROWS:
            weights[:, k] = (
                Ridge(alpha=_ALPHA_WORDS, solver="sparse_cg", tol=1e-4).fit(Z[known], targets[known, k]).coef_
            )
    return weights


def _columns(state: tuple[int, ...], n_tiers: int) -> NDArray[np.intp]:
    """The features that a state has seen: the prompt's, its answers', and its pairs'."""
    first_form = (1 + _BY_WORDS) * n_tiers
    first_shared = first_form + N_FORM * n_tiers
    columns = list(range(n_tiers))
    for t in state:
        columns += range(n_tiers + _BY_WORDS * t, n_tiers + _BY_WORDS * (t + 1))
        columns += range(first_form + N_FORM * t, first_form + N_FORM * (t + 1))
    for i, pair in enumerate(combinations(range(n_tiers), 2)):
        if set(pair) <= set(state):
            columns += range(first_shared + N_SHARED * i, first_shared + N_SHARED * (i + 1))
    return np.array(columns, dtype=np.intp)


def _fit_moves(
    X: NDArray[np.float64], move: NDArray[np.float64], rows: NDArray[np.bool_], alpha: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights [d, T] and intercepts [T], on standardised features; zero for a tier of which too little is known."""
    weight, intercept = np.zeros((X.shape[1], move.shape[1])), np.zeros(move.shape[1])
    for t in range(move.shape[1]):
        known = rows & ~np.isnan(move[:, t])
        if known.sum() < _MIN_ROWS:
            continue
        mean, scale = X[known].mean(axis=0), X[known].std(axis=0)
        # A constant column says nothing; scaling it up would say noise.
        Z = (X[known] - mean) / np.where(scale > 1e-6, scale, np.inf)
        solved = np.linalg.solve(Z.T @ Z + alpha * np.eye(Z.shape[1]), Z.T @ (move[known, t] - move[known, t].mean()))
        weight[:, t] = solved / np.where(scale > 1e-6, scale, np.inf)
        intercept[t] = move[known, t].mean() - mean @ weight[:, t]
    return weight, intercept


def _out_of_fold(
    X: NDArray[np.float64],
    move: NDArray[np.float64],
    rows: NDArray[np.bool_],
    folds: NDArray[np.intp],
    state: tuple[int, ...],
) -> tuple[NDArray[np.float64], float]:
    """Moves [n, T] by models fitted without each prompt's fold, at the alpha of least error, and that alpha.

    The error is of differences between a tier that answered and any other, on which the choice hangs; where no prompt has two
    answers, of the moves themselves.
    """
    best: tuple[float, NDArray[np.float64], float] | None = None
    pairs = [(s, u) for s in state for u in range(move.shape[1]) if u != s]
    for alpha in _ALPHAS:
        moves = np.zeros_like(move)
        for fold in np.unique(folds):
            out = folds == fold
            weight, intercept = _fit_moves(X, move, rows & ~out, alpha)
            moves[out] = X[out] @ weight + intercept
        error = (move - moves)[rows]
        differences = np.column_stack([error[:, s] - error[:, u] for s, u in pairs]) if pairs else error
        known = differences[~np.isnan(differences)]
        loss = float(np.mean((known if len(known) else error[~np.isnan(error)]) ** 2))
        if best is None or loss < best[0]:
            best = loss, moves, alpha
    assert best is not None  # there are alphas
    return best[1], best[2]
