"""Traffic, from files to what can be learned from."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from router_ml.datasets import simulate
from router_ml.errors import TrafficError
from router_ml.importers.glimpse import import_hints
from router_ml.ladder import Ladder
from router_ml.traffic.labels import NONE, Bar, label
from router_ml.traffic.observations import Observations, observe
from router_ml.traffic.prices import ResolvedLadder, resolve_ladder
from router_ml.traffic.read import find_files
from router_ml.traffic.split import connected_groups, keep_together, split_by_hash
from router_ml.traffic.validate import MAX_REJECTS, Validated, load_traffic

__all__ = [
    "MIN_GROUPS",
    "MIN_PROMPTS",
    "Prepared",
    "Split",
    "hash_files",
    "label_traffic",
    "prepare",
    "read_traffic",
    "split_traffic",
    "write_sample",
]

logger = logging.getLogger(__name__)

MIN_PROMPTS = 20
"""Fewer judged prompts than this and cross-validation has nothing to say."""

MIN_GROUPS = 10
"""Fewer sessions than this and its folds are of very different sizes, or empty."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Traffic that can be learned from.

    Attributes
    ----------
    ladder : Ladder
        With prices, cheapest first.
    notes : tuple of str
        What was done to get the ladder.
    observations : Observations
        All prompts that are judged; what a split keeps together has one ``session_id`` (`router_ml.traffic.split.keep_together`).
    labels : DataFrame
        One row a prompt (`router_ml.traffic.labels.label`).
    unjudged : Observations
        All other prompts: the learner `distilled` learns from them, too.
    """

    ladder: Ladder
    notes: tuple[str, ...]
    observations: Observations
    labels: pl.DataFrame
    unjudged: Observations


@dataclass(frozen=True, slots=True)
class Split:
    """Traffic in two parts, and the ladder that fits all of it."""

    train: pl.DataFrame
    test: pl.DataFrame
    ladder: Ladder


def read_traffic(
    paths: Sequence[str | Path], *, max_rejects: float = MAX_REJECTS, extra: Sequence[str] = ()
) -> Validated:
    """Read and validate traffic files, folders and globs; `extra` columns are kept where they are there."""
    with import_hints():
        traffic = load_traffic(paths, max_rejects=max_rejects, extra=extra)
    logger.info(traffic.summary())
    for reject in traffic.first_rejects():
        logger.info(reject)
    return traffic


def write_sample(path: Path, *, n_prompts: int, random_state: int) -> Path:
    """Write simulated traffic; nothing in it was answered by a real model."""
    logger.info("SIMULATED traffic: the bundled sample, not answers of real models.")
    simulate(n_prompts, random_state=random_state).write_parquet(path)
    return path


def split_traffic(traffic: pl.DataFrame, ladder: Ladder | None, *, test_share: float, random_state: int) -> Split:
    """Split by a hash of the prompt's text, sessions and near duplicates together."""
    resolved = resolve_ladder(traffic, ladder)
    _tell(resolved)
    seen = keep_together(observe(traffic, resolved.ladder))
    test = split_by_hash(seen.prompt, seen.session_id, test_share=test_share, random_state=random_state)
    if test.all() or not test.any():
        raise TrafficError(
            f"{len(seen)} prompts can't be split with a test share of {test_share:g}: one side would be empty."
        )
    in_test = pl.col("prompt_id").is_in(seen.prompt_id[test].tolist())
    rows = traffic.filter(pl.col("model").is_in(resolved.ladder.models))
    return Split(rows.filter(~in_test), rows.filter(in_test), resolved.ladder)


def label_traffic(
    traffic: pl.DataFrame, ladder: Ladder | None, bar: Bar
) -> tuple[pl.DataFrame, Ladder, tuple[str, ...]]:
    """Label each prompt; gives the labels, the resolved ladder and notes on it."""
    resolved = _resolve(traffic, ladder)
    labels = label(traffic.lazy(), resolved.ladder, bar).collect()
    return labels, resolved.ladder, resolved.notes + resolved.warnings


