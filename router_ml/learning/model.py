"""The fitted model: learner, calibration and novelty as one, its cross-validated predictions, and how it is stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from router_ml.errors import InputError
from router_ml.graph.builder import Graph
from router_ml.learning.calibration import Calibration
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.learners import Learner, make_learner
from router_ml.learning.novelty import Novelty
from router_ml.learning.targets import Outputs, Scores, Targets

__all__ = ["CrossFitted", "FittedModel", "crossfit", "group_folds", "quiet_copy"]


@dataclass(frozen=True, slots=True)
class FittedModel:
    """All that is learned from traffic, from inputs to outputs.

    Attributes
    ----------
    name : str
        The learner's name (`router_ml.learning.learners.LEARNERS`).
    learner, calibration, novelty
        Fitted.
    """

    name: str
    learner: Learner
    calibration: Calibration
    novelty: Novelty

    def predict(self, X: Inputs) -> Outputs:
        """Outputs for n prompts."""
        return Outputs(*self.calibration.apply(self.learner.predict(X)), self.novelty.predict(X.tokens))

    def to_graph(self, graph: Graph, x: InputNames) -> tuple[tuple[str, str, str], str]:
        """Add the model to a graph; gives the names of its calibrated outputs and of the novelty."""
        return self.calibration.to_graph(graph, self.learner.to_graph(graph, x)), self.novelty.to_graph(graph, x)

    @property
    def params(self) -> dict[str, Any]:
        """The learner's settings, as plain values."""
        params: dict[str, Any] = self.learner.get_params()  # type: ignore[attr-defined]
        return {k: v for k, v in params.items() if not callable(v) and not isinstance(v, Inputs)}

    def save(self, path: str | Path) -> None:
        """Write settings and arrays as ``.npz``, without pickle; the inverse of :meth:`load`."""
        arrays = _state(self.learner, "learner.")
        for part in ("calibration", "novelty"):
            value = getattr(self, part)
            arrays |= {f"{part}.{f.name}": getattr(value, f.name) for f in fields(value)}
        header = json.dumps({"name": self.name, "params": self.params}, sort_keys=True)
        path = Path(path)
        temporary = path.with_name(f".{path.name}.tmp.npz")
        np.savez(temporary, header=np.array(header), **arrays)
        temporary.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote; raises InputError where it can't be read."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                header = json.loads(str(stored["header"]))
                arrays = {key: stored[key] for key in stored.files if key != "header"}
            values = {key: array if array.ndim else array.item() for key, array in arrays.items()}
            learner = make_learner(header["name"], **header["params"])
            _restore(learner, _under(values, "learner."))
            calibration = Calibration(**_under(values, "calibration."))
            return cls(header["name"], learner, calibration, Novelty(**_under(values, "novelty.")))
        except (OSError, EOFError, BadZipFile, ValueError, KeyError, TypeError) as exc:
            raise InputError(f"The model {path} can't be read ({exc}); train it again.") from exc


def _state(learner: Learner, prefix: str) -> dict[str, Any]:
    """What is fitted, by name; that of a learner's parts under ``parts_.NAME.``."""
    state: dict[str, Any] = {}
    for name, value in vars(learner).items():
        if name == "parts_":
            for part, inner in value.items():
                state |= _state(inner, f"{prefix}parts_.{part}.")
        elif name.endswith("_"):
            state[prefix + name] = value
    return state


def _restore(learner: Any, state: dict[str, Any]) -> None:
    """The inverse of :func:`_state`."""
    vars(learner).update({name: value for name, value in state.items() if "." not in name})
    if hasattr(learner, "make_parts"):
        learner.parts_ = learner.make_parts()
        for part, inner in learner.parts_.items():
            _restore(inner, _under(state, f"parts_.{part}."))


def _under(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


@dataclass(frozen=True, slots=True)
class CrossFitted:
    """A model fitted on all prompts, and what models fitted without each prompt said of it.

    Attributes
    ----------
    model : FittedModel
    outputs : Outputs
        Out-of-fold, calibrated; an honest view of prompts not seen.
    folds : array [n]
        The fold that each prompt was left out with.
    """

    model: FittedModel
    outputs: Outputs
    folds: NDArray[np.intp]


def crossfit(
    name: str,
    learner: Learner,
    X: Inputs,
    targets: Targets,
    folds: NDArray[np.intp],
    *,
    on_fold: Callable[[], None] = lambda: None,
) -> CrossFitted:
    """Tune, predict out of fold, calibrate on that, and fit on everything.

    Parameters
    ----------
    name : str
        The learner's name.
    learner : Learner
        Unfitted.
    X : Inputs
        Of n prompts.
    targets : Targets
        What was observed.
    folds : array [n] of int
        See :func:`group_folds`.
    on_fold : callable
        Called after each of the folds, for progress.

    Returns
    -------
    CrossFitted
    """
    tuned = learner.tune(X, targets, folds)
    scores = Scores(*(np.zeros_like(targets.meets) for _ in fields(Scores)))
    for fold in np.unique(folds):
        out = folds == fold
        fold_scores = quiet_copy(tuned).fit(X[~out], targets.take(~out)).predict(X[out])
        for field in fields(Scores):
            getattr(scores, field.name)[out] = getattr(fold_scores, field.name)
        on_fold()
    calibration = Calibration.fit(scores, targets)
    novelty, held_out_novelty = Novelty.crossfit(X.tokens, folds)
    model = FittedModel(name, tuned.fit(X, targets), calibration, novelty)
    return CrossFitted(model, Outputs(*calibration.apply(scores), held_out_novelty), folds)


def quiet_copy(learner: Learner) -> Learner:
    """An unfitted copy that reports no epochs: those of the final fit are the ones to see."""
    from sklearn.base import clone

    copy: Any = clone(learner)
    if "on_epoch" in copy.get_params():
        copy.set_params(on_epoch=None)
    quiet: Learner = copy
    return quiet


def group_folds(groups: NDArray[np.intp], *, n_folds: int = 5, random_state: int = 0) -> NDArray[np.intp]:
    """Deal groups of prompts into folds of nearly equal numbers of groups, at random; shape [n]."""
    unique, inverse = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(random_state).permutation(len(unique))
    folds: NDArray[np.intp] = (order % n_folds)[inverse]
    return folds
