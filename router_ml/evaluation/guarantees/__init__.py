"""Knob settings with a finite-sample guarantee: losses, p-values, and learn-then-test over a sequence of settings."""

from __future__ import annotations

from router_ml.evaluation.guarantees.certificate import Certificate, Method, certify, rows_needed
from router_ml.evaluation.guarantees.p_values import betting_p_value, binomial_p_value, hoeffding_bentkus_p_value
from router_ml.evaluation.guarantees.trinomial import trinomial_p_value

__all__ = [
    "Certificate",
    "Method",
    "betting_p_value",
    "binomial_p_value",
    "certify",
    "hoeffding_bentkus_p_value",
    "rows_needed",
    "trinomial_p_value",
]
