"""An exploration plan for a router, as values and as text."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from router_ml.evaluation.off_policy.diagnostics import MIN_EFFECTIVE_N
from router_ml.evaluation.report import table_text, wrapped
from router_ml.evaluation.tables import Table

__all__ = ["RouterExploration", "Stratum"]

_MISSING = "-"
# A budget counts as spent where less than this share of it is left.
_SPENT = 0.999


@dataclass(frozen=True, slots=True)
class Stratum:
    """Prompts that are explored alike.

    Attributes
    ----------
    value : str
        Of the column that the strata are made by, or the band of p_meets.
    served : str
        The tier that the router chooses.
    n_prompts : float
        Expected prompts.
    epsilon : float
        Share that goes to another tier.
    probability : tuple of T floats
        Of each tier; sums to 1. What to draw by, and what to log as the propensity of the tier that was drawn.
    extra_cost_usd : float
        Expected price of exploring here.
    """

    value: str
    served: str
    n_prompts: float
    epsilon: float
    probability: tuple[float, ...]
    extra_cost_usd: float


@dataclass(frozen=True, slots=True)
class RouterExploration:
    """Where to explore beside a router, how much, and what that will tell.

    Attributes
    ----------
    tiers : tuple of T str
    by : str
        What the strata are made by beside the router's choice: ``"category"``, ``"source"`` or ``"p_meets"``.
    n_prompts : int
        Prompts that are planned for.
    budget_usd, extra_cost_usd : float
        What exploring may cost beyond serving, and what it is expected to.
    max_epsilon : float
        Largest share of a stratum that may be explored.
    share : float
        Share of all prompts that is explored.
    quality_loss : float
        What exploring is expected to take from the mean quality of all prompts meanwhile, by the router's predictions.
    strata : tuple of Stratum
    calls : tuple of T floats
        Expected calls of each tier.
    standard_error : tuple of T floats
        What each tier's mean quality over all prompts will be known to; infinite for a tier that stays untried somewhere.
    effective_n : tuple of T floats
        What the log will be worth, in prompts, to the policy that always takes the tier.
    """

    tiers: tuple[str, ...]
    by: str
    n_prompts: int
    budget_usd: float
    extra_cost_usd: float
    max_epsilon: float
    share: float
    quality_loss: float
    strata: tuple[Stratum, ...]
    calls: tuple[float, ...]
    standard_error: tuple[float, ...]
    effective_n: tuple[float, ...]

    @property
    def headline(self) -> str:
        """What to do and what it brings, in a sentence or two."""
        worst = max(range(len(self.tiers)), key=self.standard_error.__getitem__)
        text = (
            f"Send {100 * self.share:.2g} % of {self.n_prompts:,} prompts to another tier than the router's: that costs about "
            f"{self.extra_cost_usd:.2f} USD beyond serving"
        )
        if self.extra_cost_usd < _SPENT * self.budget_usd:
            text += f" (of {self.budget_usd:g}; no stratum may explore more than {100 * self.max_epsilon:g} %)"
        text += f" and {self.quality_loss:.4f} of mean quality meanwhile"
        if math.isinf(self.standard_error[worst]):
            return f"{text}. It doesn't reach {self.tiers[worst]} everywhere, so nothing is promised of that tier."
        return (
            f"{text}; it tells each tier's mean quality to a standard error of {self.standard_error[worst]:.4f} or less "
            f"(the least known: {self.tiers[worst]})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; null where a figure isn't finite."""
        values: dict[str, Any] = {"headline": self.headline, **asdict(self)}
        values["standard_error"] = [None if math.isinf(e) else e for e in self.standard_error]
        return values

    def to_text(self) -> str:
        """Aligned tables, the headline first; ends in a newline."""
        how = (
            "For each request: take the router's choice and the stratum, draw a tier by the stratum's probabilities, and log the "
            "drawn tier's probability as `propensity`, also where it is the tier that serves. Such a log trains a router, and "
            "answers router-ml evaluate --off-policy."
        )
        return (
            "\n\n".join([wrapped(self.headline), table_text(self._plan()), table_text(self._tiers()), wrapped(how)])
            + "\n"
        )

    def _plan(self) -> Table:
        rows = tuple(
            (
                s.value,
                s.served,
                f"{s.n_prompts:,.0f}",
                f"{100 * s.epsilon:.2f}",
                *(f"{p:.5f}" for p in s.probability),
                f"{s.extra_cost_usd:.2f}",
            )
            for s in self.strata
        )
        columns = (self.by, "served by", "prompts", "explored, %", *(f"P({name})" for name in self.tiers), "extra USD")
        note = (
            "Extra USD: what exploring costs more than serving; what a cheaper tier saves isn't counted. Spreads are those "
            "that the router's own predictions leave, for qualities of 0 and 1: graded ones vary less."
        )
        return Table("Plan", columns, rows, left=(0, 1), note=note)

    def _tiers(self) -> Table:
        rows = tuple(
            (name, f"{calls:,.0f}", _MISSING if math.isinf(error) else f"{error:.4f}", f"{effective:,.0f}")
            for name, calls, error, effective in zip(
                self.tiers, self.calls, self.standard_error, self.effective_n, strict=True
            )
        )
        note = (
            "Standard error: of the tier's mean quality over all prompts. Effective rows: what the log will be worth to "
            f"judge always this tier; at least {MIN_EFFECTIVE_N:g} will do."
        )
        return Table("What it will tell", ("tier", "calls", "standard error", "effective rows"), rows, note=note)
