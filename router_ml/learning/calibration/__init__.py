"""Calibration: scores into probabilities that mean what they say."""

from router_ml.learning.calibration.curves import (
    Curve,
    choose_curve,
    fit_beta,
    fit_isotonic,
    fit_platt,
    fit_temperature,
)
from router_ml.learning.calibration.per_tier import Calibration, fit_offset

__all__ = [
    "Calibration",
    "Curve",
    "choose_curve",
    "fit_beta",
    "fit_isotonic",
    "fit_offset",
    "fit_platt",
    "fit_temperature",
]
