"""Lazy reading of traffic from Parquet, JSONL and CSV: files, folders and globs.

Each source comes out with the columns of the schema, typed, and three more: `FILE` and `ROW` (1-based) say where a row
stood, and `REASON` says why it can't be used, or is null.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from router_ml.core.text import conversation_text
from router_ml.errors import NotATableError, QueryError, TrafficError
from router_ml.traffic.schema import EPOCH_UNITS, REQUIRED, SCHEMA
from router_ml.traffic.sources import find_sources

__all__ = ["FILE", "REASON", "ROW", "find_files", "scan", "typed"]

FILE, ROW, REASON = "_file", "_row", "_reason"

_RAW = pl.Schema({name: pl.String() for name in SCHEMA})


def scan(paths: Iterable[str | Path], *, extra: Sequence[str] = ()) -> pl.LazyFrame:
    """Scan traffic files into one lazy frame.

    Parameters
    ----------
    paths : iterable of str or Path
        Files (``.parquet``, ``.jsonl``, ``.ndjson``, ``.csv``), folders (searched recursively, hidden files and folders left out) or globs.
    extra : sequence of str
        Columns beside the schema's that are kept where a file has them: as text, unless they hold lists or structures.

    Returns
    -------
    LazyFrame
        Columns of the schema, the extra ones, then `FILE`, `ROW`, `REASON`. Values that don't fit their column's type are null, and the row's `REASON` says so.

    Raises
    ------
    TrafficError
        If a path matches nothing, a file is of another kind, or lacks a required column.
    """
    own = [name for name in dict.fromkeys(extra) if name not in SCHEMA]
    return pl.concat([_scan_file(f, own) for f in find_files(paths)], how="diagonal")


def find_files(paths: Iterable[str | Path]) -> list[Path]:
    """The traffic files that the paths name; see :func:`router_ml.traffic.sources.find_sources`."""
    return find_sources(paths, wanted=lambda path: path.suffix in _SCANNERS, endings=", ".join(_SCANNERS))


def _scan_file(path: Path, extra: Sequence[str] = ()) -> pl.LazyFrame:
    if path.suffix not in _SCANNERS:
        raise NotATableError(
            f"{path}: files ending in {path.suffix or 'nothing'!r} can't be read; give {', '.join(_SCANNERS)}.", path
        )
    try:
        if _is_empty(path):
            raise TrafficError(
                f"{path} is empty; give a table with at least the columns {list(REQUIRED)} and some rows."
            )
        frame = _SCANNERS[path.suffix](path, extra)
        columns = frame.collect_schema()
    except (OSError, pl.exceptions.PolarsError) as exc:
        raise TrafficError(f"{path} can't be read as {path.suffix[1:]}: {exc}") from exc
    missing = [c for c in REQUIRED if c not in columns]
    if missing:
        raise NotATableError(f"{path} lacks the column(s) {missing}.", path)
    if REASON not in columns:
        frame = frame.with_columns(pl.lit(None, pl.String).alias(REASON))
    own = [c for c in extra if c in columns]
    texts = [pl.col(c).cast(pl.String, strict=False) for c in own if not columns[c].is_nested()]
    frame = typed(frame, columns).with_columns(pl.lit(str(path)).alias(FILE), *texts)
    return frame.select(*SCHEMA, *own, FILE, ROW, REASON)


def _is_empty(path: Path) -> bool:
    """Whether a file holds nothing, or a text nothing but white space."""
    with path.open("rb") as file:
        return not (any(line.strip() for line in file) if path.suffix != ".parquet" else file.read(1))


def typed(frame: pl.LazyFrame, columns: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """Cast each column to the schema's type; what can't be cast becomes null and the row's reason."""
    casts, reasons = [], []
    for name, dtype in SCHEMA.items():
        if name not in columns:
            casts.append(pl.lit(None, dtype).alias(name))
            continue
        cast = _cast(pl.col(name), columns[name], dtype)
        casts.append(cast.alias(name))
        failed = pl.col(name).is_not_null() & cast.is_null()
        got = pl.col(name).cast(pl.String, strict=False).str.slice(0, 80)
        reasons.append(pl.when(failed).then(pl.format(f"{name}: got '{{}}', needed {_KIND[dtype.base_type()]}", got)))
    return frame.with_columns(pl.coalesce(pl.col(REASON), *reasons).alias(REASON)).with_columns(casts)


_KIND: dict[Any, str] = {
    pl.String: "text",
    pl.Float64: "a number",
    pl.Int64: "a whole number",
    pl.Datetime: "a date and time such as 2026-09-01T00:13:00Z or 01.09.2026 00:13 (day first); name another form with 'ingest table --date-format'",
}


