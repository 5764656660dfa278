"""What a judge is worth beside people, and the margin around the bar that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml.errors import InputError
from router_ml.learning.encoders import Encoder, load_encoder
from router_ml.traffic.judge import Agreement, JudgeResult, Margin, agree_with_labels, margin_from_labels

__all__ = ["JudgeCheck", "compare_with_people", "embedding"]

_MIN_FOR_MARGIN = 30


@dataclass(frozen=True, slots=True)
class JudgeCheck:
    """How far a judge agrees with people, and the margin that its noise asks for (None: too few labels to say)."""

    agreement: Agreement
    margin: Margin | None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "agreement": self.agreement.to_dict(),
            "margin": None if self.margin is None else self.margin.to_dict(),
        }

    def summary(self) -> str:
        """For a terminal."""
        if self.margin is None:
            return f"{self.agreement.summary()}\nToo few labels for a margin around the bar."
        return (
            f"{self.agreement.summary()}\nMargin around the bar: {self.margin.width:.3f} (of {self.margin.n} labelled answers "
            f"{self.margin.n_outside} are outside of it); fit with --bar-margin {self.margin.width:.3f}"
        )


def compare_with_people(result: JudgeResult, labels: Path, *, bar: float, random_state: int) -> JudgeCheck:
    """Compare judged answers with people's labels; raises InputError or TrafficError where the labels can't be used."""
    try:
        table = pl.read_parquet(labels) if labels.suffix == ".parquet" else pl.read_csv(labels)
    except (OSError, pl.exceptions.PolarsError) as exc:
        raise InputError(f"The labels {labels} can't be read ({exc}); give a Parquet or CSV file.") from exc
    judged = result.grades.select("prompt_id", "model", "quality")
    agreement = agree_with_labels(judged, table, bar=bar, random_state=random_state)
    keys = ["prompt_id", "model"]
    people = table.group_by(keys).agg(pl.col("quality").cast(pl.Float64).mean().alias("human"))
    both = judged.join(people, on=keys, how="inner").drop_nulls().sort(keys)
    margin = None
    if both.height >= _MIN_FOR_MARGIN:
        margin = margin_from_labels(both["quality"].to_numpy(), both["human"].to_numpy(), bar=bar)
    return JudgeCheck(agreement, margin)


def embedding(encoder: str) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """What the grader ``similarity`` embeds with; the encoder is loaded when it is first used."""
    loaded: list[Encoder] = []

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        if not loaded:
            loaded.append(load_encoder(encoder))
        return loaded[0].encode(texts)

    return embed
