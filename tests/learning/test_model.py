"""The fitted model: out-of-fold means out of fold, groups stay together, and what is stored is what is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.errors import InputError
from router_ml.learning.learners import LEARNERS, make_learner
from router_ml.learning.model import CrossFitted, FittedModel, crossfit, group_folds
from router_ml.learning.targets import Targets, logit

Draw = Callable[..., tuple[np.ndarray, Targets]]


def untuned(name: str) -> Any:
    """A learner whose tuning looks at nothing, so that what a prompt's targets reach is the fit alone."""
    small = {
        "mlp": {"hidden": 8, "max_epochs": 10, "lr": 1e-2},
    }
    learner = make_learner(name, **small.get(name, {}))
    learner.tune = lambda *_: learner  # type: ignore[method-assign]
    return learner


def fit(name: str, X: np.ndarray, targets: Targets) -> CrossFitted:
    return crossfit(name, untuned(name), X, targets, np.arange(len(X)) % 4)


def out_of_fold_scores(fitted: CrossFitted) -> np.ndarray:
    """The learner's own scores, from before the calibration."""
    slope, intercept = fitted.model.calibration.meets
    return (logit(fitted.outputs.p_meets) - intercept) / slope


EVERY = [pytest.param(n, marks=pytest.mark.slow) if n == "distilled" else n for n in LEARNERS]
"""Of which a student's teacher, several learners cross-fitted, takes longer than all others together."""


# A constant's scores are all one, so that calibration leaves nothing to undo.
@pytest.mark.parametrize("name", [name for name in EVERY if name != "constant"])
def test_out_of_fold_scores_of_a_prompt_do_not_depend_on_its_own_targets(name: str, draw: Draw) -> None:
    X, targets = draw(200)
    flipped = Targets(*(getattr(targets, f.name).copy() for f in fields(targets)))
    flipped.meets[17] = 1 - flipped.meets[17]
    before, after = (out_of_fold_scores(fit(name, X, t)) for t in (targets, flipped))

    assert after[17] == pytest.approx(before[17], abs=1e-6)
    # Prompts of other folds do learn from it.
    assert np.abs(after - before).max() > 1e-4


def test_every_prompt_is_predicted_once_and_each_fold_is_reported(draw: Draw) -> None:
    X, targets = draw(60)
    calls: list[int] = []
    fitted = crossfit("knn", make_learner("knn"), X, targets, np.arange(60) % 3, on_fold=lambda: calls.append(1))

    assert fitted.outputs.p_meets.shape == (60, 3)
    assert len(calls) == 3


def test_outputs_are_in_their_ranges(draw: Draw) -> None:
    outputs = fit("logistic", *draw(200, tried=0.5)).outputs

    assert ((outputs.p_meets > 0) & (outputs.p_meets < 1)).all()
    assert ((outputs.quality > 0) & (outputs.quality < 1)).all()
    assert (outputs.output_tokens > 0).all()


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(2, 6))
def test_folds_keep_groups_together_and_balance_them(groups: list[int], n_folds: int) -> None:
    folds = group_folds(np.array(groups), n_folds=n_folds)
    of_group: dict[int, set[int]] = {}
    for group, fold in zip(groups, folds.tolist(), strict=True):
        of_group.setdefault(group, set()).add(fold)
    counts = np.bincount([f for s in of_group.values() for f in s], minlength=n_folds)

    assert all(len(s) == 1 for s in of_group.values())
    assert np.ptp(counts) <= 1


def test_folds_depend_on_the_random_state_alone() -> None:
    groups = np.arange(50)

    assert np.array_equal(group_folds(groups), group_folds(groups))
    assert not np.array_equal(group_folds(groups), group_folds(groups, random_state=1))


@pytest.mark.parametrize("name", EVERY)
def test_stored_model_predicts_exactly_the_same(name: str, draw: Draw, tmp_path: Path) -> None:
    X, targets = draw(100)
    model = fit(name, X, targets).model
    vars(model.learner).pop("tune", None)
    model.save(tmp_path / "model.npz")
    before, after = model.predict(X), FittedModel.load(tmp_path / "model.npz").predict(X)

    assert all(np.array_equal(getattr(before, f.name), getattr(after, f.name)) for f in fields(before))


def test_stored_model_keeps_its_settings(draw: Draw, tmp_path: Path) -> None:
    X, targets = draw(150)
    model = crossfit("logistic", make_learner("logistic"), X, targets, np.arange(150) % 3).model
    model.save(tmp_path / "model.npz")

    assert FittedModel.load(tmp_path / "model.npz").params == model.params


def test_saving_leaves_one_file(draw: Draw, tmp_path: Path) -> None:
    fit("knn", *draw(50)).model.save(tmp_path / "model.npz")

    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not a model", id="text"),
        pytest.param(b"PK\x03\x04 cut short", id="broken zip"),
        pytest.param(b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'", id="broken npy"),
    ],
)
def test_file_that_is_no_model_is_an_input_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.npz").write_bytes(content)

    with pytest.raises(InputError, match="can't be read"):
        FittedModel.load(tmp_path / "model.npz")


def test_model_cut_short_is_an_input_error(draw: Draw, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    fit("knn", *draw(50)).model.save(path)
    path.write_bytes(path.read_bytes()[:-200])

    with pytest.raises(InputError, match="can't be read"):
        FittedModel.load(path)


def test_missing_model_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        FittedModel.load(tmp_path / "absent.npz")


@pytest.mark.parametrize("header", ["{}", '{"name": "knn", "params": {}}', "[]"])
def test_npz_that_is_no_model_is_an_input_error(header: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", header=np.array(header))

    with pytest.raises(InputError, match="can't be read"):
        FittedModel.load(tmp_path / "model.npz")
