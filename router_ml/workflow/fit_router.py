"""The whole path in one call, and its tracked parts for the pipeline."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml import tracking
from router_ml.core.guarantee import Guarantee
from router_ml.core.menu import Menu, find_point
from router_ml.evaluation.summary import Evaluation
from router_ml.export.onnx_export import Parity, check_exportable
from router_ml.ladder import Ladder
from router_ml.learning.curve import CurvePoint, curve_text
from router_ml.learning.encoders import load_encoder
from router_ml.traffic.labels import count_labels
from router_ml.traffic.observations import Observations
from router_ml.traffic.split import split_by_hash
from router_ml.traffic.validate import Validated
from router_ml.workflow.data import Prepared, hash_files, prepare, read_traffic
from router_ml.workflow.embed import embed_prompts
from router_ml.workflow.evaluate import figures
from router_ml.workflow.export import export_router
from router_ml.workflow.options import FitOptions
from router_ml.workflow.train_model import embed_unjudged, log_inputs, train

__all__ = ["FitResult", "fit"]

logger = logging.getLogger(__name__)

_PARITY_SHARE, _MIN_PARITY, _MAX_PARITY = 0.05, 20, 500
_MAX_PARITY_SHARE = 0.2
_SALT = 1
"""Beside the seed, so that the parity check's prompts are other than those of a split by the seed alone."""


