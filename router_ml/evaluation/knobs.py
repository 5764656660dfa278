"""Default settings of the two policies' knobs, which adapt to where choices change."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from router_ml.errors import InputError
from router_ml.evaluation.inputs import FloatArray
from router_ml.evaluation.steps import upward_steps

__all__ = ["as_knob", "default_lams", "default_thresholds"]

# Half of the lams are spread geometrically, half over the quantiles of the ratios at which choices change.
_GRID = 200
# A ratio beyond this comes of costs that differ by rounding only, and would overflow when it multiplies a cost.
_LARGEST = 1e150


def default_lams(quality: FloatArray, cost: FloatArray) -> FloatArray:
    """Ascending lams for expected quality and cost [n, T], from 0 to where only cost counts; see `sweep_value`."""
    slopes = upward_steps(quality, cost).slope
    slopes = slopes[slopes < _LARGEST]
    if slopes.size == 0:  # every prompt's cheapest tier is also its best: nothing ever changes
        return np.array([0.0, 1.0])
    # Quantiles beside the geometric spacing: a few prompts with all but equal tiers stretch the range by decades.
    geometric = np.geomspace(slopes.min(), slopes.max(), _GRID)
    quantiles = np.quantile(slopes, (np.arange(_GRID) + 0.5) / _GRID)
    return np.unique(np.concatenate(([0.0], geometric, quantiles, [2 * slopes.max()])))


def default_thresholds(p: FloatArray) -> FloatArray:
    """Descending thresholds for p_meets [n, T], from just over 1 to 0; see `sweep_bar`."""
    # A prompt's choice changes only at a tier that is likelier to meet the bar than every cheaper one.
    best_cheaper = np.maximum.accumulate(p, axis=1)[:, :-1]
    records = np.concatenate((p[:, 0], p[:, 1:][p[:, 1:] > best_cheaper]))
    values = np.unique(records)
    if len(values) > 2 * _GRID:
        values = np.unique(np.quantile(records, np.linspace(0, 1, 2 * _GRID), method="inverted_cdf"))
    return np.unique(np.concatenate(([0.0], values, [np.nextafter(1.0, 2.0)])))[::-1]


def as_knob(name: str, values: ArrayLike) -> FloatArray:
    """The caller's own settings as a finite vector [S]."""
    knob = np.asarray(values, dtype=np.float64)
    if knob.ndim != 1 or knob.size == 0 or not np.isfinite(knob).all():
        raise InputError(f"{name} has shape {knob.shape}; needed a vector [S] of finite settings, S >= 1.")
    return knob
