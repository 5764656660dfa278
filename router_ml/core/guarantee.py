"""What an artifact promises, and which of its promises answers a request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from router_ml.core.checks import is_finite
from router_ml.core.policy import Policy, policy_from_dict, policy_to_dict
from router_ml.errors import InputError

__all__ = ["Guarantee", "GuaranteeKind", "find_guarantee", "guarantee_rows"]

GuaranteeKind = Literal["loss", "violation"]

_EPS = 1e-12
_USEFUL = 0.01
"""Of the reference tier's cost: a policy that saves less is always the reference tier by another name."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """A policy for which a limit was certified on prompts that the router was not fitted on.

    With probability at least ``1 - delta`` over the draw of those prompts, the expected loss of routing with this policy is at most
    `limit`, for traffic of which they are a fair sample (independent draws of one distribution; exchangeable will do). It says
    nothing of other traffic, of single prompts, or of requests whose own limits exclude tiers. Prompts of one session, or nearly the
    same, count as one, by their mean: it is the mean over such units that is bounded.

    Parameters
    ----------
    kind : {"loss", "violation"}
        Bounded is the expected quality loss against always using the reference tier, or the share of answers under the bar.
    limit, delta : float
    policy : Policy
        The boldest that was certified; `Reference` where none was, so that everything goes to the reference tier.
    certified : bool
        False: no policy but always the reference tier keeps the limit for certain.
    n : int
        Prompts that it rests on; those that count as one once.
    mean_loss, saving : float or None
        On these prompts: what was lost, and the share of the reference tier's cost that was saved. Both flatter a little, since the
        policy was picked on them.
    rows_needed : float
        About how many more prompts to certify on (of new traffic, the share that is held out) would certify something; 0 where something is, infinite where it looks impossible.
    slice : str or None
        ``"category=law"``: for this slice alone; None: for all traffic together.
    note : str
        What it rests on beside that, or why nothing could be certified; empty: nothing to add.
    """

    kind: GuaranteeKind
    limit: float
    delta: float
    policy: Policy
    certified: bool
    n: int
    mean_loss: float | None = None
    saving: float | None = None
    rows_needed: float = 0.0
    slice: str | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, which know no infinity; the inverse of :meth:`from_dict`."""
        needed = self.rows_needed if math.isfinite(self.rows_needed) else None
        return {f.name: getattr(self, f.name) for f in fields(self)} | {
            "policy": policy_to_dict(self.policy),
            "rows_needed": needed,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        needed = values["rows_needed"]
        policy = policy_from_dict(values["policy"])
        return cls(**{**values, "policy": policy, "rows_needed": math.inf if needed is None else needed})

    @property
    def is_useful(self) -> bool:
        """Whether something is certified that saves at least 1 % of the reference tier's cost."""
        return self.certified and (self.saving is None or self.saving >= _USEFUL)

    def __str__(self) -> str:
        """The promise in a sentence."""
        what = "quality loss against the reference tier" if self.kind == "loss" else "share of answers under the bar"
        where = f" on {self.slice}" if self.slice else ""
        note = f"; {self.note}" if self.note else ""
        if not self.certified:
            more = (
                f"about {self.rows_needed:,.0f} more prompts to certify on might certify some policy for it"
                if self.rows_needed < float("inf")
                else "no number of prompts like these would certify any"
            )
            return (
                f"{what} <= {self.limit:g} (delta {self.delta:g}){where}: not certified on {self.n:,} prompts, {more}{note}; "
                "everything goes to the reference tier"
            )
        saved = "" if self.saving is None else f", saving {100 * self.saving:.0f} % of the reference tier's cost there"
        return (
            f"{what} <= {self.limit:g}{where} with probability {100 * (1 - self.delta):g} % over the draw of {self.n:,} calibration prompts"
            f"{saved}, for traffic like them{note}"
        )


def guarantee_rows(guarantees: Sequence[Guarantee]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Lay guarantees out as text.

    Returns
    -------
    columns : tuple of str
    rows : list of tuples of str
    """
    columns: tuple[str, ...] = ("bounded", "at most", "delta", "for", "certified", "saved", "prompts")
    rows: list[tuple[str, ...]] = []
    for g in guarantees:
        what = "quality loss" if g.kind == "loss" else "share under the bar"
        saved = "-" if not g.certified or g.saving is None else f"{round(100 * g.saving)} %"
        n = f"{g.n:,}"
        rows.append((what, f"{g.limit:g}", f"{g.delta:g}", g.slice or "all", "yes" if g.certified else "no", saved, n))
    return columns, rows


def find_guarantee(
    table: Sequence[Guarantee], kind: GuaranteeKind, limit: float, delta: float, in_slice: str | None = None
) -> Guarantee:
    """The boldest promise of the table that keeps what is asked: of at most this limit and this delta.

    Raises
    ------
    InputError
        If a number is out of range, or the table holds nothing as strict, or nothing for the slice.
    """
    name = "max_loss" if kind == "loss" else "max_violation"
    if not is_finite(limit) or not 0 < limit < 1:
        raise InputError(f"'{name}' is {limit!r}; it needs to be a number between 0 and 1, such as 0.02.")
    if not is_finite(delta) or not 0 < delta < 1:
        raise InputError(f"'delta' is {delta!r}; it needs to be a probability between 0 and 1, such as 0.05.")
    of_kind = [g for g in table if g.kind == kind]
    rows = [g for g in of_kind if g.slice == in_slice]
    if of_kind and not rows:
        slices = ", ".join(sorted({g.slice for g in of_kind if g.slice})) or "none"
        raise InputError(
            f"The artifact holds no {name} for the slice {in_slice!r}; it has some for: {slices}. Leave 'in_slice' out for the promise on "
            "all traffic together."
        )
    kept = [g for g in rows if g.limit <= limit + _EPS and g.delta <= delta + _EPS]
    if not kept:
        held = ", ".join(f"{g.limit:g} (delta {g.delta:g})" for g in rows) or "none"
        raise InputError(
            f"The artifact certifies no {name} as strict as {limit:g} with delta {delta:g}; it holds: {held}. Fit it again with "
            f"'router-ml fit --{name.replace('_', '-')} {limit:g} --delta {delta:g}'."
        )
    return max(kept, key=lambda g: (g.certified, g.limit, g.delta))
