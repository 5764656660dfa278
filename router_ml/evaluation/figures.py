"""The report's figures, each a matplotlib Figure of its own; nothing global is touched. Needs the extra ``train``."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from router_ml.core.menu import Menu
from router_ml.errors import InputError, MissingExtraError
from router_ml.evaluation.bootstrap import ZERO_ROUTER
from router_ml.evaluation.frontier import Hull, Points
from router_ml.evaluation.inputs import FloatArray
from router_ml.evaluation.label_placement import Box, place_labels
from router_ml.evaluation.slices import Confusion
from router_ml.evaluation.summary import Evaluation, TierCalibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "confusion_figure",
    "curve_figure",
    "draw_figures",
    "frontier_figure",
    "labels_figure",
    "reliability_figure",
    "to_png",
]

# Okabe & Ito's palette, which colour-blind readers can tell apart (jfly.uni-koeln.de/color).
_STYLES: Mapping[str, Mapping[str, Any]] = {
    "value": {"color": "#0072B2", "linewidth": 2.2, "label": "router"},
    "bar": {"color": "#E69F00", "linewidth": 2.2, "linestyle": (0, (5, 2)), "label": "threshold on p_meets"},
    "cascade": {"color": "#CC79A7", "linewidth": 2.2, "label": "router with cascade"},
    ZERO_ROUTER: {"color": "#555555", "linewidth": 1.4, "linestyle": ":", "label": "zero router"},
    "oracle": {"color": "#009E73", "linewidth": 1.4, "linestyle": "-.", "label": "oracle"},
}
# Above this ratio of the dearest to the cheapest, a linear axis would press the cheap tiers into its edge.
_LOG_RATIO = 20
_SLICES = 15
_OTHER = "other"
_DPI = 150


def draw_figures(evaluation: Evaluation) -> dict[str, Figure]:
    """All figures of an evaluation: frontier, reliability, confusion, and the labels of each kind of slice."""
    drawn = {
        "frontier": frontier_figure(evaluation.hulls, evaluation.tier_points, evaluation.tiers, evaluation.menu),
        "reliability": reliability_figure(evaluation.calibration),
        "confusion": confusion_figure(evaluation.confusion),
    }
    labels = evaluation.confusion.labels
    for name in dict.fromkeys(row.slice for row in evaluation.slices):
        counts = {
            row.value: dict(zip(labels, row.labels, strict=True)) for row in evaluation.slices if row.slice == name
        }
        drawn[f"labels by {name}"] = labels_figure(counts, labels, title=f"Cheapest tier that met the bar, by {name}")
    return drawn


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.08, metadata={"Software": None})
    return buffer.getvalue()


def frontier_figure(
    hulls: Mapping[str, Hull], tier_points: Points, tiers: Sequence[str], menu: Menu | None = None
) -> Figure:
    """Mean quality over mean cost: the hulls, each single tier and each operating point with its name.

    Parameters
    ----------
    hulls : mapping of name to Hull
        "value", "bar", "cascade", "zero router" and "oracle" have styles of their own.
    tier_points : Points
        Mean USD per call and mean quality [T].
    tiers : sequence of T str
    menu : Menu, optional
        Points of which nothing was measured are left out.

    Notes
    -----
    Costs are shown in USD per 1,000 calls, on a log axis where the dearest tier costs over 20 times the cheapest.
    """
    figure = _figure(8.0, 5.2)
    axes = figure.add_subplot()
    usd = 1000 * tier_points.cost
    dearest = max(float(usd.max()), *(1000 * float(h.cost[-1]) for h in hulls.values()))
    for name, curve in hulls.items():
        # Points between the corners, since a mix is a straight line in cost but not on a log axis; and on to the
        # dearest tier, since a hull is flat to the right.
        ends = (1000 * curve.cost[0], dearest)
        cost = np.union1d(1000 * curve.cost, np.geomspace(*ends, 300) if ends[0] > 0 else np.linspace(*ends, 300))
        axes.plot(
            cost, np.interp(cost, 1000 * curve.cost, curve.quality), **_STYLES.get(name, {"label": name}), zorder=2
        )
    axes.scatter(usd, tier_points.quality, s=36, color="black", zorder=4, label="single tier")
    names, x, y = [*tiers], usd, tier_points.quality
    offered = [] if menu is None else [(p.name, p.expected) for p in menu.points if p.expected is not None]
    if menu is not None and offered:
        at = np.array([1000 * found.cost_usd for _, found in offered])
        height = tier_points.quality[[*tiers].index(menu.reference)] - np.array([f.quality_drop for _, f in offered])
        axes.scatter(at, height, s=30, marker="D", color="#D55E00", zorder=5, label="operating point")
        names += [f"{name} *" if name == menu.default else name for name, _ in offered]
        x, y = np.append(usd, at), np.append(tier_points.quality, height)
    if usd.min() > 0 and dearest > _LOG_RATIO * usd.min():
        axes.set_xscale("log")
        axes.set_xticks(_round_costs(float(usd.min()), dearest))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.margins(x=0.06, y=0.08)
    axes.set_xlabel("mean cost, USD per 1,000 requests")
    axes.set_ylabel("mean quality")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=9)
    _name_points(figure, axes, x, y, names)
    return figure


def reliability_figure(calibration: Sequence[TierCalibration]) -> Figure:
    """One panel a tier: the share that met the bar over the predicted probability, with Wilson 95 % intervals."""
    columns = min(3, len(calibration))
    rows = -(-len(calibration) // columns)
    figure = _figure(2.9 * columns + 0.4, 3.0 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for k in range(len(calibration), panels.size):
        panels.flat[k].set_visible(False)
        panels.flat[k - columns].tick_params(labelbottom=True)
    for panel, tier in zip(panels.flat, calibration, strict=False):
        bins = tier.reliability
        panel.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
        around = np.abs(np.vstack((bins.low, bins.high)) - bins.observed)
        panel.errorbar(bins.predicted, bins.observed, around, fmt="o", color="#0072B2", markersize=4, linewidth=1)
        panel.set_title(_wrapped(tier.tier, 32), fontsize=9)
        panel.text(0.04, 0.96, f"ECE {tier.ece:.3f}\nBrier {tier.brier:.3f}\nn {tier.n:,}", va="top", fontsize=8)
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        panel.grid(alpha=0.25)
    figure.supxlabel("predicted probability to meet the bar", fontsize=10)
    figure.supylabel("share that met it", fontsize=10)
    return figure


def curve_figure(points: Sequence[tuple[int, float]]) -> Figure:
    """The learning curve: gap closed (0: the zero router, 1: the oracle) over the number of prompts, on a log axis.

    Parameters
    ----------
    points : sequence of (int, float)
        At least one; prompts and gap closed, by ascending prompts.
    """
    if not points:
        raise InputError("got a learning curve without points; needed at least one.")
    sizes, closed = zip(*points, strict=True)
    figure = _figure(6.4, 3.6)
    axes = figure.add_subplot()
    axes.axhline(0, **_STYLES[ZERO_ROUTER])
    axes.plot(sizes, closed, color="#0072B2", marker="o", linewidth=2.2)
    for size, share in points:
        axes.annotate(
            f"{100 * share:.1f} %", (size, share), (0, 8), textcoords="offset points", ha="center", fontsize=9
        )
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.margins(x=0.1, y=0.2)
    axes.set(xlabel="prompts to learn from", ylabel="gap closed, held out")
    axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:g} %")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    return figure


def labels_figure(counts: Mapping[str, Mapping[str, int]], labels: Sequence[str], *, title: str = "") -> Figure:
    """The shares of the labels in each slice, as stacked bars, the most frequent slice on top.

    Parameters
    ----------
    counts : mapping of slice to mapping of label to int
        Prompts. Of more than 15 slices, all but the 14 most frequent are merged as "other".
    labels : sequence of str
        In the order of stacking: the tiers, cheapest first, then "none".
    title : str
    """
    if not counts or not labels:
        raise InputError(f"got {len(counts)} slices and {len(labels)} labels to draw; needed at least one of each.")
    kept = _merged(counts, labels)
    totals = {name: sum(by_label.values()) for name, by_label in kept.items()}
    figure = _figure(8.0, 1.6 + 0.34 * len(kept) + 0.2 * -(-len(labels) // 2))
    axes = figure.add_subplot()
    names = [f"{_wrapped(name, 34)} ({totals[name]:,})" for name in kept]
    left = np.zeros(len(kept))
    for label, colour in zip(labels, _tier_colours(len(labels)), strict=True):
        share = np.array([by_label.get(label, 0) / max(totals[name], 1) for name, by_label in kept.items()])
        axes.barh(names, share, left=left, color=colour, label=label, edgecolor="white", linewidth=0.5)
        left += share
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share of prompts")
    axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def confusion_figure(confusion: Confusion) -> Figure:
    """Prompts by label (rows) and by the tier that the default picked (columns); shaded by share of the row."""
    counts = np.array(confusion.counts)
    rows, columns = counts.shape
    figure = _figure(3.4 + 0.75 * columns, 2.4 + 0.45 * rows)
    axes = figure.add_subplot()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        colour = "#AAAAAA" if count == 0 else "white" if share[row, column] > 0.55 else "black"
        axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=9, color=colour)
    axes.set_title("prompts; shaded by the share of the row", fontsize=9)
    turned = max(map(len, confusion.tiers)) > 8
    axes.set_xticks(
        range(columns), confusion.tiers, rotation=35 if turned else 0, ha="right" if turned else "center", fontsize=9
    )
    axes.set_yticks(range(rows), confusion.labels, fontsize=9)
    axes.set(xlabel="chosen tier", ylabel="label: cheapest tier that met the bar")
    return figure


def _figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, drawn by Agg whatever the backend is."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingExtraError("train", "Drawing figures") from exc
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _round_costs(low: float, high: float) -> list[float]:
    """The ticks 1, 2 and 5 of every decade from `low` to `high`, whatever else the axis shows."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return [digit * 10.0**decade for decade in decades for digit in (1, 2, 5) if low <= digit * 10.0**decade <= high]


