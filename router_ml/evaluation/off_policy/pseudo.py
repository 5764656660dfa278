"""Pseudo-outcomes: a complete table made from a partial one, right on average for every policy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from router_ml.errors import InputError
from router_ml.evaluation.inputs import FloatArray, as_table

__all__ = ["pseudo_outcomes"]


def pseudo_outcomes(observed: ArrayLike, propensity: ArrayLike, predicted: ArrayLike) -> FloatArray:
    """What each tier is worth on each prompt: predicted, plus the weighted residual where it was tried.

    Parameters
    ----------
    observed : array-like [n, T]
        Outcomes, NaN where a tier was not tried.
    propensity : array-like [n, T]
        The chance that the cell would be observed, in (0, 1]; looked at where it was.
    predicted : array-like [n, T]
        Expected outcomes, from models that did not see the row.

    Returns
    -------
    array [n, T]
        Of a complete row with propensity 1, the outcomes themselves. Single values may leave the outcomes' range.

    Raises
    ------
    InputError
        Tables of different shapes, NaN predictions, or propensities outside (0, 1].

    Notes
    -----
    The mean over any policy's choices is the doubly robust estimate of its value: unbiased where the propensities are right,
    whatever the predictions, and the other way round.

    References
    ----------
    J. M. Robins, A. Rotnitzky, L. P. Zhao (1994), "Estimation of regression coefficients when some regressors are not always
    observed", JASA 89.
    E. H. Kennedy (2023), "Towards optimal doubly robust estimation of heterogeneous causal effects", EJS 17.

    Examples
    --------
    >>> pseudo_outcomes([[1.0, float("nan")]], [[0.5, 0.5]], [[0.8, 0.6]]).round(6).tolist()
    [[1.2, 0.6]]
    """
    expected = as_table("predicted", predicted)
    shape = (expected.shape[0], expected.shape[1])
    seen, chance = np.asarray(observed, dtype=np.float64), np.asarray(propensity, dtype=np.float64)
    if seen.shape != shape or chance.shape != shape:
        raise InputError(
            f"observed has shape {seen.shape} and propensity {chance.shape}; needed {shape}, that of predicted."
        )
    tried = ~np.isnan(seen)
    if not ((chance[tried] > 0) & (chance[tried] <= 1)).all():
        raise InputError("propensity holds NaN or values outside (0, 1] where a tier was tried; needed its chance.")
    residual = np.where(tried, seen - expected, 0.0)
    return expected + residual / np.where(tried, chance, 1.0)
