"""How good a router is: frontier, controls, calibration, intervals, report. Needs the extra ``train``."""

from __future__ import annotations

from router_ml.evaluation.bootstrap import BootstrapResult, Difference, Interval, RouterIntervals, paired_bootstrap
from router_ml.evaluation.calibration import CalibrationError, Reliability, brier, calibration_error, ece, reliability
from router_ml.evaluation.controls import Row, summary_table
from router_ml.evaluation.figures import (
    confusion_figure,
    curve_figure,
    draw_figures,
    frontier_figure,
    labels_figure,
    reliability_figure,
    to_png,
)
from router_ml.evaluation.frontier import Hull, Played, Points, Sweep, constant, hull, points, sweep_bar, sweep_value
from router_ml.evaluation.metrics import (
    FrontierMetrics,
    aiq,
    best_single,
    cost_range,
    cost_save,
    frontier_metrics,
    gap_closed,
    oracle_hull,
    zero_router_hull,
)
from router_ml.evaluation.report import html_report, text_report
from router_ml.evaluation.slices import Confusion, SliceRow
from router_ml.evaluation.summary import Evaluation, TierCalibration, evaluate
from router_ml.evaluation.two_tier import TwoTier, two_tier_metrics

__all__ = [
    "BootstrapResult",
    "CalibrationError",
    "Confusion",
    "Difference",
    "Evaluation",
    "FrontierMetrics",
    "Hull",
    "Interval",
    "Played",
    "Points",
    "Reliability",
    "RouterIntervals",
    "Row",
    "SliceRow",
    "Sweep",
    "TierCalibration",
    "TwoTier",
    "aiq",
    "best_single",
    "brier",
    "calibration_error",
    "confusion_figure",
    "constant",
    "cost_range",
    "cost_save",
    "curve_figure",
    "draw_figures",
    "ece",
    "evaluate",
    "frontier_figure",
    "frontier_metrics",
    "gap_closed",
    "html_report",
    "hull",
    "labels_figure",
    "oracle_hull",
    "paired_bootstrap",
    "points",
    "reliability",
    "reliability_figure",
    "summary_table",
    "sweep_bar",
    "sweep_value",
    "text_report",
    "to_png",
    "two_tier_metrics",
    "zero_router_hull",
]
