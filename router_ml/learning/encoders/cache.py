"""Embeddings cached by what was embedded and by what, so that a second run embeds only what is new."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router_ml.errors import InputError
from router_ml.learning.encoders.base import Encoder

__all__ = ["EmbeddingCache", "embed"]

_CHUNK = 1024
"""Texts that are embedded between two commits: what is lost at most when a run is stopped."""


class EmbeddingCache:
    """A folder with one SQLite file per encoder fingerprint, from a text's SHA-256 to its vector."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @contextmanager
    def _open(self, fingerprint: str) -> Iterator[sqlite3.Connection]:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{fingerprint[:32]}.sqlite"
        connection = sqlite3.connect(path, timeout=60)
        try:
            with connection:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"
                )
                yield connection
        except sqlite3.DatabaseError as exc:
            raise InputError(
                f"The embedding cache {path} can't be used ({exc}); remove it, and it is made anew."
            ) from exc
        finally:
            connection.close()

    def get(self, fingerprint: str, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """The vectors that are there, by key."""
        with self._open(fingerprint) as connection:
            found = {}
            for key in keys:
                row = connection.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    found[key] = np.frombuffer(row[0], dtype="<f4")
            return found

    def put(self, fingerprint: str, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Add vectors, in one transaction."""
        with self._open(fingerprint) as connection:
            rows = [(key, vector.astype("<f4").tobytes()) for key, vector in zip(keys, vectors, strict=True)]
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)


def embed(
    encoder: Encoder, texts: Sequence[str], cache: EmbeddingCache | None = None, *, progress: bool = False
) -> NDArray[np.float32]:
    """Embed rendered texts, each distinct one once, and only what the cache lacks.

    Parameters
    ----------
    encoder : Encoder
    texts : sequence of str
        Rendered texts (`router_ml.core.text.render`).
    cache : EmbeddingCache, optional
    progress : bool
        Show a bar on stderr.

    Returns
    -------
    array [n, d] of float32
    """
    from tqdm import tqdm

    keys = [hashlib.sha256(t.encode()).digest() for t in texts]
    known = {} if cache is None else cache.get(encoder.fingerprint, list(dict.fromkeys(keys)))
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    todo = list(missing.items())
    with tqdm(total=len(todo), desc=f"embed ({encoder.name})", unit="prompt", disable=not progress or not todo) as bar:
        for start in range(0, len(todo), _CHUNK):
            chunk = todo[start : start + _CHUNK]
            vectors = encoder.encode([text for _, text in chunk])
            chunk_keys = [key for key, _ in chunk]
            if cache is not None:
                cache.put(encoder.fingerprint, chunk_keys, vectors)
            known.update(zip(chunk_keys, vectors, strict=True))
            bar.update(len(chunk))
    return np.stack([known[key] for key in keys]) if keys else np.empty((0, 0), np.float32)
