"""How close an answer's embedding is to a reference answer's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le

from router_ml.errors import InputError
from router_ml.judge.grading import Grade, Grader, Item, Means

__all__ = ["Similarity"]


@dataclass(frozen=True)
class Similarity(Grader):
    """Cosine of the answer's and the reference's embeddings, stretched from [`low`, `high`] to [0, 1] and clipped.

    Parameters
    ----------
    low, high : float
        Cosines that count as 0 and as 1, in [-1, 1], `low` < `high`.

    Notes
    -----
    Close in topic isn't the same as right: "it rose" and "it fell" are neighbours. Look at its agreement with labels
    first.
    """

    kind: ClassVar[str] = "similarity"

    low: Annotated[float, Ge(-1), Le(1)] = 0.0
    high: Annotated[float, Ge(-1), Le(1)] = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(
                f"Settings of the grader 'similarity': low is {self.low}, high is {self.high}; low needs to be less."
            )

    def check(self, means: Means) -> None:
        """Raise InputError where no encoder was given."""
        if means.embed is None:
            raise InputError("The grader 'similarity' needs an encoder; give judge_traffic one as embed=.")

    def grade_all(self, items: Sequence[Item], means: Means) -> Iterator[Grade]:
        """Grade answers, in order."""
        self.check(means)
        if not items or means.embed is None:
            return
        texts = list(dict.fromkeys([*(i.response for i in items), *(i.reference or "" for i in items)]))
        vectors = np.asarray(means.embed(texts), dtype=np.float64)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise InputError(
                f"The encoder gave an array {vectors.shape} for {len(texts)} texts; it needs to be [n, d]."
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        units = dict(zip(texts, vectors / np.where(lengths > 0, lengths, np.nan), strict=True))
        for item in items:
            cosine = float(units[item.response] @ units[item.reference or ""])
            if np.isfinite(cosine):
                quality = float(np.clip((cosine - self.low) / (self.high - self.low), 0, 1))
                yield Grade(quality, f"cosine {cosine:.3f}")
            else:
                yield Grade(None, "the answer or the reference has no embedding")
