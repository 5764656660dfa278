"""How to fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router_ml.errors import InputError
from router_ml.learning.learners import LEARNERS
from router_ml.traffic.labels import Bar
from router_ml.traffic.validate import MAX_REJECTS

__all__ = ["AUTO", "FitOptions"]

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to fit; each field is an option of ``router-ml fit``.

    Parameters
    ----------
    bar : Bar
        What an answer has to reach.
    learner : str
        One of `router_ml.learning.learners.LEARNERS`; ``"auto"``: a small search chooses (`router_ml.learning.selection`).
    learner_params : mapping
        The learner's own settings.
    encoder : str
        See :func:`router_ml.learning.encoders.load_encoder`.
    quality_target : float
        The default setting keeps this share of the best single tier's quality, in (0, 1].
    n_folds : int
        Folds of the cross-validation.
    cascade : bool
        Learn from the logged responses, too, when to accept an answer.
    cache : Path or None
        Folder of the embedding cache; None: no cache.
    random_state : int
    max_rejects : float
        Share of unusable rows that is put up with.
    progress : bool
        Show bars on stderr.
    """

    bar: Bar = field(default_factory=lambda: Bar(0.8))
    learner: str = AUTO
    learner_params: Mapping[str, Any] = field(default_factory=dict)
    encoder: str = "static"
    quality_target: float = 1.0
    n_folds: int = 5
    cascade: bool = False
    cache: Path | None = None
    random_state: int = 0
    max_rejects: float = MAX_REJECTS
    progress: bool = False

    def __post_init__(self) -> None:
        if self.learner not in (AUTO, *LEARNERS):
            raise InputError(f"There is no learner {self.learner!r}; choose from {', '.join((AUTO, *LEARNERS))}.")
        if self.learner == AUTO and self.learner_params:
            raise InputError("Settings of a learner need its name: give 'learner' beside 'learner_params'.")
        if not 0 < self.quality_target <= 1:
            raise InputError(f"The quality target is {self.quality_target!r}; it needs to be a share in (0, 1].")
        if self.n_folds < 2:
            raise InputError(f"n_folds is {self.n_folds!r}; cross-validation needs at least 2.")

    def to_params(self) -> dict[str, Any]:
        """The settings that decide the result, flat, for a tracker."""
        settings = {f"bar.{k}": v for k, v in self.bar.to_dict().items()}
        settings |= {
            name: getattr(self, name) for name in ("learner", "encoder", "quality_target", "n_folds", "random_state")
        }
        if self.cascade:
            settings["cascade"] = True
        return settings | {f"learner.{k}": v for k, v in self.learner_params.items()}
