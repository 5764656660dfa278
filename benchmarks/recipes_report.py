"""What the benchmark found, as a table in Markdown and as a figure of quality against latency."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contest import Contest, FrontierLine, PointLine
from router_ml.evaluation import Interval

CASCADE = " + cascade"
"""Ends the name of a router that looks at answers, too."""
_DPI = 150
_LABEL_PX = 36
# What lies this far below the zero router is listed beneath, not to scale: else it would press all else together.
_FLOOR = -0.15
_SHELF = 0.035
# Okabe & Ito's palette, which colour-blind readers can tell apart (jfly.uni-koeln.de/color).
_STYLES: Mapping[str, Mapping[str, Any]] = {
    "ours": {"color": "#0072B2", "marker": "o", "s": 70},
    "published": {"color": "#D55E00", "marker": "s", "s": 34},
    "control": {"color": "#777777", "marker": "D", "s": 30},
}
_LEGEND = {"ours": "ours", "published": "published recipe", "control": "control"}


def to_markdown(found: Contest, latency_ms: Mapping[str, float], *, facts: Mapping[str, Any]) -> str:
    """The whole page.

    Parameters
    ----------
    found : Contest
    latency_ms : mapping of name to p50
        Of a whole decision; routers that it lacks get a dash.
    facts : mapping
        ``name``, ``command``, ``tiers`` (a list of ``name``, ``quality``, ``cost_usd``, means over all prompts),
        ``latency`` (how it was measured) and ``machine`` (a line).
    """
    seeds = len(found.n_train)
    parts = [
        f"# Benchmark: {facts['name']}",
        f"{seeds} splits; each trains on {_mean_count(found.n_train)} prompts and tests on {_mean_count(found.n_test)}. "
        "Figures are means over the splits, ± their standard deviation.",
        f"```sh\n{facts['command']}\n```",
        frontier_table(found, latency_ms),
    ]
    if found.points:
        parts += [
            "Recipes without a knob give one point; it is compared with the zero router at the same cost.",
            point_table(found.points, latency_ms),
        ]
    parts += ["The ladder, and controls that don't look at the prompt:", tier_table(facts["tiers"], found)]
    parts += [_notes(found, facts)]
    return "\n\n".join(parts) + "\n"


def frontier_table(found: Contest, latency_ms: Mapping[str, float]) -> str:
    """Routers with a knob: ours as given, then all others by falling gap_closed, then the references."""
    ours = [line for line in found.frontiers if line.kind == "ours"]
    others = sorted(
        (line for line in found.frontiers if line.kind in ("published", "control")), key=lambda line: -line.gap_closed
    )
    references = [line for line in found.frontiers if line.kind == "reference"]
    rows = [_frontier_row(line, latency_ms) for line in (*ours, *others, *references)]
    return _table(
        (
            "router",
            "gap_closed",
            "cost_save(1.00)",
            "cost_save(0.95)",
            f"gap_closed minus {found.best_published or 'best recipe'} (95 %)",
            f"minus {found.best_control or 'best control'} (95 %)",
            "fit, s",
            "p50, ms",
        ),
        rows,
    )


def point_table(lines: Sequence[PointLine], latency_ms: Mapping[str, float]) -> str:
    """Routers without a knob."""
    rows = [
        (
            line.name,
            f"{1000 * np.mean(line.cost_usd):.3f}",
            f"{np.mean(line.quality):.4f}",
            _spread(line.above_zero, ".4f"),
            f"{np.mean(line.fit_s):.1f}",
            _latency(latency_ms.get(line.name)),
        )
        for line in lines
    ]
    return _table(
        ("recipe", "USD per 1,000 calls", "quality", "quality minus the zero router's", "fit, s", "p50, ms"), rows
    )


def tier_table(tiers: Sequence[Mapping[str, Any]], found: Contest) -> str:
    """Each tier alone, the random mix of the cheapest and the best; and the AIQ of the hull of tiers and of the oracle."""
    best = max(range(len(tiers)), key=lambda t: (tiers[t]["quality"], -tiers[t]["cost_usd"]))
    roles = {0: ["the cheapest"]}
    roles.setdefault(best, []).append("the best")
    rows = [
        (f"always {t['name']}", f"{1000 * t['cost_usd']:.3f}", f"{t['quality']:.4f}", ", ".join(roles.get(k, [])))
        for k, t in enumerate(tiers)
    ]
    cost, quality = (np.mean([tiers[0][key], tiers[best][key]]) for key in ("cost_usd", "quality"))
    rows.append(("random mix", f"{1000 * cost:.3f}", f"{quality:.4f}", "half cheapest, half best, by lot"))
    for name in ("zero router", "oracle"):
        aiq = np.mean([m.aiq for m in found.frontier(name).metrics])
        rows.append((name, "", "", f"AIQ {aiq:.4f}"))
    return _table(("control", "USD per 1,000 calls", "quality", ""), rows)


def to_figure(found: Contest, latency_ms: Mapping[str, float], *, name: str) -> bytes:
    """gap_closed against the latency of a decision (log axis), as a PNG.

    Routers far below the zero router are listed beneath the axis' end, with their figure in the label.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [line for line in found.frontiers if line.name in latency_ms]
    figure = Figure(figsize=(8.0, 5.2), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    height = _heights(lines)
    at = np.array([(latency_ms[line.name], height[line.name]) for line in lines]).reshape(-1, 2)
    for kind, style in _STYLES.items():
        of_kind = np.array([line.kind == kind for line in lines], dtype=bool)
        if of_kind.any():
            axes.scatter(at[of_kind, 0], at[of_kind, 1], label=_LEGEND[kind], zorder=4, **style)
    axes.axhline(0, color="#555555", linewidth=1, linestyle=":", label="zero router")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.margins(y=0.12)
    # Room for the names, which stand to the right of the points.
    axes.set_xlim(at[:, 0].min() / 2, at[:, 0].max() * (at[:, 0].max() / at[:, 0].min()) ** 0.4 * 3)
    axes.set(xlabel="p50 latency of a decision on 64 tokens, ms", ylabel="gap_closed, mean over the splits", title=name)
    axes.grid(alpha=0.25)
    if at[:, 1].min() < _FLOOR:
        axes.axhspan(at[:, 1].min() - 1, _FLOOR, color="#EEEEEE", zorder=0)
        axes.set_ylim(at[:, 1].min() - _SHELF, at[:, 1].max() + _SHELF)
        axes.set_yticks([tick for tick in axes.get_yticks() if _FLOOR < tick < axes.get_ylim()[1]])
        axes.text(0.01, 0.02, "far below, not to scale", transform=axes.transAxes, fontsize=8, color="#555555")
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    _name_points(figure, axes, at, [_label(line) for line in lines])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def _heights(lines: Sequence[FrontierLine]) -> dict[str, float]:
    """Where to draw each: at its gap_closed, or if that lies below the floor on a shelf of its own, in order."""
    below = sorted((line for line in lines if line.gap_closed < _FLOOR), key=lambda line: -line.gap_closed)
    shelves = {line.name: _FLOOR - _SHELF * (k + 1) for k, line in enumerate(below)}
    return {line.name: shelves.get(line.name, line.gap_closed) for line in lines}


def _label(line: FrontierLine) -> str:
    below = line.gap_closed < _FLOOR
    return f"{line.name} ({line.gap_closed:.2f})" if below else line.name


def _name_points(figure: Any, axes: Any, at: NDArray[np.float64], names: Sequence[str]) -> None:
    """Write the names to the right of their points, a column for points of like latency, and join each with a line."""
    texts = [axes.text(0, 0, name, fontsize=8, va="center", zorder=5) for name in names]
    figure.draw_without_rendering()  # settles the layout, which the pixels below depend on
    renderer = figure.canvas.get_renderer()
    limits = axes.get_xlim(), axes.get_ylim()
    to_pixels, to_data = axes.transData.transform, axes.transData.inverted().transform
    sizes = np.array([(e.width, e.height) for e in (text.get_window_extent(renderer) for text in texts)])
    anchors = to_pixels(at)
    order = anchors[:, 0].argsort(kind="stable")
    apart = np.diff(anchors[order, 0]) > sizes[:, 0].max() + _LABEL_PX
    for column in np.split(order, np.flatnonzero(apart) + 1):
        x = anchors[column, 0].max() + _LABEL_PX
        heights = spread(anchors[column, 1], float(sizes[:, 1].max()) + 3)
        for k, y in zip(column, heights, strict=True):
            texts[k].set_position(tuple(to_data((x, y))))
            ends = to_data(np.vstack((anchors[k], (x - 4, y))))
            axes.plot(ends[:, 0], ends[:, 1], color="black", linewidth=0.5, alpha=0.5, zorder=3)
    axes.set(xlim=limits[0], ylim=limits[1])


def spread(wanted: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """The nearest heights (least squares) to those wanted [n], in the same order and at least `gap` apart."""
    from sklearn.isotonic import isotonic_regression

    order = wanted.argsort(kind="stable")
    steps = gap * np.arange(len(wanted))
    found = np.empty(len(wanted))
    found[order] = isotonic_regression(wanted[order] - steps) + steps
    return found


def _frontier_row(line: FrontierLine, latency_ms: Mapping[str, float]) -> tuple[str, ...]:
    strong = "**" if line.kind == "ours" else ""
    kind = " (control)" if line.kind == "control" else ""
    reference = line.kind == "reference"
    return (
        f"{strong}{line.name}{strong}{kind}",
        f"{line.gap_closed:.0f}" if reference else _spread([m.gap_closed for m in line.metrics], ".3f"),
        _saving([m.cost_save_100 for m in line.metrics]),
        _saving([m.cost_save_95 for m in line.metrics]),
        _cell(line.against_published),
        _cell(line.against_control),
        f"{np.mean(line.fit_s):.1f}" if line.fit_s else "",
        "" if reference else _latency(latency_ms.get(line.name)),
    )


def _notes(found: Contest, facts: Mapping[str, Any]) -> str:
    played = any(line.name.endswith(CASCADE) for line in found.frontiers)
    notes = [
        "gap_closed: 0 is the hull of the single tiers (zero router), 1 the oracle. cost_save(x): saving against the best "
        "single tier at x times its quality; where only some splits reach it, the mean of those, and how many.",
        "gap_closed and cost_save pick the best settings on the test prompts, for all routers alike. Differences are "
        f"cross-fitted, so they may differ from those of the first column; their 95 % intervals come of {found.n_resamples} "
        "resamples of the prompts, the same for all routers and splits. They hold the noise of the test prompts given "
        "these splits, not that of training on other traffic; that the compared recipe is the best one was seen on the "
        "same prompts, which favours it.",
        "fit: to train on the embedded prompts and predict the test prompts; ours with tuning, calibration and a "
        "cross-validated evaluation. "
        + (
            f"{CASCADE.strip()}: a line with it is played with the router above it, whose fit holds its own. "
            if played
            else ""
        )
        + str(facts["latency"]),
        *(f"{line.name} chose {_counted(line.chosen)}." for line in found.frontiers if line.chosen),
        str(facts["machine"]),
    ]
    return "\n".join(f"- {note}" for note in notes)


def _counted(names: Sequence[str]) -> str:
    return ", ".join(f"{name} on {n}" for name, n in Counter(names).most_common()) + f" of {len(names)} splits"


def _spread(values: Sequence[float], form: str) -> str:
    mean = format(np.mean(values), form)
    return f"{mean} ± {format(np.std(values, ddof=1), form)}" if len(values) > 1 else mean


def _saving(values: Sequence[float]) -> str:
    reached = [v for v in values if not math.isnan(v)]
    if not reached:
        return "not reached"
    shown = round(100 * float(np.mean(reached)), 1)
    partly = "" if len(reached) == len(values) else f" ({len(reached)} of {len(values)})"
    return f"{abs(shown) if shown == 0 else shown:.1f} %{partly}"


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{interval.estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _latency(ms: float | None) -> str:
    return "-" if ms is None else f"{ms:.3g}"


def _mean_count(counts: Sequence[int]) -> str:
    return f"{np.mean(counts):,.0f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
