"""Training, exporting and evaluating run BLAS, OpenMP and torch on one thread, whatever the process is allowed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from router_ml import workflow
from router_ml.core.router import Router
from router_ml.datasets import sample_ladder
from router_ml.learning.inputs import Inputs
from router_ml.learning.learners.mlp import MLPLearner
from router_ml.learning.targets import Targets
from router_ml.learning.threads import single_threaded

SOME = 3
"""Threads of each library outside the context."""

QUICK = workflow.FitOptions(learner="logistic", n_folds=2)


def numbers() -> set[int]:
    """The numbers of threads of all libraries of the process."""
    return {library["num_threads"] for library in threadpool_info()} | {torch.get_num_threads()}


@pytest.fixture
def several() -> Iterator[None]:
    """Several threads for each library."""
    before = torch.get_num_threads()
    with threadpool_limits(limits=SOME):
        torch.set_num_threads(SOME)
        yield
        torch.set_num_threads(before)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[[object, str], list[set[int]]]:
    """Notes the numbers of threads at each call of a module's function."""

    def watch(module: object, name: str) -> list[set[int]]:
        seen: list[set[int]] = []
        called = getattr(module, name)

        def noting(*args: object, **options: object) -> object:
            seen.append(numbers())
            return called(*args, **options)

        monkeypatch.setattr(module, name, noting)
        return seen

    return watch


def test_one_thread_inside_and_as_before_after(several: None) -> None:
    assert numbers() == {SOME}
    with single_threaded():
        assert numbers() == {1}
    assert numbers() == {SOME}


def test_one_inside_another_changes_nothing(several: None) -> None:
    with single_threaded():
        with single_threaded():
            assert numbers() == {1}
        assert numbers() == {1}
    assert numbers() == {SOME}


def test_an_error_restores_them_too(several: None) -> None:
    with pytest.raises(KeyError), single_threaded():
        raise KeyError
    assert numbers() == {SOME}


def test_the_environment_stays_as_it_is(several: None) -> None:
    before = dict(os.environ)
    with single_threaded():
        assert dict(os.environ) == before


def test_a_fit_learns_and_exports_on_one_thread(
    several: None, watch: Callable[[object, str], list[set[int]]], sample_path: Path, tmp_path: Path
) -> None:
    learned, exported = watch(workflow.train_model, "crossfit"), watch(workflow.export, "export")
    workflow.fit([sample_path], tmp_path / "router.onnx", ladder=sample_ladder(), options=QUICK, track=False)
    assert (learned, exported) == ([{1}], [{1}])
    assert numbers() == {SOME}


def test_an_artifact_is_evaluated_on_one_thread(
    several: None, watch: Callable[[object, str], list[set[int]]], artifact: Path, sample_path: Path
) -> None:
    evaluated = watch(workflow.evaluate, "evaluate")
    workflow.evaluate_router(Router.load(artifact), [sample_path], n_resamples=10)
    assert evaluated == [{1}]
    assert numbers() == {SOME}


def test_a_network_is_trained_on_one_thread(several: None) -> None:
    rng = np.random.default_rng(0)
    X = Inputs(rng.normal(size=(60, 5)).astype(np.float32), [np.arange(2, dtype=np.int32)] * 60)
    targets = Targets(*(rng.random((60, 2)) for _ in range(4)))
    seen: list[set[int]] = []
    MLPLearner(max_epochs=1, on_epoch=lambda epoch, losses: seen.append(numbers())).fit(X, targets)
    assert seen == [{1}]
    assert numbers() == {SOME}


@pytest.mark.slow
def test_the_same_bytes_for_any_number_of_threads_outside(sample_path: Path, tmp_path: Path) -> None:
    def digest(threads: str) -> str:
        out = tmp_path / "router.onnx"
        command = ["fit", str(sample_path), "--bar", "0.8", "--learner", "logistic", "--no-track", "--out", str(out)]
        environment = os.environ | {f"{name}_NUM_THREADS": threads for name in ("OMP", "OPENBLAS", "MKL")}
        subprocess.run([sys.executable, "-m", "router_ml.cli", *command], env=environment, check=True)
        return hashlib.sha256(out.read_bytes()).hexdigest()

    assert digest("1") == digest("2")
