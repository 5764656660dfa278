"""What callers may hand in as a number."""

from __future__ import annotations

import math
from numbers import Real
from typing import TypeGuard

__all__ = ["is_finite"]


def is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a number that a float holds, neither infinite nor NaN."""
    try:
        return isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False
