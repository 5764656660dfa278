"""Write a smaller artifact, once it is known to answer nearly as the one that it is made from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray

from router_ml._atomic import replacing
from router_ml.core.artifact import Artifact, Metadata, read_artifact
from router_ml.core.router import Router
from router_ml.core.text import render
from router_ml.errors import ExportError, InputError
from router_ml.export.compress.comparison import (
    TOLERANCES,
    Compression,
    Difference,
    check_tolerance,
    difference,
    predict,
    tolerance_of,
    worth,
)
from router_ml.export.compress.storage import Weights
from router_ml.export.compress.tables import (
    check_weights,
    has_half_tables,
    is_transformer,
    prune_tokens,
    quantize_table,
)
from router_ml.export.compress.transformer import quantize_transformer
from router_ml.export.serialise import seal
from router_ml.traffic.split import split_by_hash

__all__ = ["compress"]

_UNSEEN_SHARE = 0.2
"""Of the prompts pruned to: held out once, to see what pruning does to prompts that it hasn't seen."""
_BEFORE = "certified before the artifact was made smaller, which moves decisions near a tie"
"""What is noted on each of its promises."""


def compress(
    artifact_path: str | Path,
    out: str | Path,
    *,
    prompts: Sequence[str],
    weights: Weights | None = None,
    prune_to: Sequence[str] | None = None,
    quality: ArrayLike | None = None,
    cost_usd: ArrayLike | None = None,
) -> Compression:
    """Write a smaller artifact, after comparing it with the one that it is made from.

    The file is written under another name, loaded and compared as any user of it would, and only then moved into place.

    Parameters
    ----------
    artifact_path : str or Path
        What ``router-ml fit`` wrote.
    out : str or Path
        Where to write; not over the artifact itself.
    prompts : sequence of n str
        What to compare on: prompts of the traffic that it is for.
    weights : {"float16", "int8"}, optional
        What the tables of tokens, words and pairs are stored as; for a transformer ``"int8"``, and its matrices too.
    prune_to : sequence of str, optional
        Keep the vectors of these prompts' tokens only.
    quality, cost_usd : array-like [n, T], optional
        What was observed, NaN where it wasn't; where every tier was, AIQ is compared.

    Raises
    ------
    ArtifactError
        If the artifact can't be read.
    InputError
        If nothing is asked for, what is asked for isn't possible with this artifact, or no prompt is given.
    ExportError
        If it differs by more than :data:`TOLERANCES` allows, or can't be written.
    """
    artifact_path, out = Path(artifact_path), Path(out)
    _check_request(artifact_path, out, prompts, weights, prune_to)
    artifact = read_artifact(artifact_path)
    if artifact.metadata.side_encoders:
        raise InputError(
            f"The artifact holds several encoders ({artifact.metadata.encoder.get('name')!r}); one of a single encoder can be made "
            "smaller. Fit it with '--encoder static', or with '--learner distilled', which reads the first alone."
        )
    before = Router(artifact)
    ids = [] if prune_to is None else _token_ids(before, prune_to)
    kept = np.unique(np.concatenate(ids)) if ids else None
    small, metadata = _compressed(artifact, weights, kept)
    kind = _kind(small, weights, kept)
    with replacing(out, ExportError) as temporary:
        temporary.write_bytes(seal(small, metadata, artifact.tokenizer, artifact.acceptance, artifact.neighbours))
        after = Router.load(temporary)
        expected, got = predict(before, prompts), predict(after, prompts)
        moved = difference(before, expected, got)
        is_home = prune_to is None or list(prune_to) == list(prompts)
        check_tolerance(moved if is_home else _compare(before, after, prune_to or ()), kind)
        figures = [worth(before, p, quality, cost_usd) for p in (expected, got)]
        sizes = artifact_path.stat().st_size, temporary.stat().st_size
        unseen = None if prune_to is None else _unseen(artifact, before, weights, prune_to, ids)
    aiq, closed = zip(*((None, None) if w is None else (w.aiq, _finite(w.gap_closed)) for w in figures), strict=True)
    return Compression(
        kind,
        len(prompts),
        *sizes,
        *moved,
        tolerance=TOLERANCES[tolerance_of(kind)],
        aiq_before=aiq[0],
        aiq_after=aiq[1],
        aiq_loss=None if aiq[0] is None or aiq[1] is None else aiq[0] - aiq[1],
        gap_closed_before=closed[0],
        gap_closed_after=closed[1],
        tokens_kept=None if kept is None else len(kept),
        unseen_max_difference=None if unseen is None else unseen.max_difference,
        unseen_agreement=None if unseen is None else unseen.agreement,
    )


