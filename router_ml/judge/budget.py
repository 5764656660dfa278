"""A limit in USD that holds while many calls are under way."""

from __future__ import annotations

import threading

from router_ml.errors import InputError

__all__ = ["Budget"]


class Budget:
    """Spending up to a limit: the worst case is reserved before a call, and what it cost is settled after it.

    Safe to use from many threads. As spent and reserved together never pass the limit, spending can't either, as long
    as no call costs more than was reserved for it.

    Parameters
    ----------
    max_usd : float
        The limit, >= 0.

    Attributes
    ----------
    spent_usd : float
        What the settled calls cost.

    Raises
    ------
    InputError
        If the limit is negative, or NaN.
    """

    def __init__(self, max_usd: float) -> None:
        if not max_usd >= 0:
            raise InputError(f"The budget is {max_usd!r}; it needs to be a number >= 0, in USD.")
        self.max_usd = max_usd
        self.spent_usd = 0.0
        self._reserved = 0.0
        self._under_way = 0
        self._changed = threading.Condition()

    def reserve(self, usd: float) -> bool:
        """Set money aside for a call; False where the budget is used up.

        Waits while calls under way may still give back enough.
        """
        with self._changed:
            while self.spent_usd + self._reserved + usd > self.max_usd:
                if self._under_way == 0 or self.spent_usd + usd > self.max_usd:
                    return False
                self._changed.wait()
            self._reserved += usd
            self._under_way += 1
            return True

    def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """Give back what was reserved for a call and book what it cost."""
        with self._changed:
            self._under_way -= 1
            # Sums of floats don't cancel to the last bit; with no call under way nothing is reserved.
            self._reserved = self._reserved - reserved_usd if self._under_way else 0.0
            self.spent_usd += spent_usd
            self._changed.notify_all()
