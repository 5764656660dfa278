"""The traffic table and its rejects, written as they come: Parquet in row groups, and a CSV beside it."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl

from router_ml.core.text import conversation_text
from router_ml.errors import TrafficError
from router_ml.importers.base import Row
from router_ml.importers.fields import blank, text
from router_ml.traffic.read import FILE, REASON, ROW, typed
from router_ml.traffic.rejects import harmless, rejects_path
from router_ml.traffic.schema import SCHEMA
from router_ml.traffic.validate import prompt_ids, row_rules

__all__ = ["TableWriter", "rejects_path"]

Transform = Callable[[pl.DataFrame], pl.DataFrame]

_BATCH_ROWS = 8192
_BATCH_CHARS = 1 << 25
"""A row group is written when it has this many rows or characters."""
_RAW = pl.Schema({**{name: pl.String() for name in SCHEMA}, FILE: pl.String(), ROW: pl.Int64(), REASON: pl.String()})

_TEXTS = tuple(name for name, dtype in SCHEMA.items() if dtype == pl.String())


class TableWriter:
    """Writes rows to a table under a temporary name; `commit` puts it in place, leaving the block without it deletes it.

    Parameters
    ----------
    out : Path
    transform : callable or None
        Applied to each batch of checked rows before anything of it is written (redaction, say); may drop rows.

    Attributes
    ----------
    n_rows, n_rejects, n_with_quality : int
    skipped : Counter of str
        Records that rightly are no rows, by reason.
    first_reject : tuple of (file, row, reason), or None
    """

    def __init__(self, out: Path, *, transform: Transform | None = None) -> None:
        self.n_rows = self.n_rejects = self.n_with_quality = 0
        self.skipped: Counter[str] = Counter()
        self.first_reject: tuple[str, int, str] | None = None
        self._out, self._transform = out, transform
        self._partial_table = out.with_name(f".{out.name}.{os.getpid()}.tmp")
        self._partial_rejects = out.with_name(f".{rejects_path(out).name}.{os.getpid()}.tmp")
        self._batch: list[list[Any]] = []
        self._n_chars = 0

    def __enter__(self) -> Self:
        import pyarrow.parquet as pq

        schema = pl.DataFrame(schema=SCHEMA).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._partial_rejects.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        self._parquet = pq.ParquetWriter(self._partial_table, schema, compression="zstd")
        self._rejects = csv.writer(self._file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        self._rejects.writerow(("file", "row", "reason"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # a full disk, say, of which the caller knows by then
            self._close()
        for partial in (self._partial_table, self._partial_rejects):
            partial.unlink(missing_ok=True)

    def _close(self) -> None:
        self._parquet.close()
        self._file.close()

    def add(self, row: Row, *, file: str, at: int) -> None:
        """Add a row; raises TrafficError, and leaves it, where a value can't be held at all."""
        values = [_cell(name, row.get(name)) for name in SCHEMA]
        self._batch.append([*values, file, at, None])
        self._n_chars += sum(len(v) for v in values if v)
        if len(self._batch) >= _BATCH_ROWS or self._n_chars >= _BATCH_CHARS:
            self.flush()

    def reject(self, file: str, at: int, reason: str) -> None:
        """Set a record apart that can't be used."""
        self.n_rejects += 1
        self.first_reject = self.first_reject or (file, at, reason)
        self._write_reject(file, at, reason)

    def skip(self, file: str, at: int, reason: str) -> None:
        """Set a record apart that rightly is no row."""
        self.skipped[reason] += 1
        self._write_reject(file, at, f"skipped: {reason}")

    def _write_reject(self, file: str, at: int, reason: str) -> None:
        self._rejects.writerow((harmless(file), at, harmless(reason)))

    def flush(self) -> None:
        """Check the rows at hand, and write them as a row group."""
        if not self._batch:
            return
        raw = pl.LazyFrame(self._batch, schema=_RAW, orient="row")
        self._batch, self._n_chars = [], 0
        frame = typed(raw, {name: pl.String() for name in SCHEMA})
        checked = frame.with_columns(pl.coalesce(pl.col(REASON), *row_rules()).alias(REASON)).collect()
        for file, at, reason in checked.filter(pl.col(REASON).is_not_null()).select(FILE, ROW, REASON).iter_rows():
            self.reject(file, at, reason)
        good = checked.filter(pl.col(REASON).is_null()).select(*SCHEMA)
        if self._transform is not None:
            good = self._transform(good).select(*SCHEMA)
        # Of the text that is written: the hash of a redacted one tells nothing of what was redacted.
        good = good.with_columns(prompt_ids(good))
        if not good.is_empty():
            self._parquet.write_table(good.to_arrow(compat_level=pl.CompatLevel.oldest()))
        self.n_rows += good.height
        self.n_with_quality += good["quality"].count()

    def commit(self, *, table: bool = True) -> Path | None:
        """Put the table and its rejects in place (without `table` the rejects alone); returns the rejects' path, or None for none."""
        self.flush()
        self._close()
        rejects = rejects_path(self._out)
        if table:
            self._partial_table.replace(self._out)
        if not (self.n_rejects or self.skipped):
            rejects.unlink(missing_ok=True)
            return None
        self._partial_rejects.replace(rejects)
        return rejects


def _cell(name: str, value: Any) -> str | None:
    """A value as the text that the table's own casts read; raises TrafficError where it is no text."""
    if name == "prompt" and isinstance(value, Sequence) and not isinstance(value, str | bytes):
        value = conversation_text(value)
    if name not in _TEXTS and blank(value):
        return None
    try:
        cell = text(value)
    except TrafficError as exc:
        raise TrafficError(f"{name}: {exc}") from None
    if cell is not None and not cell.isascii():
        try:
            cell.encode()
        except UnicodeEncodeError as exc:
            raise TrafficError(f"{name}: isn't valid Unicode: {cell[exc.start]!a} at character {exc.start}") from None
    return cell
