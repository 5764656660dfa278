"""The report's tables as rows of text, laid out once for the HTML page and for the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from router_ml.core.menu import Menu
from router_ml.evaluation.bootstrap import ZERO_ROUTER, Interval
from router_ml.evaluation.summary import Evaluation

__all__ = ["Table", "menu_table", "tables"]

# A slice with thousands of values would bury the rest of the report.
_SLICE_VALUES = 15
_CASCADE_POINTS = 12
_MISSING = "-"
_USD = "USD/1,000 calls"
_CALLS = "calls, %"


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes
    ----------
    title : str
    columns : tuple of str
    rows : tuple of tuple of str
    left : tuple of int
        The columns that hold words and are aligned to the left; the others hold figures.
    note : str
        What a reader has to know to read it right.
    figures : str
        The names of the figures that belong to it begin so.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: tuple[int, ...] = (0,)
    note: str = ""
    figures: str = ""


def tables(evaluation: Evaluation) -> list[Table]:
    """All tables of an evaluation but the menu, in reading order."""
    by_slice = [_slice_table(evaluation, name) for name in dict.fromkeys(row.slice for row in evaluation.slices)]
    return [
        _controls(evaluation),
        _frontier(evaluation),
        _differences(evaluation),
        *_cascade(evaluation),
        _two_tier(evaluation),
        _calibration(evaluation),
        *by_slice,
        _confusion(evaluation),
    ]


def menu_table(menu: Menu) -> Table:
    """The menu of operating points."""
    return Table("Menu", menu.columns, tuple(menu.rows), left=(0, 6, 7), note=" ".join(menu.notes), figures="menu")


def _controls(evaluation: Evaluation) -> Table:
    rows = tuple(
        (row.name, _usd_per_1000(row.cost_usd), _number(row.quality), _calls(row.share), row.note)
        for row in evaluation.controls
    )
    columns = ("policy", _USD, "quality", _CALLS, "note")
    ladder = ", ".join(_numbered(evaluation.tiers))
    note = f"Means over {evaluation.n_prompts:,} prompts. Calls: % to each tier, in the ladder's order: {ladder}."
    return Table("Router and controls", columns, rows, left=(0, 3, 4), note=note, figures="frontier")


def _frontier(evaluation: Evaluation) -> Table:
    names = ("aiq", "gap_closed", "cost_save_100", "cost_save_95")
    rows = []
    for policy, plain in evaluation.frontier.items():
        intervals = evaluation.intervals.routers[policy]
        for name in names:
            show = _number if name == "aiq" else _percent
            interval: Interval = getattr(intervals, name)
            rows.append((policy, name, show(getattr(plain, name)), show(interval.estimate), _ends(interval, show)))
    for name, plain_aiq, interval in (
        (ZERO_ROUTER, evaluation.frontier["value"].zero, evaluation.intervals.zero_aiq),
        ("oracle", evaluation.frontier["value"].oracle, evaluation.intervals.oracle_aiq),
    ):
        rows.append((name, "aiq", _number(plain_aiq), _number(interval.estimate), _ends(interval, _number)))
    columns = ("policy", "figure", "all prompts", "cross-fitted", "95 % interval")
    note = (
        "aiq: mean quality along the frontier, from the cheapest to the dearest tier's cost. gap_closed: 0 % is the "
        "zero router, 100 % the oracle. cost_save: against the best single tier "
        f"({evaluation.best_tier}) at 100 % and 95 % of its quality; - where it isn't reached. Cross-fitted: knob "
        "settings picked on some of the prompts and measured on the others. The column before it picks and measures "
        "on the same prompts, which flatters."
    )
    return Table("Frontier", columns, tuple(rows), left=(0, 1), note=note)


def _differences(evaluation: Evaluation) -> Table:
    rows = tuple(
        (
            f"{d.first} minus {d.second}",
            _number(d.aiq.estimate),
            _ends(d.aiq, _number),
            _percent(d.gap_closed.estimate),
            _ends(d.gap_closed, _percent),
        )
        for d in evaluation.intervals.differences
    )
    columns = ("difference", "aiq", "95 % interval", "gap_closed", "95 % interval")
    note = f"Paired bootstrap over prompts, {evaluation.intervals.n_resamples:,} resamples, cross-fitted."
    return Table("Differences", columns, rows, note=note)


def _cascade(evaluation: Evaluation) -> list[Table]:
    found = evaluation.cascade
    if found is None:
        return []
    shown = np.unique(np.linspace(0, len(found.points) - 1, _CASCADE_POINTS).round().astype(int)).tolist()
    rows = tuple(
        (f"{lam:.4g}", _usd_per_1000(cost), _number(quality), f"{calls:.2f}")
        for lam, cost, quality, calls in (found.points[i] for i in shown)
    )
    note = (
        f"Start where the prompt says, ask another tier where the answer says; each call is paid for. gap_closed "
        f"{_percent(found.gap_closed)}, {_points(found.gain)} percentage points more than the value policy alone (95 % interval "
        f"{_points(found.gain_low)} to {_points(found.gain_high)} points; cross-fitted)."
    )
    return [Table("Cascade", ("lam", "USD/1,000 prompts", "quality", "calls a prompt"), rows, left=(), note=note)]


def _two_tier(evaluation: Evaluation) -> Table:
    figures = evaluation.two_tier
    row = (_number(figures.apgr), _percent(figures.cpt_50), _percent(figures.cpt_80))
    note = (
        f"RouteLLM's figures for {evaluation.tiers[0]} (weak) and {evaluation.best_tier} (strong): APGR of a random "
        "router is 0.5; CPT is the least share of strong calls that recovers 50 % and 80 % of the gap in quality."
    )
    return Table("Two tiers", ("APGR", "CPT(50 %)", "CPT(80 %)"), (row,), left=(), note=note)


def _calibration(evaluation: Evaluation) -> Table:
    rows = tuple(
        (
            t.tier,
            f"{t.n:,}",
            _number(t.ece),
            f"{_number(t.error.ece.low)} to {_number(t.error.ece.high)}",
            _number(t.error.floor),
            _number(t.error.floor_high),
            _number(t.brier),
            f"{_number(t.error.brier.low)} to {_number(t.error.brier.high)}",
        )
        for t in evaluation.calibration
    )
    note = (
        "ECE over 15 bins of equal mass; lower is better, as of the Brier score. Noise alone: what exact probabilities would show on so "
        "few prompts, on average and at most in 19 of 20 cases; only an ECE above the latter says that p_meets is off."
    )
    columns = ("tier", "prompts", "ECE", "95 % interval", "noise alone", "at most", "Brier", "95 % interval")
    return Table("Calibration of p_meets", columns, rows, note=note, figures="reliability")


def _slice_table(evaluation: Evaluation, name: str) -> Table:
    found = [row for row in evaluation.slices if row.slice == name]
    rows = tuple(
        (
            row.value or "(empty)",
            f"{row.n:,}",
            _usd_per_1000(row.cost_usd),
            _number(row.quality),
            _usd_per_1000(row.best_cost_usd),
            _number(row.best_quality),
            _calls(row.share),
        )
        for row in found[:_SLICE_VALUES]
    )
    columns = (name, "prompts", _USD, "quality", "best tier's USD", "best tier's quality", _CALLS)
    note = f"The router at its default beside always {evaluation.best_tier}."
    if len(found) > _SLICE_VALUES:
        note += f" The {_SLICE_VALUES} most frequent of {len(found):,} values."
    return Table(f"By {name}", columns, rows, left=(0, 6), note=note, figures=f"labels by {name}")


def _confusion(evaluation: Evaluation) -> Table:
    found = evaluation.confusion
    rows = tuple(
        (label, *(f"{count:,}" for count in counts))
        for label, counts in zip((*_numbered(found.tiers), found.labels[-1]), found.counts, strict=True)
    )
    note = "Rows: the cheapest tier that met the bar. Columns: the tier to which the router's default went."
    if found.n_unknown:
        note += f" {found.n_unknown:,} prompts are left out: a cheaper tier wasn't tried, so that their label is open."
    return Table(
        "Label against choice",
        ("label", *(str(t) for t in range(1, len(found.tiers) + 1))),
        rows,
        note=note,
        figures="confusion",
    )


def _calls(share: Sequence[float] | None) -> str:
    return _MISSING if share is None else " / ".join(f"{100 * part:.0f}" for part in share)


def _numbered(tiers: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{t} {name}" for t, name in enumerate(tiers, start=1))


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else _MISSING


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else _MISSING


def _points(value: float) -> str:
    return f"{100 * value:.1f}" if math.isfinite(value) else _MISSING


def _usd_per_1000(value: float) -> str:
    return f"{1000 * value:.4g}" if math.isfinite(value) else _MISSING


def _ends(interval: Interval, show: Callable[[float], str]) -> str:
    if math.isnan(interval.low) and math.isnan(interval.high):
        return _MISSING
    return f"{show(interval.low)} to {show(interval.high)}"
