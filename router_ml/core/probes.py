"""Probes: tiers that a cascade asks first for what their answers tell, whichever of them will be used.

Two cheap answers that agree say more than either of them, and cost a tenth of the dear one that they may spare. Asking only for the
sake of the next answer itself never finds that out.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

__all__ = ["Probes"]


@dataclass(frozen=True, slots=True)
class Probes:
    """Which tiers to ask first, by the price of quality and by where the router would begin.

    Attributes
    ----------
    lams : tuple of float
        Ascending; a row counts from its lam up to the next. Below the first nothing is probed.
    tiers : tuple of rows of T tuples of int
        Of each tier at which the router would begin: those to ask in its place, in ladder order; none: it begins there.
    """

    lams: tuple[float, ...] = ()
    tiers: tuple[tuple[tuple[int, ...], ...], ...] = ()

    def of(self, lam: float, start: int) -> tuple[int, ...]:
        """The probes at a lam, where the router would begin at tier `start`."""
        row = bisect_right(self.lams, lam) - 1
        return () if row < 0 else self.tiers[row][start]

    def following(self, lam: float, start: int, seen: Sequence[int], may: Collection[int]) -> int | None:
        """The probe to ask next, None where there is none, or where a tier that is no probe was asked already.

        Parameters
        ----------
        lam, start
            As for :meth:`of`.
        seen : sequence of int
            Tiers that have answered.
        may : collection of int
            Tiers that may be asked.
        """
        probes = self.of(lam, start)
        if not set(seen) <= set(probes):
            return None
        return next((t for t in probes if t in may and t not in seen), None)

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps({"lams": self.lams, "tiers": self.tiers})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of :meth:`to_json`."""
        values = json.loads(text)
        return cls(tuple(values["lams"]), tuple(tuple(map(tuple, row)) for row in values["tiers"]))
