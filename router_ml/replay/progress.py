"""Progress on stderr: calls done, time left, money spent."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

__all__ = ["Progress"]


class Progress:
    """A bar over the calls; a context manager.

    Parameters
    ----------
    total : int
        Calls in all.
    done : int
        Calls that earlier runs made.
    shown : bool
        Whether to show it.
    """

    def __init__(self, total: int, done: int = 0, *, shown: bool = True) -> None:
        self._bar: Any = None
        if shown:
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, desc="replay", unit="call")
        self.n_answered = 0
        self.n_refused = 0
        self.n_failed = 0
        self._spent_usd = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def answered(self, spent_usd: float, n: int = 1) -> None:
        """So many calls were answered; so much is spent in all."""
        self.n_answered += n
        self._spent_usd = spent_usd
        self._step(n)

    def refused(self, n: int = 1) -> None:
        """So many calls were refused for good."""
        self.n_refused += n
        self._step(n)

    def failed(self) -> None:
        """A call had all its attempts, and no answer; another run asks again."""
        self.n_failed += 1
        self._step(0)

    def _step(self, n: int) -> None:
        if self._bar is None:
            return
        self._bar.set_postfix_str(
            f"${self._spent_usd:.4f} spent"
            + (f", {self.n_refused} refused" if self.n_refused else "")
            + (f", {self.n_failed} failed" if self.n_failed else ""),
            refresh=False,
        )
        self._bar.update(n)
