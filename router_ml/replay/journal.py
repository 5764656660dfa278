"""The journal: what was asked, what it cost and what came back, on disk before and after each attempt."""

from __future__ import annotations

import hashlib
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from router_ml.errors import InputError
from router_ml.replay.answers import Answer

__all__ = ["Batch", "Journal", "Known", "prompt_hash"]

_VERSION = "1"
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS settings (model TEXT PRIMARY KEY, fingerprint TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (name TEXT PRIMARY KEY, model TEXT NOT NULL, remote TEXT);
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, prompt BLOB NOT NULL, model TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'open',
    held_usd REAL NOT NULL DEFAULT 0, unsure_usd REAL NOT NULL DEFAULT 0, charged_usd REAL NOT NULL DEFAULT 0,
    response TEXT, input_tokens INTEGER, output_tokens INTEGER, cost_usd REAL, latency_ms REAL, created_at REAL,
    finish TEXT, reason TEXT, batch TEXT
);
CREATE INDEX IF NOT EXISTS calls_by_batch ON calls (batch) WHERE batch IS NOT NULL;
"""


@dataclass(frozen=True, slots=True)
class Known:
    """What the journal knows of a call: its state (open, answered, refused) and what its attempts may have cost."""

    state: str
    unsure_usd: float
    batch: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that isn't collected yet: our name for it, its tier's model, and the server's id (None: not known to exist)."""

    name: str
    model: str
    remote: str | None


def prompt_hash(prompt: str) -> bytes:
    """What the journal keeps of a prompt."""
    return hashlib.sha256(prompt.encode()).digest()


