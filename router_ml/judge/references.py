"""What answers are compared with: reference answers, unit tests, schemas; joined on the prompt's id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from router_ml.errors import TrafficError

__all__ = ["join_references", "reference_column"]

_PREFIX = "_reference_"
_READERS = {
    ".parquet": pl.scan_parquet,
    ".csv": lambda path: pl.scan_csv(path, infer_schema=False),
    ".jsonl": pl.scan_ndjson,
    ".ndjson": pl.scan_ndjson,
}


def join_references(
    traffic: pl.DataFrame,
    path: str | None,
    needed: Sequence[str],
    optional: Sequence[str],
    *,
    hidden: Sequence[str] = (),
) -> pl.DataFrame:
    """Add reference columns to a traffic table, as text.

    Parameters
    ----------
    traffic : DataFrame
    path : str or None
        File with ``prompt_id`` and the columns, or None: they are the traffic's own.
    needed : sequence of str
        Columns that rules can't do without.
    optional : sequence of str
        Columns that are added where the file has them.
    hidden : sequence of str
        Columns of the traffic that are ours, and no reader's business.

    Returns
    -------
    DataFrame
        The rows as they were, with the columns; :func:`reference_column` finds them.

    Raises
    ------
    TrafficError
        If the file can't be read, lacks a column, or says two things of one prompt.
    """
    source = traffic if path is None else _read(Path(path))
    where = "The traffic (no references file is given)" if path is None else path
    missing = [c for c in ["prompt_id", *needed] if c not in source.columns]
    if missing:
        raise TrafficError(
            f"{where} lacks the column(s) {missing}, which the judge's rules compare with; it has {[c for c in source.columns if c not in hidden]}. Add them, or name others."
        )
    columns = [c for c in dict.fromkeys([*needed, *optional]) if c in source.columns]
    if not columns:
        return traffic
    nested = [c for c in columns if source.schema[c].is_nested()]
    if nested:
        raise TrafficError(
            f"{where} holds lists or structures in the column(s) {nested}; references are text (JSON, say)."
        )
    wanted = source.select("prompt_id", *columns).with_columns(
        pl.col(columns).cast(pl.String, strict=False), prompt_id=pl.col("prompt_id").cast(pl.String)
    )
    wanted = wanted.filter(pl.any_horizontal(pl.lit(False), pl.col(columns).is_not_null())).unique()
    twice = wanted.filter(pl.col("prompt_id").is_duplicated())["prompt_id"]
    if len(twice):
        raise TrafficError(
            f"{where} holds different references for the prompt {twice.min()!r} and {twice.n_unique() - 1} more; leave one row each."
        )
    renamed = wanted.rename({c: _PREFIX + c for c in columns})
    return traffic.join(renamed, on="prompt_id", how="left", maintain_order="left")


def reference_column(name: str, table: pl.DataFrame) -> pl.Expr:
    """The reference column of that name in a table that :func:`join_references` gave; null where it has none."""
    return pl.col(_PREFIX + name) if _PREFIX + name in table.columns else pl.lit(None, pl.String)


def _read(path: Path) -> pl.DataFrame:
    if path.suffix not in _READERS:
        raise TrafficError(f"The references {path} end in {path.suffix!r}; give {', '.join(_READERS)}.")
    try:
        return _READERS[path.suffix](path).collect()
    except (OSError, pl.exceptions.PolarsError) as exc:
        raise TrafficError(f"The references {path} can't be read: {exc}") from exc
