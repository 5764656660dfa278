"""Verdicts that were paid for, kept by the content of what was asked."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from router_ml.errors import InputError

__all__ = ["VoteCache", "vote_key"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS votes (
    key TEXT PRIMARY KEY, verdict TEXT NOT NULL, cost_usd REAL NOT NULL, created_at TEXT DEFAULT CURRENT_TIMESTAMP
) WITHOUT ROWID
"""


def vote_key(base_url: str, request: Mapping[str, Any], vote: int) -> str:
    """Hash of all that a vote depends on: the server, the request (model, messages, schema, settings), the vote's number."""
    content = json.dumps([base_url, request, vote], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()


class VoteCache:
    """A sqlite file of verdicts.

    Each is on disk as soon as it is there, so a run that was killed pays again for those at most that were under way.

    Parameters
    ----------
    path : str or Path, optional
        The file, made where it isn't there; without it the cache lives as long as the object.

    Raises
    ------
    InputError
        If the file can't be opened, or isn't such a cache.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._lock = threading.Lock()
        self._path = path
        try:
            if path is not None:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, timeout=30)
            self._db.execute(_SCHEMA)
            self._db.execute("SELECT key, verdict, cost_usd FROM votes LIMIT 1")
            self._db.commit()
        except (OSError, sqlite3.Error) as exc:
            raise InputError(
                f"The judge's cache {path} can't be used: {exc}. Give another file, or remove this one."
            ) from exc

    def get(self, key: str) -> str | None:
        """The verdict under a key, as JSON, or None."""
        try:
            with self._lock:
                row = self._db.execute("SELECT verdict FROM votes WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as exc:
            raise InputError(
                f"The judge's cache {self._path} can't be read: {exc}. Remove it, or give another."
            ) from exc
        return str(row[0]) if row else None

    def put(self, key: str, verdict: Mapping[str, Any], cost_usd: float) -> None:
        """Keep a verdict and what it cost."""
        row = (key, json.dumps(verdict), cost_usd)
        try:
            with self._lock, self._db:
                self._db.execute("INSERT OR REPLACE INTO votes (key, verdict, cost_usd) VALUES (?, ?, ?)", row)
        except sqlite3.Error as exc:
            raise InputError(
                f"The judge's cache {self._path} can't be written: {exc}. Free it, or give another."
            ) from exc

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
