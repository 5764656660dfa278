"""The acceptance model: what it learns from answers, and that its graph says the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from router_ml.core.acceptance import AcceptanceGraph, seen_states
from router_ml.errors import InputError
from router_ml.learning.acceptance import AcceptanceModel, Answers, fit_acceptance

N, COST = 600, np.array([1e-3, 1e-2])
PRIOR = np.array([0.6, 0.8])


def tokenize(texts: Sequence[str]) -> list[NDArray[np.int64]]:
    return [np.array([hash_of(word) for word in text.split()], dtype=np.int64) for text in texts]


def hash_of(word: str) -> int:
    return sum(ord(c) * 31**i for i, c in enumerate(word)) % 5000


def draw(*, told: bool, tried: float = 1.0) -> tuple[Answers, NDArray[np.float64]]:
    """A cheap tier that says where it guesses, if `told`; answers to `tried` of the prompts are there."""
    rng = np.random.default_rng(0)
    quality = (rng.random((N, 2)) < PRIOR).astype(float)
    seen = rng.random((N, 2)) < tried
    marks = np.where((quality == 1) if told else (rng.random((N, 2)) < 0.5), "certainly", "perhaps")
    responses = np.array([[f"{m} it is {k % 7}" for m in row] for k, row in enumerate(marks)], dtype=object)
    responses[~seen] = None
    return Answers.of([f"question {i}" for i in range(N)], responses, tokenize), np.where(seen, quality, np.nan)


def fit(answers: Answers, quality: NDArray[np.float64]) -> AcceptanceModel:
    cost = np.where(np.isnan(quality), np.nan, COST)
    shape = (N, 2)
    return fit_acceptance(
        np.broadcast_to(PRIOR, shape).copy(),
        np.broadcast_to(COST, shape).copy(),
        answers,
        quality,
        quality,
        cost,
        np.arange(N) % 5,
    )


@pytest.fixture(scope="module")
def told() -> tuple[Answers, NDArray[np.float64]]:
    return draw(told=True)


@pytest.fixture(scope="module")
def model(told: tuple[Answers, NDArray[np.float64]]) -> AcceptanceModel:
    return fit(*told)


def prior(n: int) -> NDArray[np.float64]:
    return np.broadcast_to(PRIOR, (n, 2)).copy()


def test_an_answer_that_says_whether_it_is_right_is_told_apart(told, model: AcceptanceModel) -> None:
    answers, quality = told
    p_meets, _ = model.predict(prior(N), answers)
    assert p_meets[quality[:, 0] == 1, 0, 0].mean() > 0.9
    assert p_meets[quality[:, 0] == 0, 0, 0].mean() < 0.1


def test_answers_that_say_nothing_leave_what_the_prompt_said() -> None:
    answers, quality = draw(told=False)
    _, expected = fit(answers, quality).predict(prior(N), answers)
    assert np.abs(expected - quality.mean(axis=0)).mean() < 0.05


def test_a_state_looks_at_its_own_answers_only(told, model: AcceptanceModel) -> None:
    answers, _ = told
    first = seen_states(2).index((0,))
    none = np.empty(0, dtype=np.int64)
    width = answers.features.shape[1]
    alone = dataclasses.replace(
        answers,
        tokens=[answers.tokens[0], [none] * N],
        features=np.where(np.arange(width) < 13, answers.features, 0.0),
    )
    assert model.predict(prior(N), alone)[1][:, first] == pytest.approx(model.predict(prior(N), answers)[1][:, first])


def test_one_answer_a_prompt_is_enough() -> None:
    answers, quality = draw(told=True, tried=0.4)
    quality[~np.isnan(quality[:, 1]), 0] = np.nan
    answers = dataclasses.replace(answers, seen=~np.isnan(quality))
    p_meets, expected = fit(answers, quality).predict(prior(N), answers)
    known = ~np.isnan(quality[:, 0])
    assert p_meets[known & (quality[:, 0] == 1), 0, 0].mean() > 0.85
    # Nothing is known of the other tier where this one answered.
    assert expected[:, 0, 1] == pytest.approx(PRIOR[1])


def test_too_few_answers_are_refused() -> None:
    answers, quality = draw(told=True, tried=0.02)
    with pytest.raises(InputError, match="without --cascade"):
        fit(answers, quality)


def test_what_is_saved_is_loaded(model: AcceptanceModel, told, tmp_path: Path) -> None:
    model.save(tmp_path / "a.npz")
    again = AcceptanceModel.load(tmp_path / "a.npz")
    assert (again.caution, again.probes) == (model.caution, model.probes)
    assert np.array_equal(again.predict(prior(N), told[0])[1], model.predict(prior(N), told[0])[1])


def test_a_file_that_is_not_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"no")
    with pytest.raises(InputError, match="train it again"):
        AcceptanceModel.load(tmp_path / "a.npz")


def test_the_graph_says_what_the_model_says(model: AcceptanceModel, told) -> None:
    answers, _ = told
    session = onnxruntime.InferenceSession(model.to_onnx().SerializeToString(), providers=["CPUExecutionProvider"])
    rows = range(20)
    tokens = [answers.tokens[t][i] for i in rows for t in range(2)]
    graph = AcceptanceGraph(session, 2)
    got = graph.run(prior(20), tokens, answers.features[:20].astype(np.float32))
    expected = model.predict(prior(N), answers)
    assert (graph.caution, graph.probes) == (model.caution, model.probes)
    for a, b in zip(got, expected, strict=True):
        assert a == pytest.approx(b[:20], abs=1e-5)