def _name_points(figure: Figure, axes: Axes, x: FloatArray, y: FloatArray, names: Sequence[str]) -> None:
    """Write each point's name near it, with a thin line where it had to go further off."""
    texts = [axes.text(0, 0, name, fontsize=8, zorder=5) for name in names]
    figure.draw_without_rendering()  # settles the layout, which the pixels below depend on
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    to_pixels, to_data = axes.transData.transform, axes.transData.inverted().transform
    sizes = [(e.width + 4, e.height + 4) for e in (text.get_window_extent(renderer) for text in texts)]
    anchors = to_pixels(np.column_stack((x, y)))
    drawn = [_dense(to_pixels(np.column_stack(line.get_data()))) for line in axes.get_lines()]
    edge = axes.get_window_extent(renderer)
    boxes = place_labels(
        anchors, sizes, np.vstack(drawn), Box(edge.x0 + 3, edge.y0 + 3, edge.x1 - 3, edge.y1 - 3), _DPI / 72
    )
    limits = axes.get_xlim(), axes.get_ylim()
    for text, box, anchor in zip(texts, boxes, anchors, strict=True):
        text.set_position(tuple(to_data((box.left + 2, box.bottom + 4))))
        nearest = np.clip(anchor, (box.left, box.bottom), (box.right, box.top))
        if np.hypot(*(nearest - anchor)) > 14 * _DPI / 72:
            ends = to_data(np.vstack((anchor, nearest)))
            axes.plot(ends[:, 0], ends[:, 1], color="black", linewidth=0.5, alpha=0.6, zorder=3)
    axes.set(xlim=limits[0], ylim=limits[1])