def _check_request(
    path: Path, out: Path, prompts: Sequence[str], weights: Weights | None, prune_to: Sequence[str] | None
) -> None:
    if weights is None and prune_to is None:
        raise InputError("Nothing is asked for; give 'weights' ('float16' or 'int8'), or prompts to prune to, or both.")
    if weights is not None:
        check_weights(weights)
    if not len(prompts) or (prune_to is not None and not len(prune_to)):
        raise InputError("There is no prompt to compare on or to prune to; give traffic with at least one.")
    if path.exists() and out.exists() and path.samefile(out):
        raise InputError(f"{out} is the artifact itself, which is needed to make another from; give another name.")


def _compressed(
    artifact: Artifact, weights: Weights | None, kept: NDArray[np.int64] | None
) -> tuple[onnx.ModelProto, Metadata]:
    """The smaller graph, and the metadata that say so."""
    model = onnx.load_from_string(artifact.model)
    provenance = dict(artifact.metadata.provenance)
    if kept is not None:
        model = prune_tokens(model, kept)
        provenance["pruned_to_tokens"] = len(kept)
    if weights is not None:
        model = _with_weights(model, weights, is_pruned=kept is not None)
        provenance["weights"] = weights
    promises = tuple(
        dataclasses.replace(g, note="; ".join(filter(None, (g.note, _BEFORE)))) for g in artifact.metadata.guarantees
    )
    return model, dataclasses.replace(artifact.metadata, provenance=provenance, guarantees=promises)


def _with_weights(model: onnx.ModelProto, weights: Weights, *, is_pruned: bool) -> onnx.ModelProto:
    if not is_transformer(model.graph):
        if weights == "float16" and is_pruned and has_half_tables(model.graph):
            return model  # as asked for, and smaller already
        return quantize_table(model, weights)
    if weights == "float16":
        raise InputError("The artifact's encoder is a transformer, for which 'weights' can be 'int8' only. Give that.")
    return quantize_transformer(model)


def _kind(model: onnx.ModelProto, weights: Weights | None, kept: NDArray[np.int64] | None) -> str:
    words = ["transformer"] if is_transformer(model.graph) else []
    if kept is not None:
        words.append("pruned")
    if weights is not None:
        words.append(weights)
    return " ".join(words)


def _compare(before: Router, after: Router, prompts: Sequence[str]) -> Difference:
    return difference(before, predict(before, prompts), predict(after, prompts))


def _unseen(
    artifact: Artifact,
    before: Router,
    weights: Weights | None,
    prompts: Sequence[str],
    ids: Sequence[NDArray[np.int64]],
) -> Difference | None:
    texts = np.array(prompts, dtype=np.object_)
    held = split_by_hash(texts, np.full(len(texts), ""), test_share=_UNSEEN_SHARE, random_state=0)
    if held.all() or not held.any():
        return None
    kept = np.unique(np.concatenate([i for i, out in zip(ids, held, strict=True) if not out]))
    small, metadata = _compressed(artifact, weights, kept)
    after = Router(Artifact(seal(small, metadata, artifact.tokenizer), metadata, artifact.tokenizer))
    return _compare(before, after, texts[held].tolist())


def _token_ids(router: Router, prompts: Sequence[str]) -> list[NDArray[np.int64]]:
    return router.tokenizer.encode_batch([render(p).text for p in prompts])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
