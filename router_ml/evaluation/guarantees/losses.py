"""What a guarantee is about: a table with the loss of each knob setting on each prompt."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from router_ml.errors import InputError
from router_ml.evaluation.inputs import FloatArray

__all__ = ["as_losses", "check_open_unit"]


def as_losses(losses: ArrayLike, lowest: float | None = None) -> FloatArray:
    """A finite table [n, K] (from [n]: K = 1) of losses at most 1 and, where it is given, at least `lowest`."""
    table = np.asarray(losses, dtype=np.float64)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or 0 in table.shape or not np.isfinite(table).all():
        raise InputError(
            f"losses has shape {np.shape(losses)} or holds NaN or infinity; needed a complete table [n, K] with at least "
            "one prompt. Keep only the prompts on which the loss of every setting is known."
        )
    if table.max() > 1 or (lowest is not None and table.min() < lowest):
        raise InputError(
            f"losses run from {table.min():g} to {table.max():g}; needed "
            f"{'at most' if lowest is None else f'{lowest:g} to'} 1. Rescale them."
        )
    return table


def check_open_unit(name: str, value: float) -> None:
    """Refuse what isn't inside (0, 1)."""
    if not 0 < value < 1:
        raise InputError(f"{name} is {value:g}; needed a number between 0 and 1, such as 0.05.")
