"""The menu: an artifact's operating points, each with what it is expected to give up and to save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from router_ml.core.policy import Policy, policy_from_dict, policy_to_dict
from router_ml.errors import InputError

__all__ = ["Menu", "OperatingPoint", "Tradeoff", "find_point", "point_name"]

CONCENTRATED = 0.95
"""A larger share of requests to one tier is warned of."""
_WORTH_NAMING = 0.01
"""A smaller saving is not proposed."""
_POINTS_SHOWN = 0.05
"""Fewer points of quality than this are shown as 0.0."""


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """What routing gives up and saves against always using the reference tier, on average over requests.

    Parameters
    ----------
    quality_drop, quality_drop_low, quality_drop_high : float
        Mean quality lost, with its 95 % interval; negative: gained.
    saving, saving_low, saving_high : float
        Share of the reference tier's cost that is saved, with its 95 % interval; negative: it costs more.
    cost_usd, reference_cost_usd : float
        Mean cost of a request in USD: routed, and to the reference tier.
    share : tuple of T float
        Share of requests to each tier, in ladder order.
    mix_quality_drop : float or None
        The quality that a blind mix of single tiers loses at the same cost; None where no mix costs so little.
    n : int
        Requests that it was measured on.
    """

    quality_drop: float
    quality_drop_low: float
    quality_drop_high: float
    saving: float
    saving_low: float
    saving_high: float
    cost_usd: float
    reference_cost_usd: float
    share: tuple[float, ...]
    mix_quality_drop: float | None
    n: int


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A policy with its parameter fixed, named by what it gives up.

    Parameters
    ----------
    name : str
        ``"1pt"``: at most one point of expected quality is lost.
    policy : Policy
    max_quality_drop : float or None
        The most expected quality that it may lose against the reference tier; None: it was not chosen by that.
    expected : Tradeoff or None
        Estimated on prompts that the predictions were not fitted on; None: nothing could be compared.
    guarantee : str
        What was certified for it, in a sentence; empty: nothing.
    note : str
        What else to know: why it is a constant, say; empty: nothing.
    """

    name: str
    policy: Policy
    max_quality_drop: float | None = None
    expected: Tradeoff | None = None
    guarantee: str = ""
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; the inverse of :meth:`from_dict`."""
        expected = None if self.expected is None else asdict(self.expected)
        return {
            **{f.name: getattr(self, f.name) for f in fields(self)},
            "policy": policy_to_dict(self.policy),
            "expected": expected,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote; raises KeyError, TypeError or InputError for anything else."""
        expected = values["expected"]
        if expected is not None:
            expected = Tradeoff(**{**expected, "share": tuple(expected["share"])})
        return cls(**{**values, "policy": policy_from_dict(values["policy"]), "expected": expected})

    def __str__(self) -> str:
        """The point in a line."""
        what = self.policy.describe()
        certified = f"; certified: {self.guarantee}" if self.guarantee else "; not certified"
        return f"{self.name} ({what}){certified}{f'; {self.note}' if self.note else ''}"


def point_name(max_quality_drop: float) -> str:
    """Name an operating point by the quality that it may lose: 0.01 is ``"1pt"``, 0.005 ``"0.5pt"``."""
    return f"{round(100 * max_quality_drop, 6):g}pt"


def find_point(points: Sequence[OperatingPoint], name: str) -> OperatingPoint:
    """Return the operating point of that name; raises InputError, which lists the names, where there is none."""
    for point in points:
        if point.name == name:
            return point
    names = ", ".join(p.name for p in points)
    raise InputError(f"The artifact has no operating point {name!r}; its menu holds: {names}.")


