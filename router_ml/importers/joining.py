"""Records put aside for others that ask for them by key: a temporary SQLite file, so that memory doesn't grow with them."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from router_ml.errors import TrafficError
from router_ml.importers.base import Record

__all__ = ["KeptRecords"]

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA cache_size = -65536;
CREATE TABLE kept (id INTEGER PRIMARY KEY, digest BLOB UNIQUE, value TEXT, file TEXT, row INTEGER, used INTEGER DEFAULT 0);
CREATE TABLE keys (key TEXT, id INTEGER, PRIMARY KEY (key, id)) WITHOUT ROWID;
"""


class KeptRecords:
    """Records by key, on disk.

    Equal records under the same keys are held once, so that a log given twice, or the same prompts sent to two models, are no conflict.

    Notes
    -----
    SQLite makes the file in its own temporary folder ($SQLITE_TMPDIR, $TMPDIR), already deleted, when the records outgrow
    its cache: nothing of it is left after a crash, and no name is taken from a log.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("")
        self._db.executescript(_TABLES)
        self._n_kept = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def add(self, keys: Sequence[str], record: Record, *, file: str, row: int, at_most: int | None = None) -> None:
        """Keep a record under each of `keys`, or not at all where `at_most` are under one; raises TrafficError where it can't be written."""
        if at_most is not None and any(len(self._under(key, at_most)) == at_most for key in keys):
            return
        try:
            value = json.dumps(record)
            digest = hashlib.sha256(json.dumps([list(keys), value]).encode()).digest()
            cursor = self._db.execute(
                "INSERT OR IGNORE INTO kept (digest, value, file, row) VALUES (?, ?, ?, ?)", (digest, value, file, row)
            )
            self._n_kept += 1
            if cursor.rowcount:
                self._db.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", [(k, cursor.lastrowid) for k in keys])
        except (TypeError, ValueError, RecursionError, sqlite3.Error) as exc:
            raise TrafficError(f"it can't be kept for the record that it belongs to: {exc!s:.200}") from exc

    def _under(self, key: str, at_most: int) -> list[tuple[int]]:
        try:
            return self._db.execute("SELECT id FROM keys WHERE key = ? LIMIT ?", (key, at_most)).fetchall()
        except (ValueError, sqlite3.Error) as exc:
            raise TrafficError(f"its keys can't be looked up: {exc!s:.200}") from exc

    def get(self, keys: Sequence[str]) -> list[Record]:
        """The records under any of `keys`, in the order in which they came."""
        if self._n_kept == 0 or not keys:
            return []
        marks = ",".join("?" * len(keys))
        try:
            found = self._db.execute(
                f"SELECT DISTINCT id, value FROM keys JOIN kept USING (id) WHERE key IN ({marks}) ORDER BY id",
                tuple(keys),
            ).fetchall()
            self._db.executemany("UPDATE kept SET used = 1 WHERE id = ?", [(i,) for i, _ in found])
        except (ValueError, sqlite3.Error) as exc:
            raise TrafficError(f"its keys can't be looked up: {exc!s:.200}") from exc
        return [json.loads(value) for _, value in found]

    def unused(self) -> Iterator[tuple[str, int]]:
        """File and row of the records that `get` never gave."""
        yield from self._db.execute("SELECT file, row FROM kept WHERE NOT used ORDER BY id")
