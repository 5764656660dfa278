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
from router_ml.judge import Agreement, JudgeResult, Margin, agreement, labelled_answers, margin_from_labels
from router_ml.learning.encoders import Encoder, load_encoder

__all__ = ["JudgeCheck", "compare_with_people", "embedding", "read_labels"]


@dataclass(frozen=True, slots=True)
class JudgeCheck:
    """How far a judge agrees with people, and the margin that its noise asks for, or why there is none."""

    agreement: Agreement
    margin: Margin | None
    no_margin: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "agreement": self.agreement.to_dict(),
            "margin": None if self.margin is None else self.margin.to_dict(),
            "no_margin": self.no_margin,
        }

    def summary(self) -> str:
        """For a terminal."""
        if self.margin is None:
            return f"{self.agreement.summary()}\n{self.no_margin}"
        return (
            f"{self.agreement.summary()}\nMargin around the bar: {self.margin.width:.3f} (of {self.margin.n} labelled answers "
            f"{self.margin.n_outside} are outside of it); fit with --bar-margin {self.margin.width:.3f}"
        )


def read_labels(path: Path) -> pl.DataFrame:
    """People's labels of answers; raises InputError where the file can't be read."""
    try:
        # Ids stay text, though they may be digits.
        return pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as exc:
        raise InputError(f"The labels {path} can't be read ({exc}); give a Parquet or CSV file.") from exc


def compare_with_people(result: JudgeResult, labels: pl.DataFrame, *, bar: float, random_state: int) -> JudgeCheck:
    """Compare judged answers with people's labels; raises InputError or TrafficError where the labels can't be used."""
    both = labelled_answers(result.grades, labels)
    judge, human = both["quality"].to_numpy(), both["human"].to_numpy()
    agreed = agreement(judge, human, bar=bar, prompts=both["prompt_id"].to_list(), random_state=random_state)
    try:
        return JudgeCheck(agreed, margin_from_labels(judge, human, bar=bar))
    except InputError as exc:
        return JudgeCheck(agreed, None, str(exc))


def embedding(encoder: str) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """What the grader ``similarity`` embeds with; the encoder is loaded when it is first used."""
    loaded: list[Encoder] = []

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        if not loaded:
            loaded.append(load_encoder(encoder))
        return loaded[0].encode(texts)

    return embed