@dataclass(frozen=True, slots=True)
class Menu:
    """Operating points, ready to be shown.

    Parameters
    ----------
    points : tuple of OperatingPoint
    default : str
        Name of the one that is used where a request names none.
    reference : str
        Name of the reference tier.
    tiers : tuple of T str
        Names in ladder order.
    """

    points: tuple[OperatingPoint, ...]
    default: str
    reference: str
    tiers: tuple[str, ...]

    @property
    def headline(self) -> str:
        """What the default saves, in dollars, and what it gives up, in a sentence."""
        found = find_point(self.points, self.default).expected
        if found is None:
            return (
                "What the router saves isn't known: too few requests were answered by every tier to compare it. Replay some, or judge it "
                "on a log with 'evaluate --off-policy'."
            )
        routed, reference = _dollars(found.cost_usd, found.reference_cost_usd)
        if not round(100 * found.saving) and abs(found.quality_drop) < _POINTS_SHOWN / 100:
            return (
                f"Saves nothing against always using {self.reference}, {reference} per 1,000 requests.{self._instead()}"
            )
        if found.saving >= 0:
            saves = f"Saves {_percent(found.saving)} ({_ends(found.saving_low, found.saving_high)} %) of what always using {self.reference} costs"
        else:
            more = f"{_percent(-found.saving)} more ({_ends(-found.saving_high, -found.saving_low)} %)"
            saves = f"Costs {more} than always using {self.reference}"
        return f"{saves}, {routed} instead of {reference} per 1,000 requests, {_lost(found)}."

    def _instead(self) -> str:
        """The first point of the menu that saves something, in a sentence; empty where none does."""
        for point in self.points:
            if (
                point.expected is not None
                and point.expected.saving >= _WORTH_NAMING
                and point.max_quality_drop is not None
            ):
                saved, lost = _percent(point.expected.saving), _one_digit(point.expected.quality_drop)
                return f" At {point.name} it would save {saved} for {lost} points of quality: --at {point.name}."
        return ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before the default is used: that nearly every request goes to one tier, where that is so."""
        point = find_point(self.points, self.default)
        if point.expected is None or len(self.tiers) < 2:
            return ()
        most = max(point.expected.share)
        if most <= CONCENTRATED:
            return ()
        tier = self.tiers[point.expected.share.index(most)]
        return (f"{_percent(most)} of the requests go to {tier} at the default, {point.name}.",)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of :attr:`rows`."""
        return ("at", "saved", "95 % interval", "USD/1,000", "points lost", "95 % interval", "requests, %", "certified")

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """A row of text for each point; the default's name has a star."""
        spent = _dollars(*(0.0 if p.expected is None else p.expected.cost_usd for p in self.points))
        return [self._row(point, usd) for point, usd in zip(self.points, spent, strict=True)]

    def _row(self, point: OperatingPoint, usd: str) -> tuple[str, ...]:
        name = f"{point.name} *" if point.name == self.default else point.name
        certified = "yes" if point.guarantee else "no"
        found = point.expected
        if found is None:
            return (name, *["-"] * 6, certified)
        return (
            name,
            _percent(found.saving),
            f"{_ends(found.saving_low, found.saving_high)} %",
            usd.removeprefix("$"),
            _one_digit(found.quality_drop),
            _ends(found.quality_drop_low, found.quality_drop_high, digits=1),
            " / ".join(f"{100 * part:.0f}" for part in found.share),
            certified,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the columns mean, and what the points' own notes say, each once, with the points' names."""
        tiers = ", ".join(self.tiers)
        about = (
            f"Against always using {self.reference}, on average over requests; a point is a hundredth of quality. Requests: % to each tier, "
            f"in the ladder's order: {tiers}. * is the default; others by name: route(..., at='2pt'), --at 2pt. Points are named by what they "
            "may lose on the traffic that they were chosen on."
        )
        if any(point.guarantee for point in self.points):
            about += " Certified: on prompts held out, the loss was shown to stay within what the point is named by."
        by_note: dict[str, list[str]] = {}
        for point in self.points:
            if point.note:
                by_note.setdefault(point.note, []).append(point.name)
        return (about, *(f"{', '.join(names)}: {note}." for note, names in by_note.items()))


def _lost(found: Tradeoff) -> str:
    points, interval = 100 * found.quality_drop, _ends(found.quality_drop_low, found.quality_drop_high, digits=1)
    if points >= _POINTS_SHOWN:
        return f"for {points:.1f} points of quality ({interval})"
    gained = f"{-points:.1f} points of quality gained" if points <= -_POINTS_SHOWN else "no quality lost"
    return f"with {gained} (points lost: {interval})"


def _percent(share: float) -> str:
    return f"{round(100 * share)} %"


def _one_digit(share: float) -> str:
    """A share in points; -0.0 is written 0.0."""
    return f"{round(100 * share, 1) + 0.0:.1f}"


def _ends(low: float, high: float, *, digits: int = 0) -> str:
    """The ends of an interval of shares, in percent or points; -0 is written 0."""
    return " to ".join(f"{round(100 * end, digits) + 0.0:.{digits}f}" for end in (low, high))


def _dollars(*usd: float) -> tuple[str, ...]:
    """USD per 1,000 requests, with two decimals, or as many as tell different amounts apart, up to six."""
    amounts = [1000 * value for value in usd]
    for decimals in (2, 3, 4, 5, 6):
        shown = tuple(f"${amount:,.{decimals}f}" for amount in amounts)
        differ = len({f"{amount:.3g}" for amount in amounts})
        if len(set(shown)) >= differ and not any(
            amount > 0 and not float(f"{amount:.{decimals}f}") for amount in amounts
        ):
            return shown
    return shown
