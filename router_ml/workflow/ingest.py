"""Logs in: imported, redacted, searched for duplicates, and described."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from router_ml import tracking
from router_ml._atomic import replacing
from router_ml.errors import InputError
from router_ml.importers import ImportOptions, ImportResult, Progress, import_traffic
from router_ml.traffic.cleaning.card import DataCard, data_card
from router_ml.traffic.cleaning.duplicates import Duplicates, drop_duplicates, find_duplicates
from router_ml.traffic.cleaning.redact import KINDS, REGIONS, redact_frame
from router_ml.traffic.validate import MAX_REJECTS

__all__ = ["IngestOptions", "Ingested", "ingest"]


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How to ingest.

    Parameters
    ----------
    importing : ImportOptions
        What the formats need.
    redact : tuple of str
        Kinds of secrets and personal data that are replaced before anything is written (`router_ml.traffic.cleaning.redact.KINDS`);
        empty: none. Ids, sources and categories stay as they are.
    phone_regions : tuple of str
        Countries whose national phone numbers are looked for.
    similarity : float or None
        Prompts at least so alike (Jaccard, in (0, 1]) count as near duplicates; None: nothing is searched.
    drop_duplicates : bool
        Keep one prompt of each group of duplicates for each model.
    max_rejects : float
        Largest share of invalid records to accept before failing.
    random_state : int
    """

    importing: ImportOptions
    redact: tuple[str, ...] = ()
    phone_regions: tuple[str, ...] = tuple(REGIONS)
    similarity: float | None = None
    drop_duplicates: bool = False
    max_rejects: float = MAX_REJECTS
    random_state: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.redact) - set(KINDS))
        if unknown:
            raise InputError(f"There is nothing to redact called {unknown}; choose from {', '.join(sorted(KINDS))}.")
        if self.drop_duplicates and self.similarity is None:
            raise InputError(
                "Duplicates can only be dropped where they are looked for; give a similarity, such as 0.8."
            )


@dataclass(frozen=True, slots=True)
class Ingested:
    """What :func:`ingest` made: what the import says, and the data card."""

    result: ImportResult
    card: DataCard

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        result = self.result
        return {
            "out": str(result.out),
            "rejects": None if result.rejects is None else str(result.rejects),
            "records": result.n_records,
            "rows": self.card.counts["rows_kept"],
            "rejected": result.n_rejects,
            "skipped": dict(result.skipped),
            "unused_columns": list(result.unused),
            "card": self.card.to_dict(),
        }


def ingest(
    format: str,  # noqa: A002
    paths: Sequence[str | Path],
    out: Path,
    *,
    options: IngestOptions,
    on_progress: Callable[[Progress], None] | None = None,
    track: bool = False,
) -> Ingested:
    """Import logs of a format into a traffic table, and describe it; with `track` the data card is logged to MLflow.

    The import streams; looking for near duplicates holds all prompts in memory.

    Raises
    ------
    InputError, TrafficError
        If the format, an option or the files can't be used; nothing is then written at `out`.
    """
    redactions: Counter[str] = Counter()

    def clean(batch: pl.DataFrame) -> pl.DataFrame:
        redacted = redact_frame(batch, kinds=options.redact, regions=options.phone_regions)
        redactions.update(redacted.counts)
        return redacted.frame

    tracking.quiet()  # one of the formats is read with MLflow
    result = import_traffic(
        format,
        paths,
        out,
        options=options.importing,
        max_rejects=options.max_rejects,
        transform=clean if options.redact else None,
        on_progress=on_progress,
    )
    duplicates, n_dropped = _duplicates(out, options)
    rejects = None if result.rejects is None else _rejects(result.rejects, options)
    card = data_card(
        pl.scan_parquet(out),
        n_read=result.n_records,
        rejects=rejects,
        n_dropped=n_dropped,
        duplicates=duplicates,
        redactions=redactions if options.redact else None,
        random_state=options.random_state,
    )
    if track:
        with tracking.start(f"ingest {out.stem}") as run, tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "data_card.md"
            page.write_text(card.to_markdown(), encoding="utf-8")
            run.log_params({"format": format, "redacted": bool(options.redact), "out": str(out)})
            run.log_metrics(card.to_metrics(), prefix="data/")
            run.log_file(page)
    return Ingested(result, card)


def _duplicates(out: Path, options: IngestOptions) -> tuple[Duplicates | None, int]:
    if options.similarity is None:
        return None, 0
    traffic = pl.read_parquet(out)
    found = find_duplicates(traffic, threshold=options.similarity, random_state=options.random_state)
    if not options.drop_duplicates:
        return found, 0
    kept = drop_duplicates(traffic, found)
    with replacing(out) as temporary:
        kept.write_parquet(temporary)
    return found, traffic.height - kept.height


def _rejects(path: Path, options: IngestOptions) -> pl.DataFrame:
    """The rejects, whose reasons quote what was read: redacted, where the rows are."""
    rejects = pl.read_csv(path, infer_schema=False)
    if options.redact:
        rejects = redact_frame(rejects, columns=("reason",), kinds=options.redact, regions=options.phone_regions).frame
        with replacing(path) as temporary:
            rejects.write_csv(temporary)
    return rejects.filter(~pl.col("reason").str.starts_with("skipped"))
