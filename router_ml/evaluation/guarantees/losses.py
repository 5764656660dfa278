"""What a guarantee is about: the loss of each knob setting on each prompt."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from router_ml.errors import InputError
from router_ml.evaluation.inputs import FloatArray, IntArray, as_table

__all__ = ["as_losses", "check_open_unit", "quality_loss", "violations"]


def quality_loss(choices: ArrayLike, quality: ArrayLike, reference: int) -> FloatArray:
    """How much worse the chosen tier's answer was than the reference tier's: ``Q_reference - Q_chosen``.

    Parameters
    ----------
    choices : array-like [n, K] of int
        The tier that each of K knob settings picks for each prompt (`Sweep.choices`, transposed).
    quality : array-like [n, T]
        Observed, in [0, 1].
    reference : int
        Index of the tier to compare with. Fix it before the rows are seen, as the settings.

    Returns
    -------
    array [n, K]
        In [-1, 1]; negative where the chosen tier did better, 0 where it is the reference.

    Raises
    ------
    InputError
        An incomplete table, quality outside [0, 1], or choices and reference that are no tiers.

    Notes
    -----
    The promise is about E[Q_reference - Q_chosen], so that prompts that a cheaper tier answers better make up for
    others. ``max(loss, 0)`` would promise more, which no router keeps where answers are noisy: two runs of one model
    lose to each other on some prompts too.

    Examples
    --------
    >>> quality_loss([[1, 0], [1, 0]], [[1.0, 0.0], [0.0, 1.0]], reference=1).tolist()
    [[0.0, -1.0], [0.0, 1.0]]
    """
    table = as_table("quality", quality)
    if table.min() < 0 or table.max() > 1:
        raise InputError(f"quality runs from {table.min():g} to {table.max():g}; needed values in [0, 1]. Rescale it.")
    if not 0 <= reference < table.shape[1]:
        raise InputError(f"reference is {reference}; needed the index of a tier, 0 to {table.shape[1] - 1}.")
    picked = _as_choices(choices, table)
    return table[:, [reference]] - np.take_along_axis(table, picked, axis=1)


def violations(choices: ArrayLike, meets: ArrayLike) -> FloatArray:
    """1 where the chosen tier's answer is under the bar, 0 where it meets it.

    Parameters
    ----------
    choices : array-like [n, K] of int
        See `quality_loss`.
    meets : array-like [n, T] of bool
        Whether each tier's answer met the bar.

    Returns
    -------
    array [n, K]
        Of 0 and 1; the mean of a column is the share of answers under the bar.

    Raises
    ------
    InputError
        A table that isn't of 0 and 1, or choices that are no tiers.
    """
    table = as_table("meets", meets)
    if not np.isin(table, (0.0, 1.0)).all():
        raise InputError("meets holds values other than 0 and 1; needed whether each answer met the bar.")
    return 1 - np.take_along_axis(table, _as_choices(choices, table), axis=1)


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


def _as_choices(choices: ArrayLike, table: FloatArray) -> IntArray:
    picked = np.asarray(choices)
    n, tiers = table.shape
    if picked.ndim != 2 or picked.shape[0] != n or picked.shape[1] == 0 or picked.dtype.kind not in "iu":
        raise InputError(
            f"choices has shape {picked.shape} and type {picked.dtype}; needed tier indices [{n}, K], one column for each "
            "setting. Transpose a Sweep's choices."
        )
    if picked.min() < 0 or picked.max() >= tiers:
        raise InputError(f"choices runs from {picked.min()} to {picked.max()}; needed tiers 0 to {tiers - 1}.")
    return picked.astype(np.intp)
