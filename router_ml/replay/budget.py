"""The budget: the worst case of a call is set aside before it is made, and settled after."""

from __future__ import annotations

import asyncio
import math

from router_ml.errors import InputError

__all__ = ["Budget"]


class Budget:
    """Money spent and set aside by calls under way; together never more than the limit.

    Parameters
    ----------
    max_usd : float or None
        The limit, > 0; None: no limit.
    spent_usd : float
        What was spent before, attempts that may have been charged included.

    Notes
    -----
    The limit holds as far as no call costs more than was set aside for it. A server that answers at greater length than it was asked
    to breaks it by that call, after which nothing more is sent.
    """

    def __init__(self, max_usd: float | None, spent_usd: float = 0.0) -> None:
        if max_usd is not None and not (isinstance(max_usd, int | float) and 0 < max_usd < math.inf):
            raise InputError(f"max_usd is {max_usd!r}; it needs to be a finite number > 0, in USD.")
        self.max_usd = math.inf if max_usd is None else float(max_usd)
        self.spent_usd = spent_usd
        self._held: dict[str, float] = {}
        self._changed = asyncio.Event()

    @property
    def held_usd(self) -> float:
        """Set aside for the calls under way."""
        return math.fsum(self._held.values())

    def fits(self, usd: float) -> bool:
        """Whether a call that may cost so much can be made now."""
        return self.spent_usd + self.held_usd + usd <= self.max_usd

    async def hold(self, key: str, usd: float) -> bool:
        """Set `usd` aside, if need be after others have settled; False where it doesn't fit even then."""
        while not self.fits(usd):
            if not self._held:
                return False
            self._changed.clear()
            await self._changed.wait()
        self._held[key] = usd
        return True

    def settle(self, key: str, usd: float) -> None:
        """End a call: what was set aside for it is free again, and `usd` is spent."""
        self._held.pop(key, None)
        self.spent_usd += usd
        self._changed.set()
