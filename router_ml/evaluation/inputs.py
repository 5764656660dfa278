"""What every table handed to this package has to be, checked once at the door."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_ml.errors import InputError

__all__ = ["FloatArray", "IntArray", "as_quality_and_cost", "as_table", "as_vector"]

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.signedinteger[Any]]


def as_table(name: str, values: ArrayLike, *, shape: tuple[int, int] | None = None) -> FloatArray:
    """A complete float table [n, T] of at least one prompt and two tiers.

    Parameters
    ----------
    name : str
        What the caller calls it, for the message.
    values : array-like [n, T]
        Finite numbers.
    shape : (int, int), optional
        The shape that it has to have.

    Raises
    ------
    InputError
        It isn't two-dimensional, is empty, has a single tier, holds NaN or infinity, or has another shape.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or 0 in table.shape:
        raise InputError(
            f"{name} has shape {table.shape}; needed [n prompts, T tiers] with at least one prompt. "
            "Pass one row per prompt and one column per tier, in ladder order."
        )
    if table.shape[1] < 2:
        raise InputError(
            f"{name} has one tier; a frontier needs at least two. Evaluate on traffic that two or more tiers answered."
        )
    if shape is not None and table.shape != shape:
        raise InputError(
            f"{name} has shape {table.shape}; needed {shape}, the shape of the tables beside it. "
            "Pass the same prompts and the same tiers, in the same order."
        )
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        row, tier = bad[0]
        raise InputError(
            f"{name} holds {len(bad)} NaN or infinite value(s), the first at prompt {row}, tier {tier}; "
            "needed a complete table. Keep only the prompts that every tier answered."
        )
    return table


def as_quality_and_cost(quality: ArrayLike, cost_usd: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """The observed quality and cost of every tier on every prompt, of one shape, with costs >= 0.

    Raises
    ------
    InputError
        See `as_table`; or a cost is negative.
    """
    cost = as_table("cost_usd", cost_usd)
    good = as_table("quality", quality, shape=(cost.shape[0], cost.shape[1]))
    if cost.min() < 0:
        row, tier = np.argwhere(cost < 0)[0]
        raise InputError(
            f"cost_usd is {cost[row, tier]:g} at prompt {row}, tier {tier}; needed USD per call, >= 0. Mend that row."
        )
    return good, cost


def as_vector(name: str, values: ArrayLike, *, size: int | None = None) -> FloatArray:
    """A float vector [n] without infinities (NaN may stand for "not observed"), of the size asked for.

    Raises
    ------
    InputError
        It isn't one-dimensional, is empty, holds an infinity, or has another length.
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0 or (size is not None and vector.size != size):
        needed = "one value per prompt" if size is None else f"{size} values, one per prompt"
        raise InputError(f"{name} has shape {vector.shape}; needed {needed}. Pass the same prompts in the same order.")
    if np.isinf(vector).any():
        raise InputError(f"{name} holds an infinity; needed finite values, or NaN where nothing was observed.")
    return vector
