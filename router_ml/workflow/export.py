"""The export of what was trained, and where it says that it comes from."""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_ml import tracking
from router_ml.export.onnx_export import Parity, export
from router_ml.ladder import Ladder
from router_ml.learning.encoders import Encoder, load_encoder
from router_ml.learning.threads import single_threaded
from router_ml.workflow.options import FitOptions
from router_ml.workflow.train_model import Trained

__all__ = ["export_router", "export_tracked"]


@single_threaded()
def export_router(
    path: Path,
    trained: Trained,
    encoder: Encoder,
    ladder: Ladder,
    options: FitOptions,
    *,
    parity_prompts: Sequence[str],
    provenance: Mapping[str, Any],
    parity_answers: NDArray[np.object_] | None = None,
) -> Parity:
    """Write the artifact, with its provenance; see :func:`router_ml.export.onnx_export.export`."""
    return export(
        path,
        encoder,
        trained.model,
        ladder=ladder,
        bar=options.bar.to_dict(),
        reference=trained.reference,
        reference_cost_usd=trained.reference_cost_usd,
        points=trained.menu,
        default=trained.default,
        guarantees=trained.promises,
        novelty_threshold=trained.model.novelty.threshold if options.safe_when_novel else None,
        neighbours=trained.neighbours,
        input_tokens=trained.input_tokens,
        provenance={**provenance, **_why(trained), "git_commit": _git_commit(), "versions": _versions()},
        parity_prompts=parity_prompts,
        acceptance=trained.acceptance,
        parity_answers=parity_answers,
    )


def export_tracked(
    path: Path,
    folder: Path,
    ladder: Ladder,
    options: FitOptions,
    *,
    parity_prompts: Sequence[str],
    provenance: Mapping[str, Any],
) -> Parity:
    """:func:`export_router` of what :meth:`Trained.save` wrote, registered in the run that it was trained in."""
    trained, run_id = Trained.load(folder)
    parity = export_router(
        path,
        trained,
        load_encoder(options.encoder),
        ladder,
        options,
        parity_prompts=parity_prompts,
        provenance={**provenance, "mlflow_run": run_id},
    )
    with tracking.start(path.stem, run_id=run_id) as run:
        run.log_metrics({"parity/max_difference": parity.max_difference, "parity/agreement": parity.agreement})
        run.log_router(path)
    return parity


def _why(trained: Trained) -> dict[str, Any]:
    why: dict[str, Any] = {} if trained.reason is None else {"learner_chosen": trained.reason}
    if trained.curve:
        why["learning_curve"] = trained.curve
    return why


def _git_commit() -> str | None:
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None


def _versions() -> dict[str, str]:
    packages = (
        "router-ml",
        "numpy",
        "scikit-learn",
        "torch",
        "onnx",
        "onnxruntime",
        "tokenizers",
        "sentence-transformers",
    )
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return versions