def _resolve(traffic: pl.DataFrame, ladder: Ladder | None) -> ResolvedLadder:
    _check_judged(traffic, ladder)
    resolved = resolve_ladder(traffic, ladder)
    _tell(resolved)
    return resolved


def prepare(traffic: pl.DataFrame, ladder: Ladder | None, bar: Bar, *, labels: pl.DataFrame | None = None) -> Prepared:
    """Resolve the ladder, label, and arrange by prompt and tier what can be learned from.

    Parameters
    ----------
    traffic : DataFrame
    ladder : Ladder or None
        Read off the traffic where None.
    bar : Bar
    labels : DataFrame, optional
        Of :func:`label_traffic` for the same traffic, ladder and bar; made where not given.

    Raises
    ------
    LadderError
        See :func:`router_ml.traffic.prices.resolve_ladder`.
    TrafficError
        If nothing is judged, a tier was never judged, there are too few prompts, or all labels are the same.
    """
    resolved = _resolve(traffic, ladder)
    ladder, notes = resolved.ladder, resolved.notes + resolved.warnings
    if labels is None:
        labels = label(traffic.lazy(), ladder, bar).collect()
    observations = observe(traffic, ladder)
    judged = np.asarray(~np.isnan(observations.quality).all(axis=1))
    observations, unjudged = observations.take(judged), observations.take(~judged)
    if len(observations) < MIN_PROMPTS:
        raise TrafficError(
            f"There are {len(observations)} judged prompts; a router needs at least {MIN_PROMPTS} to learn from, better 1,000."
        )
    observations = keep_together(observations)
    n_groups = len(np.unique(connected_groups(observations.prompt, observations.session_id)))
    if n_groups < MIN_GROUPS:
        raise TrafficError(
            f"The {len(observations)} judged prompts belong to {n_groups} session(s); cross-validation keeps sessions whole, so it needs "
            f"at least {MIN_GROUPS}. Leave session_id empty where it names no conversation."
        )
    only = set(labels["label"].to_list())
    if len(only) == 1 and None not in only:
        (name,) = only
        what = (
            "no tier ever meets it; lower the bar" if name == NONE else f"use {name} for everything, or raise the bar"
        )
        raise TrafficError(
            f"With the bar at {bar.value:g} ({bar.kind}) every prompt has the label {name!r}, so there is nothing to learn: {what}."
        )
    return Prepared(ladder, notes, observations, labels, unjudged)


def hash_files(paths: Sequence[str | Path]) -> str:
    """SHA-256 of the traffic files' contents, in order."""
    digest = hashlib.sha256()
    for path in find_files(paths):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _tell(resolved: ResolvedLadder) -> None:
    for note in resolved.notes:
        logger.info(note)
    for warning in resolved.warnings:
        logger.warning(warning)


def _check_judged(traffic: pl.DataFrame, ladder: Ladder | None) -> None:
    judged = traffic.filter(pl.col("quality").is_not_null())["model"].unique().to_list()
    if not judged:
        ask = (
            ""
            if traffic["response"].count()
            else "It holds no responses either: ask for them with 'router-ml replay'. "
        )
        raise TrafficError(
            f"No row has a quality, so nothing can be learned from it. {ask}Have the answers judged: router-ml judge TRAFFIC --judge "
            "judge.yaml --out judged.parquet. Or take feedback that the log holds: router-ml ingest FORMAT LOG --quality-from NAME --out "
            "traffic.parquet. A column 'quality' with values in [0, 1] does, too."
        )
    models = ladder.models if ladder is not None else traffic["model"].unique().sort().to_list()
    never = [m for m in models if m not in judged and m in traffic["model"]]
    if never:
        raise TrafficError(
            f"No answer of {never} has a quality, so nothing can be learned of it. Judge some (router-ml judge), or leave it out of tiers.yaml."
        )