@dataclass(frozen=True, slots=True)
class FitResult:
    """What :func:`fit` made.

    Attributes
    ----------
    path : Path
        The artifact.
    traffic : Validated
    prepared : Prepared
    menu : Menu
    promises : tuple of Guarantee
        What was certified, and what could not be; empty where nothing was asked for.
    advice : str
        Where nothing useful could be certified, what to do; else empty.
    reason : str or None
        Why a search chose the learner; None where it was named.
    curve : tuple of CurvePoint
        What fewer prompts would have given.
    parity : Parity
    evaluation : Evaluation or None
        Cross-validated.
    rejects : Path or None
        Where the rejected rows are.
    run_id : str or None
        MLflow's.
    """

    path: Path
    traffic: Validated
    prepared: Prepared
    menu: Menu
    promises: tuple[Guarantee, ...]
    advice: str
    reason: str | None
    curve: tuple[CurvePoint, ...]
    parity: Parity
    evaluation: Evaluation | None
    rejects: Path | None
    run_id: str | None

    @property
    def label_counts(self) -> pl.DataFrame:
        """How many prompts have each label; columns ``label``, ``n``."""
        return count_labels(self.prepared.labels, self.prepared.ladder)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before the artifact is used: that nothing useful is certified, or nothing known to be gained, where that is so."""
        found = [f"CERTIFIES NOTHING USEFUL. {self.advice}"] if self.advice else []
        if self.evaluation is not None and not self.evaluation.better:
            found.append(
                f"NO BETTER than the single tiers, as far as {self.evaluation.n_prompts:,} prompts can tell: what it gains on them in "
                "cross-validation may be noise."
            )
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "warnings": list(self.warnings),
            "artifact": str(self.path),
            "n_prompts": len(self.prepared.observations),
            "tiers": self.prepared.ladder.to_dicts(),
            "notes": list(self.prepared.notes),
            "labels": dict(self.label_counts.iter_rows()),
            "headline": self.menu.headline,
            "menu": [p.to_dict() for p in self.menu.points],
            "default": self.menu.default,
            "promises": [p.to_dict() for p in self.promises],
            "advice": self.advice,
            "learner_chosen": self.reason,
            "learning_curve": [point._asdict() for point in self.curve],
            "parity": asdict(self.parity),
            "cross_validated": None if self.evaluation is None else self.evaluation.to_dict(),
            "rejected": self.traffic.rejects.height,
            "rejects": None if self.rejects is None else str(self.rejects),
            "mlflow_run": self.run_id,
        }

    def summary(self) -> str:
        """What was made and where it is, in a few lines, without the warnings."""
        counts = ", ".join(f"{name} {n:,}" for name, n in self.label_counts.iter_rows())
        lines = [
            f"Labels of {self.prepared.labels.height:,} prompts: {counts}",
            f"Artifact: {self.path} (checked on {self.parity.n_prompts} held-out prompts: p_meets differs by at most {self.parity.max_difference:.1g})",
            f"Default: {find_point(self.menu.points, self.menu.default)}",
        ]
        if self.reason is not None:
            lines.insert(1, f"Learner: {self.reason}")
        if self.curve:
            lines.append(f"Learning curve, gap closed on prompts held out: {curve_text(self.curve)}")
        if self.rejects is not None:
            lines.append(f"Rejected rows: {self.traffic.rejects.height:,}, in {self.rejects}")
        if self.run_id is not None:
            lines.append(f"MLflow run: {self.run_id}")
        return "\n".join(lines)


def fit(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    ladder: Ladder | None = None,
    options: FitOptions | None = None,
    track: bool = True,
) -> FitResult:
    """The whole offline path: read, label, embed, learn, calibrate, export, track.

    One prompt in twenty (of small traffic 20 prompts, of large 500 at most) is held out, for the check that the artifact
    answers as the trained model does.

    Parameters
    ----------
    paths : sequence of str or Path
        Traffic files, folders or globs.
    out : str or Path
        Where the artifact goes.
    ladder : Ladder, optional
        Read off the traffic where not given.
    options : FitOptions, optional
    track : bool
        Log the run to MLflow.

    Raises
    ------
    RouterError
        Of the kind that the failing step names; nothing is then written at `out`.
    """
    out, options = Path(out), options or FitOptions()
    traffic = read_traffic(paths, max_rejects=options.max_rejects)
    prepared = prepare(traffic.traffic, ladder, options.bar)
    encoder = load_encoder(options.encoder)
    check_exportable(encoder, options.learner)
    embedded = embed_prompts(
        prepared.observations.prompt.tolist(), encoder, cache=options.cache, progress=options.progress
    )
    held = _parity_rows(prepared.observations, options.random_state)
    with _run(out.stem, track) as run:
        log_inputs(run, prepared, options, traffic.traffic, source=str(paths[0]))
        seen, told = prepared.observations.take(~held), embedded.take(~held)
        unlabelled = embed_unjudged(
            prepared,
            options,
            lambda rest: embed_prompts(rest.prompt.tolist(), encoder, cache=options.cache, progress=options.progress),
        )
        trained = train(seen, told, prepared.ladder, options, run=run, encoder=encoder, unlabelled=unlabelled)
        parity = export_router(
            out,
            trained,
            encoder,
            prepared.ladder,
            options,
            parity_prompts=prepared.observations.prompt[held].tolist(),
            parity_answers=prepared.observations.response[held],
            provenance={"data_sha256": hash_files(paths), "n_prompts": int((~held).sum()), "mlflow_run": run.id},
        )
        rejects = traffic.write_rejects(out)
        if trained.evaluation is not None:
            run.log_metrics(trained.evaluation.metrics(), prefix="cv/")
            if track:
                run.log_figures(figures(trained.evaluation, trained.curve))
        run.log_router(out)
    return FitResult(
        path=out,
        traffic=traffic,
        prepared=prepared,
        menu=Menu(trained.menu, trained.default, trained.reference, prepared.ladder.names),
        promises=trained.promises,
        advice=trained.advice,
        reason=trained.reason,
        curve=trained.curve,
        parity=parity,
        evaluation=trained.evaluation,
        rejects=rejects,
        run_id=run.id,
    )


def _parity_rows(observations: Observations, random_state: int) -> NDArray[np.bool_]:
    n = len(observations)
    share = min(max(_PARITY_SHARE, min(_MIN_PARITY / n, _MAX_PARITY_SHARE)), _MAX_PARITY / n)
    held = split_by_hash(
        observations.prompt, observations.session_id, test_share=share, random_state=random_state + _SALT
    )
    if not held.any():
        held[0] = True
    return held


def _run(name: str, track: bool) -> AbstractContextManager[tracking.Run]:
    return tracking.start(name) if track else tracking.untracked()
