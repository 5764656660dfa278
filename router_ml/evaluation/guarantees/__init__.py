"""Knob settings with a finite-sample guarantee: losses, p-values, and learn-then-test over a sequence of settings."""

from __future__ import annotations

from router_ml.evaluation.guarantees.certificate import (
    Certificate,
    CertifiedRow,
    Method,
    certified_table,
    certify,
    rows_needed,
)
from router_ml.evaluation.guarantees.losses import quality_loss, violations
from router_ml.evaluation.guarantees.p_values import betting_p_value, binomial_p_value, hoeffding_bentkus_p_value

__all__ = [
    "Certificate",
    "CertifiedRow",
    "Method",
    "betting_p_value",
    "binomial_p_value",
    "certified_table",
    "certify",
    "hoeffding_bentkus_p_value",
    "quality_loss",
    "rows_needed",
    "violations",
]
