"""Training prompts that a query resembles: their ids and what happened to them, kept in the artifact where that was asked for."""

from __future__ import annotations

import base64
import io
import threading
import zlib
from dataclasses import dataclass
from typing import NamedTuple, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from router_ml.errors import ArtifactError

__all__ = ["Neighbour", "Neighbours", "StoredNeighbours"]

_LEVELS = 127
"""Of a coordinate, on either side of 0: enough for a similarity to the second decimal."""


class Neighbour(NamedTuple):
    """A training prompt like the query.

    Attributes
    ----------
    prompt_id : str
    similarity : float
        Cosine of the two embeddings, in [-1, 1].
    quality : dict of str to float
        Of each tier that answered it.
    """

    prompt_id: str
    similarity: float
    quality: dict[str, float]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A sample of m training prompts.

    Attributes
    ----------
    ids : array [m] of str
    vectors : array [m, d] of int8
        Embeddings of unit length, times 127.
    quality : array [m, T] of float16
        NaN where a tier did not answer.
    """

    ids: NDArray[np.str_]
    vectors: NDArray[np.int8]
    quality: NDArray[np.float16]

    @classmethod
    def of(cls, ids: NDArray[np.str_], embeddings: NDArray[np.floating], quality: NDArray[np.floating]) -> Self:
        """Pack embeddings [m, d] and qualities [m, T] of m prompts."""
        vectors = np.round(_unit(embeddings) * _LEVELS).astype(np.int8)
        return cls(np.asarray(ids, dtype=np.str_), vectors, quality.astype(np.float16))

    def nearest(self, embedding: NDArray[np.floating], n: int, tiers: tuple[str, ...]) -> tuple[Neighbour, ...]:
        """The n prompts most like an embedding [d], most similar first."""
        vectors = _unit(self.vectors.astype(np.float32))
        similarity = vectors @ _unit(embedding[None, :])[0]
        order = np.argsort(-similarity, kind="stable")[:n]
        return tuple(
            Neighbour(
                str(self.ids[i]),
                float(similarity[i]),
                {t: float(q) for t, q in zip(tiers, self.quality[i], strict=True) if not np.isnan(q)},
            )
            for i in order.tolist()
        )

    def to_text(self) -> str:
        """As base64 of an ``.npz``, without pickle; the inverse of :meth:`from_text`."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, ids=self.ids, vectors=self.vectors, quality=self.quality)
        return base64.b64encode(buffer.getvalue()).decode()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what :meth:`to_text` wrote; raises ArtifactError where it can't be read."""
        try:
            with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as stored:
                return cls(stored["ids"], stored["vectors"], stored["quality"])
        except (OSError, EOFError, ValueError, KeyError, NotImplementedError, BadZipFile, zlib.error) as exc:
            raise ArtifactError(f"The artifact's training prompts can't be read ({exc}); export it again.") from exc


class StoredNeighbours:
    """An artifact's neighbours, unpacked when they are first asked for, and once. Threads may share it.

    Parameters
    ----------
    text : str
        :meth:`Neighbours.to_text`; empty: the artifact holds none.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._lock = threading.Lock()
        self._unpacked: Neighbours | None = None

    @property
    def is_there(self) -> bool:
        """Whether the artifact holds any."""
        return bool(self._text)

    def nearest(self, embedding: NDArray[np.floating], n: int, tiers: tuple[str, ...]) -> tuple[Neighbour, ...]:
        """:meth:`Neighbours.nearest`; raises ArtifactError where they can't be read."""
        return self._read().nearest(embedding, n, tiers)

    def ids(self) -> NDArray[np.str_]:
        """Ids of all of them, none where there are none; raises ArtifactError where they can't be read."""
        return self._read().ids if self.is_there else np.array([], dtype=np.str_)

    def _read(self) -> Neighbours:
        with self._lock:
            if self._unpacked is None:
                self._unpacked = Neighbours.from_text(self._text)
            return self._unpacked


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, 1e-12), dtype=np.float32)