_DAY_FIRST, _YEAR_FIRST = r"^(\d{1,2})\.(\d{1,2})\.(\d{4})", r"^(\d{4})[/.](\d{1,2})[/.](\d{1,2})"
"""Dates that are no ISO 8601 and have one meaning all the same: with dots the day is first, and a year in front is followed by the month."""


def _cast(column: pl.Expr, got: pl.DataType, needed: pl.DataType) -> pl.Expr:
    if got == needed:
        return column
    if isinstance(needed, pl.Datetime):
        if got == pl.String:
            # ISO 8601 with an offset, without one (then UTC), a date alone, without seconds, or PostgreSQL's offset "+00". A format that polars guesses would take
            # 03/04/2026 for the 3rd of April, and refuse a whole column for the first value's "Z".
            iso = column.str.replace(_DAY_FIRST, "$3-$2-$1").str.replace(_YEAR_FIRST, "$1-$2-$3")
            completed = [iso, iso + "Z", iso + "T00:00:00Z", iso + ":00Z", iso + ":00"]
            return pl.coalesce(
                c.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False) for c in completed
            )
        if got.is_numeric():
            size = column.cast(pl.Float64)
            unit = pl.coalesce(*(pl.when(size.abs() >= start).then(unit) for start, unit in EPOCH_UNITS), 1.0)
            return (size / unit * 1e6).round().cast(pl.Int64, strict=False).cast(needed)
        if isinstance(got, pl.Datetime) and got.time_zone is None:
            return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if isinstance(needed, pl.Int64) and (got == pl.String or got.is_float()):
        # "12.0" is a whole number to whoever wrote the file; "12.5" isn't.
        number = column.cast(pl.Float64, strict=False)
        return pl.when(number == number.floor()).then(number.cast(pl.Int64, strict=False))
    return column.cast(needed, strict=False)


def _scan_parquet(path: Path, extra: Sequence[str]) -> pl.LazyFrame:  # noqa: ARG001
    frame = pl.scan_parquet(path)
    if isinstance(frame.collect_schema().get("prompt"), pl.List):
        # Conversations as lists of messages, as JSON lines may hold them too.
        text = pl.col("prompt").map_elements(
            lambda messages: conversation_text(messages.to_list()), return_dtype=pl.String
        )
        frame = frame.with_columns(text)
    return frame.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.Int64))


def _scan_csv(path: Path, extra: Sequence[str]) -> pl.LazyFrame:  # noqa: ARG001
    # The header is line 1, so the first row stands on line 2 (where no field before it holds a line break).
    return pl.scan_csv(path, infer_schema=False).with_row_index(ROW, offset=2).with_columns(pl.col(ROW).cast(pl.Int64))


def _scan_jsonl(path: Path, extra: Sequence[str]) -> pl.LazyFrame:
    with path.open("rb") as lines:
        names = _names(lines)
    # An optional column may first turn up after those lines, so all of them are read.
    present = _RAW if names.issuperset(REQUIRED) else {n: t for n, t in _RAW.items() if n in names}
    own = {name: pl.String() for name in extra if name in names}
    schema = {**present, **own, ROW: pl.Int64(), REASON: pl.String()}
    return pl.defer(partial(_read_jsonl, path, schema), schema=schema)


def _names(lines: Iterable[bytes], n_lines: int = 1000) -> set[str]:
    """Keys of the first lines that hold an object."""
    names: set[str] = set()
    for _, line in zip(range(n_lines), lines, strict=False):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        names |= value.keys() if isinstance(value, dict) else set()
    return names


def _read_jsonl(path: Path, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    with path.open("rb") as lines:
        rows = [_jsonl_row(n, line, schema) for n, line in enumerate(lines, start=1) if line.strip()]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _jsonl_row(number: int, line: bytes, schema: Mapping[str, pl.DataType]) -> list[str | int | None]:
    values: Mapping[str, Any] = {}
    reason = None
    try:
        values = json.loads(line)
        if not isinstance(values, dict):
            raise ValueError(f"got {type(values).__name__}, needed an object")
        texts = [_text(name, values.get(name)) for name in schema if name not in (ROW, REASON)]
        "".join(t for t in texts if t).encode()
    except (ValueError, RecursionError, QueryError) as exc:
        texts, reason = [None for name in schema if name not in (ROW, REASON)], f"not a usable JSON line: {exc!s:.200}"
    return [*texts, number, reason]


def _text(name: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if name == "prompt" and isinstance(value, Sequence):
        return conversation_text(value)
    return json.dumps(value)


_SCANNERS: dict[str, Callable[[Path, Sequence[str]], pl.LazyFrame]] = {
    ".parquet": _scan_parquet,
    ".jsonl": _scan_jsonl,
    ".ndjson": _scan_jsonl,
    ".csv": _scan_csv,
}