class Journal:
    """A SQLite file that one process writes at a time. Open it with :meth:`open`; it is a context manager.

    Each change is on the disk when its method (or the :meth:`transaction` around it) ends: a write-ahead log, synchronous commits. So a
    process that is killed at any moment leaves a journal that says, of each call: never sent; sent, and perhaps charged; or answered.

    Notes
    -----
    A call that is under way when the process dies can't be known to be charged or not. It is counted as charged (`unsure_usd`), and is
    asked again with the same ``Idempotency-Key``; only a server that honours that key can answer without charging twice.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self.path = path
        self.nonce = self._meta("nonce", uuid.uuid4().hex)

    @classmethod
    def open(cls, path: str | Path, fingerprints: Mapping[str, str]) -> Self:
        """Open the journal, or begin one.

        Parameters
        ----------
        path : str or Path
        fingerprints : mapping of str to str
            Of each model: a hash of the settings that its answers depend on.

        Raises
        ------
        InputError
            If another process has it open, it isn't a journal, or it was begun with other settings.
        """
        path = Path(path)
        connection = None
        try:
            # One thread uses it at a time, but not always the one that opened it.
            connection = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if tables and not {"meta", "settings", "batches", "calls"} <= tables:
                raise InputError(f"{path} is a database of something else; name another journal.")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN EXCLUSIVE")
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            journal = cls(connection, path)
            journal._check(fingerprints)
            # Whatever was under way when the last process ended.
            connection.execute(
                "UPDATE calls SET unsure_usd = unsure_usd + held_usd, held_usd = 0 WHERE held_usd > 0 AND batch IS NULL"
            )
            connection.execute("COMMIT")
        except sqlite3.Error as exc:
            if connection is not None:
                connection.close()
            why = "another replay has it open. Wait for it, or name" if "locked" in str(exc) else f"{exc}. Name"
            raise InputError(f"The journal {path} can't be used: {why} another journal.") from exc
        except InputError:
            assert connection is not None
            connection.close()
            raise
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def _meta(self, name: str, default: str) -> str:
        self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, default))
        value: str = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]
        return value

    def _check(self, fingerprints: Mapping[str, str]) -> None:
        version = self._meta("version", _VERSION)
        if version != _VERSION:
            raise InputError(
                f"The journal {self.path} is of version {version}, needed {_VERSION}; name another journal."
            )
        for model, fingerprint in fingerprints.items():
            self._db.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (model, fingerprint))
            begun = self._db.execute("SELECT fingerprint FROM settings WHERE model = ?", (model,)).fetchone()[0]
            if begun != fingerprint:
                raise InputError(
                    f"The journal {self.path} was begun with other settings for {model!r} (its API name, max_tokens, temperature or "
                    "extra_body). Set them as they were, or name another journal."
                )

    def key(self, model: str, prompt: str) -> str:
        """The call's key (64 hex digits): in this journal, and as ``Idempotency-Key`` and ``custom_id`` at the server."""
        return hashlib.sha256(f"{self.nonce}\n{model}\n{prompt}".encode()).hexdigest()

    def known(self, key: str) -> Known:
        """What is known of a call."""
        row = self._db.execute("SELECT state, unsure_usd, batch FROM calls WHERE key = ?", (key,)).fetchone()
        return Known("open", 0.0, None) if row is None else Known(*row)

    def spent_usd(self) -> float:
        """All that was charged or may have been, and what batches under way may cost."""
        sums = self._db.execute("SELECT TOTAL(charged_usd + unsure_usd + held_usd) FROM calls").fetchone()
        return float(sums[0])

    def unsure(self) -> tuple[int, float]:
        """Calls with attempts that may have been charged in vain, and their USD at worst."""
        n, usd = self._db.execute("SELECT COUNT(*), TOTAL(unsure_usd) FROM calls WHERE unsure_usd > 0").fetchone()
        return int(n), float(usd)

    def n_cut(self) -> int:
        """Answers that ended at the longest length allowed."""
        return int(self._db.execute("SELECT COUNT(*) FROM calls WHERE finish = 'length'").fetchone()[0])

    def start(self, key: str, prompt: bytes, model: str, held_usd: float, batch: str | None = None) -> None:
        """An attempt is about to be sent that may cost so much."""
        self._db.execute(
            "INSERT INTO calls (key, prompt, model, held_usd, batch) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET held_usd = excluded.held_usd, batch = excluded.batch",
            (key, prompt, model, held_usd, batch),
        )

    def answer(
        self,
        key: str,
        answer: Answer,
        *,
        charged_usd: float,
        cost_usd: float | None,
        latency_ms: float | None,
        created_at: float,
        forget_unsure: bool,
    ) -> None:
        """The call is answered; `forget_unsure`: what earlier attempts may have cost is in this charge."""
        self._db.execute(
            "UPDATE calls SET state = 'answered', held_usd = 0, batch = NULL, reason = NULL, charged_usd = ?, cost_usd = ?, "
            "response = ?, input_tokens = ?, output_tokens = ?, finish = ?, latency_ms = ?, created_at = ?, "
            "unsure_usd = CASE WHEN ? THEN 0 ELSE unsure_usd END WHERE key = ?",
            (
                *(charged_usd, cost_usd, answer.text, answer.input_tokens, answer.output_tokens, answer.finish),
                *(latency_ms, created_at, forget_unsure, key),
            ),
        )

    def fail(self, key: str, reason: str, *, unsure: bool, refused: bool = False) -> None:
        """The attempt brought no answer; `unsure`: it may have been charged; `refused`: asking again is no use."""
        self._db.execute(
            "UPDATE calls SET unsure_usd = unsure_usd + CASE WHEN ? THEN held_usd ELSE 0 END, held_usd = 0, batch = NULL, "
            "state = CASE WHEN ? THEN 'refused' ELSE state END, reason = ? WHERE key = ?",
            (unsure, refused, reason, key),
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes within, or none of them."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def add_batch(self, batch: Batch) -> None:
        """Note a batch that is about to be made."""
        self._db.execute("INSERT INTO batches VALUES (?, ?, ?)", (batch.name, batch.model, batch.remote))

    def batch_made(self, name: str, remote: str) -> None:
        """Note the server's id of a batch."""
        self._db.execute("UPDATE batches SET remote = ? WHERE name = ?", (remote, name))

    def batches(self) -> list[Batch]:
        """The batches that aren't collected yet."""
        return [Batch(*row) for row in self._db.execute("SELECT name, model, remote FROM batches ORDER BY name")]

    def held_in(self, name: str, key: str) -> float | None:
        """What is set aside for a call of the batch, or None if it isn't one of its calls."""
        row = self._db.execute("SELECT held_usd FROM calls WHERE key = ? AND batch = ?", (key, name)).fetchone()
        return None if row is None else float(row[0])

    def end_batch(self, name: str, *, unsure: bool, reason: str) -> None:
        """Forget a batch; its calls without an outcome are open again."""
        left = self._db.execute("SELECT key FROM calls WHERE batch = ?", (name,)).fetchall()
        for (key,) in left:
            self.fail(key, reason, unsure=unsure)
        self._db.execute("DELETE FROM batches WHERE name = ?", (name,))

    def answered(self, models: Sequence[str], *, size: int = 10_000) -> Iterator[list[tuple[Any, ...]]]:
        """All answers of the models, in chunks of rows: prompt hash, model, response, tokens in, out, cost, latency, created_at."""
        cursor = self._db.execute(
            "SELECT prompt, model, response, input_tokens, output_tokens, cost_usd, latency_ms, created_at FROM calls "
            f"WHERE state = 'answered' AND model IN ({','.join('?' * len(models))})",
            tuple(models),
        )
        while rows := cursor.fetchmany(size):
            yield rows

    def reasons(self, state: str, *, limit: int = 5) -> tuple[tuple[str, int], ...]:
        """Why calls of a state have no answer, the most frequent first."""
        rows = self._db.execute(
            "SELECT reason, COUNT(*) AS n FROM calls WHERE state = ? AND reason IS NOT NULL GROUP BY reason ORDER BY n DESC, reason LIMIT ?",
            (state, limit),
        )
        return tuple((str(reason), int(n)) for reason, n in rows)
