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
    max_quality_drop : float
        The default operating point loses at most this much expected quality against the reference tier, in [0, 1); 0.01: one point.
    max_seconds : float or None
        The search for a learner starts no other candidate after so many seconds. What is chosen then depends on the machine.
    n_folds : int
        Folds of the cross-validation.
    cascade : bool
        Learn from the logged responses, too, when to accept an answer.
    reference : str or None
        The reference tier; None: the tier of best mean quality (for a relative bar, the bar's own).
    max_loss, max_violation : float or None
        Certify the default: its expected quality loss against the reference tier, or its share of answers under the bar.
        Either holds prompts out of the training, for a table of promises to rest on.
    delta : float
        The chance that the promise fails, in (0, 1).
    calibration_share : float
        Share of the prompts that promises rest on, in (0, 1).
    safe_when_novel : bool
        Send queries unlike the training traffic to the reference tier.
    neighbours : bool
        Keep ids and outcomes of training prompts in the artifact, for `Router.explain` to name similar ones.
    structure : bool
        In logs where few prompts were answered by several tiers, let the tiers share what makes a prompt hard.
    cache : Path or None
        Folder of the embedding cache; None: no cache.
    random_state : int
    max_rejects : float
        Largest share of invalid rows to accept before failing.
    progress : bool
        Show bars on stderr.
    """

    bar: Bar = field(default_factory=lambda: Bar(0.8))
    learner: str = AUTO
    learner_params: Mapping[str, Any] = field(default_factory=dict)
    encoder: str = "static"
    max_quality_drop: float = 0.01
    max_seconds: float | None = None
    n_folds: int = 5
    cascade: bool = False
    reference: str | None = None
    max_loss: float | None = None
    max_violation: float | None = None
    delta: float = 0.05
    calibration_share: float = 0.3
    safe_when_novel: bool = True
    neighbours: bool = False
    structure: bool = True
    cache: Path | None = None
    random_state: int = 0
    max_rejects: float = MAX_REJECTS
    progress: bool = False

    def __post_init__(self) -> None:
        if self.learner not in (AUTO, *LEARNERS):
            raise InputError(f"There is no learner {self.learner!r}; choose from {', '.join((AUTO, *LEARNERS))}.")
        if self.learner == AUTO and self.learner_params:
            raise InputError("Settings of a learner need its name: give 'learner' beside 'learner_params'.")
        if isinstance(self.max_quality_drop, float | int):
            # As precise as the name of an operating point is.
            object.__setattr__(self, "max_quality_drop", round(self.max_quality_drop, 8) + 0.0)
        if not 0 <= self.max_quality_drop < 1:
            raise InputError(
                f"max_quality_drop is {self.max_quality_drop!r}; it needs to be a number in [0, 1), such as 0.01."
            )
        for name in ("max_loss", "max_violation", "delta", "calibration_share"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise InputError(f"{name} is {value!r}; it needs to be a number between 0 and 1.")
        if self.max_loss is not None and self.max_violation is not None:
            raise InputError("Give max_loss or max_violation: one of them chooses the default setting.")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise InputError(f"max_seconds is {self.max_seconds!r}; it needs to be a number of seconds above 0.")
        if self.n_folds < 2:
            raise InputError(f"n_folds is {self.n_folds!r}; cross-validation needs at least 2.")

    @property
    def promises(self) -> bool:
        """Whether prompts are held out for promises."""
        return self.max_loss is not None or self.max_violation is not None

    def to_params(self) -> dict[str, Any]:
        """The settings that decide the result, flat, for a tracker."""
        settings = {f"bar.{k}": v for k, v in self.bar.to_dict().items()}
        settings |= {
            name: getattr(self, name) for name in ("learner", "encoder", "max_quality_drop", "n_folds", "random_state")
        }
        if self.cascade:
            settings["cascade"] = True
        if self.promises:
            settings |= {n: getattr(self, n) for n in ("max_loss", "max_violation", "delta", "calibration_share")}
        settings |= {n: False for n in ("safe_when_novel", "structure") if not getattr(self, n)}
        if self.reference is not None:
            settings["reference"] = self.reference
        return settings | {f"learner.{k}": v for k, v in self.learner_params.items()}