def _dense(path: FloatArray) -> FloatArray:
    """Points some 8 pixels apart along a polyline [P, 2]."""
    walked = np.concatenate(([0.0], np.hypot(*np.diff(path, axis=0).T).cumsum()))
    at = np.linspace(0, walked[-1], int(walked[-1] / 8) + 2)
    return np.column_stack([np.interp(at, walked, path[:, axis]) for axis in (0, 1)])


def _merged(counts: Mapping[str, Mapping[str, int]], labels: Sequence[str]) -> dict[str, Mapping[str, int]]:
    ordered = sorted(counts, key=lambda name: (-sum(counts[name].values()), name))
    if len(ordered) <= _SLICES:
        return {name: counts[name] for name in ordered}
    kept, rest = ordered[: _SLICES - 1], ordered[_SLICES - 1 :]
    other = {label: sum(counts[name].get(label, 0) for name in rest) for label in labels}
    return {name: counts[name] for name in kept} | {f"{_OTHER}, {len(rest)} slices": other}


def _tier_colours(labels: int) -> list[Any]:
    """From light to dark over the tiers, and grey for the last label, "none"."""
    from matplotlib import colormaps

    ladder = colormaps["viridis_r"](np.linspace(0.08, 0.95, max(labels - 1, 1)))
    return [*ladder, "#BBBBBB"][-labels:]


def _wrapped(text: str, width: int) -> str:
    """Break a long name after one of its separators, or in the middle of a word that is too long itself."""
    lines = [""]
    for word in re.findall(rf"[^\s/_-]{{1,{width - 1}}}[\s/_-]?|[\s/_-]", text):
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += word
    return "\n".join(lines) if text else "(empty)"
