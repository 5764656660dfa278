"""A share with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Share", "share"]

_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `n`, with a 95 % interval; NaN where n is 0."""

    count: int
    n: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.n:,}" if self.n else "none"


def share(count: int, n: int) -> Share:
    """A share with Wilson's 95 % interval, for independent trials.

    >>> str(share(8, 10))
    '0.800 [0.490, 0.943] of 10'

    References
    ----------
    Wilson: Probable inference, the law of succession, and statistical inference (JASA 1927).
    """
    if n == 0:
        return Share(0, 0, math.nan, math.nan, math.nan)
    p, z2 = count / n, _Z95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Share(count, n, p, max(0.0, middle - half), min(1.0, middle + half))
