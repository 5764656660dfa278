"""Other files made from an artifact, a smaller one or one that takes text, and compared with it on traffic."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from router_ml.core.artifact import read_artifact
from router_ml.core.router import Router
from router_ml.datasets import simulate
from router_ml.errors import InputError
from router_ml.export.compress import Compression, Weights, compress
from router_ml.export.onnx_export import Parity
from router_ml.export.text_input import PROBES, add_text_input
from router_ml.traffic.observations import observe
from router_ml.traffic.validate import MAX_REJECTS
from router_ml.workflow.data import read_traffic
from router_ml.workflow.warnings import seen_in_training

__all__ = ["add_text_to_router", "compress_router"]

logger = logging.getLogger(__name__)

_SAMPLE = 300
"""Simulated prompts to compare on where no traffic is given."""


def compress_router(
    path: str | Path,
    out: str | Path,
    traffic_paths: Sequence[str | Path] = (),
    *,
    weights: Weights | None = None,
    prune: bool = False,
    max_rejects: float = MAX_REJECTS,
) -> Compression:
    """Write a smaller artifact; see :func:`router_ml.export.compress.compress`.

    Parameters
    ----------
    path : str or Path
        The artifact.
    out : str or Path
        Where the smaller one goes.
    traffic_paths : sequence of str or Path
        Traffic to compare on, and to prune to; simulated prompts where none is given. Its answers needn't be judged: where every
        tier's are, AIQ is compared.
    weights : {"float16", "int8"}, optional
    prune : bool
        Keep the vectors of the traffic's tokens only.
    max_rejects : float
        Largest share of invalid rows to accept before failing.

    Raises
    ------
    InputError
        If nothing is asked for, it isn't possible with this artifact, or the traffic can't be used.
    ExportError
        If the smaller artifact answers too differently; nothing is then written.
    """
    if not traffic_paths:
        if prune:
            raise InputError("There is no traffic to prune to; give some, the more the better.")
        logger.info("No traffic is given, so both are compared on %d simulated prompts.", _SAMPLE)
        prompts = simulate(_SAMPLE, random_state=0)["prompt"].unique(maintain_order=True).to_list()
        return compress(path, out, prompts=prompts, weights=weights)
    ladder = read_artifact(path).metadata.ladder
    traffic = read_traffic(traffic_paths, max_rejects=max_rejects).traffic
    if not set(ladder.models) <= set(traffic["model"].unique().to_list()):
        prompts = traffic["prompt"].unique(maintain_order=True).to_list()
        return compress(path, out, prompts=prompts, weights=weights, prune_to=prompts if prune else None)
    seen = observe(traffic, ladder)
    for warning in seen_in_training(Router.load(path), traffic_paths, seen.prompt_id):
        logger.warning(warning)
    prompts = seen.prompt.tolist()
    return compress(
        path,
        out,
        prompts=prompts,
        weights=weights,
        prune_to=prompts if prune else None,
        quality=seen.quality,
        cost_usd=seen.cost_usd,
    )


def add_text_to_router(
    path: str | Path,
    out: str | Path,
    traffic_paths: Sequence[str | Path] = (),
    *,
    max_rejects: float = MAX_REJECTS,
) -> Parity:
    """Write a graph that takes text; see :func:`router_ml.export.text_input.add_text_input`.

    Parameters
    ----------
    path : str or Path
        The artifact.
    out : str or Path
        Where the other one goes.
    traffic_paths : sequence of str or Path
        Traffic on whose prompts both are compared; on fixed hard texts where none is given.
    max_rejects : float
        Largest share of invalid rows to accept before failing.

    Raises
    ------
    TrafficError
        If the traffic can't be used.
    ExportError
        If it answers otherwise than the artifact, or can't be made of it; nothing is then written.
    """
    if not traffic_paths:
        return add_text_input(path, out, parity_prompts=PROBES)
    traffic = read_traffic(traffic_paths, max_rejects=max_rejects).traffic
    return add_text_input(path, out, parity_prompts=traffic["prompt"].unique(maintain_order=True).to_list())
