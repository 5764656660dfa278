"""The default choice looked at closely: by slice of the traffic, and against the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_ml.errors import InputError
from router_ml.evaluation.inputs import FloatArray

__all__ = ["NO_TIER", "Confusion", "SliceRow", "as_meets", "confusion", "known_labels", "slice_rows"]

NO_TIER = "none"
"""The label of a prompt on which no tier met the bar."""


@dataclass(frozen=True)
class SliceRow:
    """The router's default on one slice of the prompts, beside the best single tier.

    Attributes
    ----------
    slice, value : str
        Say "category" and "algebra".
    n : int
        Prompts.
    cost_usd, quality : float
        Means of what the router picked.
    best_cost_usd, best_quality : float
        Means of the tier that is the best over all prompts.
    share : tuple of T floats
        Share of calls to each tier.
    labels : tuple of T + 1 ints
        Prompts by label, "none" last; prompts of unknown label are in none of them.
    """

    slice: str
    value: str
    n: int
    cost_usd: float
    quality: float
    best_cost_usd: float
    best_quality: float
    share: tuple[float, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Confusion:
    """Label against chosen tier.

    Attributes
    ----------
    labels : tuple of T + 1 str
        The tiers, then "none".
    tiers : tuple of T str
    counts : tuple of T + 1 tuples of T ints
        Prompts with that label (row) that went to that tier (column).
    n_unknown : int
        Prompts left out: some tier cheaper than the first that met the bar wasn't tried.
    """

    labels: tuple[str, ...]
    tiers: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    n_unknown: int


def as_meets(meets: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Whether each answer met the bar [n, T]: 1, 0, or NaN for not tried.

    Raises
    ------
    InputError
        Another shape, or other values.
    """
    table = np.asarray(meets, dtype=np.float64)
    if table.shape != shape:
        raise InputError(f"meets has shape {table.shape}; needed {shape}, the prompts and tiers of the other tables.")
    if not (np.isnan(table) | np.isin(table, (0.0, 1.0))).all():
        raise InputError("meets holds values other than 0, 1 and NaN; needed quality compared with the bar.")
    return table


def known_labels(meets: FloatArray) -> NDArray[np.intp]:
    """The label of each prompt [n]: the cheapest tier that met the bar, T where none did, -1 where it isn't known.

    Parameters
    ----------
    meets : array [n, T]
        1, 0 or NaN (not tried). A label needs every cheaper tier to have been tried, and to have failed.
    """
    tiers = meets.shape[1]
    not_failed = np.column_stack((meets != 0, np.ones(len(meets), dtype=bool)))
    first = not_failed.argmax(axis=1)
    reached = np.column_stack((meets, np.ones(len(meets))))[np.arange(len(meets)), first]
    return np.where((first == tiers) | (reached == 1), first, -1)


def confusion(labels: NDArray[np.intp], choice: NDArray[np.intp], tiers: Sequence[str]) -> Confusion:
    """How often prompts of each label went to each tier.

    Parameters
    ----------
    labels, choice : array [n] of int
        See `known_labels`; the index of the chosen tier.
    tiers : sequence of T str
    """
    known = labels >= 0
    counts = np.zeros((len(tiers) + 1, len(tiers)), dtype=int)
    np.add.at(counts, (labels[known], choice[known]), 1)
    rows = tuple(tuple(row) for row in counts.tolist())
    return Confusion((*tiers, NO_TIER), tuple(tiers), rows, int((~known).sum()))


def slice_rows(
    slices: Mapping[str, ArrayLike],
    quality: FloatArray,
    cost: FloatArray,
    choice: NDArray[np.intp],
    labels: NDArray[np.intp],
    best: int,
) -> list[SliceRow]:
    """One row for each value of each slice, the most frequent first.

    Parameters
    ----------
    slices : mapping of name to array-like [n] of str
    quality, cost : array [n, T]
        What was observed.
    choice, labels : array [n] of int
    best : int
        The best single tier.

    Raises
    ------
    InputError
        A slice isn't one value per prompt.
    """
    n, tiers = quality.shape
    rows = []
    for name, values in slices.items():
        column = np.asarray(values)
        if column.shape != (n,):
            raise InputError(f"slice {name!r} has shape {column.shape}; needed ({n},), one value per prompt.")
        found, group, counts = np.unique(column.astype(str), return_inverse=True, return_counts=True)
        for k in np.argsort(-counts, kind="stable"):
            at = np.flatnonzero(group == k)
            known = labels[at][labels[at] >= 0]
            rows.append(
                SliceRow(
                    slice=name,
                    value=str(found[k]),
                    n=len(at),
                    cost_usd=float(cost[at, choice[at]].mean()),
                    quality=float(quality[at, choice[at]].mean()),
                    best_cost_usd=float(cost[at, best].mean()),
                    best_quality=float(quality[at, best].mean()),
                    share=tuple((np.bincount(choice[at], minlength=tiers) / len(at)).tolist()),
                    labels=tuple(np.bincount(known, minlength=tiers + 1).tolist()),
                )
            )
    return rows
