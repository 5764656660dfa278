"""Everything that is reported about a router on held-out prompts, computed once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from router_ml.core.menu import Menu, find_point
from router_ml.evaluation.bootstrap import ZERO_ROUTER, BootstrapResult, Interval, paired_bootstrap
from router_ml.evaluation.calibration import CalibrationError, Reliability, calibration_error, reliability
from router_ml.evaluation.cascade import CascadeFigures
from router_ml.evaluation.controls import Row, summary_table
from router_ml.evaluation.frontier import Hull, Points, Sweep, hull, points, sweep_bar, sweep_value
from router_ml.evaluation.headline import advice, is_better, verdict
from router_ml.evaluation.inputs import FloatArray, as_quality_and_cost, as_table
from router_ml.evaluation.metrics import (
    FrontierMetrics,
    best_single,
    frontier_metrics,
    oracle_hull,
    zero_router_hull,
)
from router_ml.evaluation.slices import Confusion, SliceRow, as_meets, confusion, known_labels, slice_rows
from router_ml.evaluation.tradeoff import Outcomes
from router_ml.evaluation.two_tier import TwoTier, two_tier_metrics

__all__ = ["Evaluation", "TierCalibration", "evaluate"]

ORACLE = "oracle"
# Thresholds of the bar policy that the controls table shows.
_THRESHOLDS = (0.5, 0.7, 0.9)
# A hull keeps at most so many corners for figures and JSON; its metrics are computed before.
_CORNERS = 200


@dataclass(frozen=True)
class TierCalibration:
    """How well one tier's p_meets is calibrated, over the `n` prompts on which it was tried."""

    tier: str
    n: int
    error: CalibrationError
    reliability: Reliability

    @property
    def ece(self) -> float:
        """Expected calibration error, over 15 bins of equal mass."""
        return self.error.ece.estimate

    @property
    def brier(self) -> float:
        """Brier score."""
        return self.error.brier.estimate


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the report, the JSON, the figures and the trackers are made of.

    Attributes
    ----------
    headline : str
        The first thing to say: what the default saves and gives up, or without a menu the verdict.
    verdict : str
        How far the whole frontier lies above that of single tiers.
    advice : tuple of str
        Where the router is no better: what to do instead.
    better : bool
        Whether the value policy beats the zero router.
    tiers : tuple of T str
    best_tier : str
        The best single tier.
    n_prompts : int
    frontier : mapping of "value" and "bar" to FrontierMetrics
        On all prompts, by the definitions.
    intervals : BootstrapResult
        Cross-fitted figures of both, with intervals.
    hulls : mapping of "value", "bar", "zero router", "oracle" to Hull
        At most 200 corners each; also "cascade", where there is one.
    tier_points : Points
        Mean cost and quality of the single tiers [T].
    controls : tuple of Row
    two_tier : TwoTier
        The cheapest tier (weak) against the best (strong), by the predicted gain in quality.
    calibration : tuple of T TierCalibration
    slices : tuple of SliceRow
    confusion : Confusion
        Label against default choice.
    menu : Menu or None
        The operating points, with what was measured here.
    cascade : CascadeFigures or None
        Where the artifact says when to accept an answer.
    warnings : tuple of str
        What has to be known before any figure is read; shown above the headline.
    """

    headline: str
    verdict: str
    advice: tuple[str, ...]
    better: bool
    tiers: tuple[str, ...]
    best_tier: str
    n_prompts: int
    frontier: Mapping[str, FrontierMetrics]
    intervals: BootstrapResult
    hulls: Mapping[str, Hull]
    tier_points: Points
    controls: tuple[Row, ...]
    two_tier: TwoTier
    calibration: tuple[TierCalibration, ...]
    slices: tuple[SliceRow, ...]
    confusion: Confusion
    menu: Menu | None = None
    cascade: CascadeFigures | None = None
    warnings: tuple[str, ...] = ()

    @property
    def default(self) -> Row:
        """The controls' line of the router at its default choice."""
        return next(row for row in self.controls if row.name == "router")

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain JSON values, NaN as None; of `two_tier` without the curve."""
        plain: dict[str, Any] = _plain(self)
        for curve in ("pgr", "strong_share"):
            del plain["two_tier"][curve]
        return plain

    def metrics(self) -> dict[str, float]:
        """Flat names and finite values for a tracker, e.g. ``value/gap_closed`` or ``calibration/ece/<tier>``."""
        flat: dict[str, float] = {"n_prompts": self.n_prompts, "better": float(self.better)}
        for policy, figures in self.frontier.items():
            for name in ("aiq", "gap_closed", "cost_save_100", "cost_save_95"):
                flat[f"{policy}/{name}"] = getattr(figures, name)
                interval: Interval = getattr(self.intervals.routers[policy], name)
                flat[f"{policy}/cross_fitted/{name}"] = interval.estimate
                flat[f"{policy}/cross_fitted/{name}_low"] = interval.low
                flat[f"{policy}/cross_fitted/{name}_high"] = interval.high
        if self.cascade is not None:
            flat |= {f"cascade/{name}": getattr(self.cascade, name) for name in ("aiq", "gap_closed", "gain")}
        if self.menu is not None:
            for point in self.menu.points:
                if point.expected is not None:
                    flat |= {
                        f"menu/{point.name}/{n}": getattr(point.expected, n)
                        for n in ("saving", "quality_drop", "cost_usd")
                    }
        flat["zero/aiq"] = self.frontier["value"].zero
        flat["oracle/aiq"] = self.frontier["value"].oracle
        flat |= {"default/cost_usd": self.default.cost_usd, "default/quality": self.default.quality}
        flat |= {f"default/share/{t}": s for t, s in zip(self.tiers, self.default.share or (), strict=True)}
        flat |= {f"two_tier/{name}": getattr(self.two_tier, name) for name in ("apgr", "cpt_50", "cpt_80")}
        for tier in self.calibration:
            flat |= {f"calibration/ece/{tier.tier}": tier.ece, f"calibration/brier/{tier.tier}": tier.brier}
        return {name: float(value) for name, value in flat.items() if math.isfinite(value)}


def evaluate(
    p_meets: ArrayLike,
    quality: ArrayLike,
    cost_hat: ArrayLike,
    Q: ArrayLike,
    C: ArrayLike,
    *,
    tiers: Sequence[str],
    default_choice: ArrayLike,
    meets: ArrayLike,
    random_state: int | np.random.Generator | None,
    n_resamples: int = 1000,
    slices: Mapping[str, ArrayLike] | None = None,
    menu: Menu | None = None,
    warnings: Sequence[str] = (),
) -> Evaluation:
    """Evaluate a router's predictions on held-out prompts that every tier answered.

    Parameters
    ----------
    p_meets, quality, cost_hat : array-like [n, T]
        Predicted: the probability to meet the bar, the quality in [0, 1], the cost in USD per call.
    Q, C : array-like [n, T]
        Observed quality and cost in USD per call, complete.
    tiers : sequence of T str
        Names in ladder order, cheapest first.
    default_choice : array-like [n] of int
        The tier that the router picks when nothing is asked for.
    meets : array-like [n, T]
        Whether the observed answer met the bar: 1, 0, or NaN for not tried.
    random_state : int, Generator or None
        For the bootstrap.
    n_resamples : int
        For the bootstrap.
    slices : mapping of name to array-like [n] of str, optional
        Say the source and the category of each prompt.
    menu : Menu, optional
        Operating points with what was measured on these prompts.
    warnings : sequence of str, optional
        Shown above the headline.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        A table is incomplete, has another shape or one tier only; probabilities outside [0, 1]; fewer than 2 prompts.
    """
    good, price = as_quality_and_cost(Q, C)
    shape = (good.shape[0], good.shape[1])
    p_hat, good_hat, price_hat = (
        as_table(name, table, shape=shape)
        for name, table in (("p_meets", p_meets), ("predicted quality", quality), ("cost_hat", cost_hat))
    )
    met = as_meets(meets, shape)
    sweeps = {"value": sweep_value(good_hat, price_hat), "bar": sweep_bar(p_hat)}
    controls = summary_table(
        good, price, tiers=tiers, default_choice=default_choice, settings=_settings(sweeps["value"], p_hat, good, price)
    )
    best = best_single(good, price)
    intervals = paired_bootstrap(sweeps, good, price, n_resamples=n_resamples, random_state=random_state)
    frontier = {name: frontier_metrics(sweep, good, price) for name, sweep in sweeps.items()}
    hulls = {name: hull(*points(sweep, good, price)) for name, sweep in sweeps.items()}
    hulls |= {ZERO_ROUTER: zero_router_hull(good, price), ORACLE: oracle_hull(good, price)}
    chosen, labels = np.asarray(default_choice, dtype=np.intp), known_labels(met)
    said = verdict("value", frontier["value"], intervals, tiers[best])
    better = is_better("value", frontier["value"], intervals)
    reference = best if menu is None else tuple(tiers).index(menu.reference)
    default = None if menu is None else find_point(menu.points, menu.default)
    outcomes = Outcomes(good, price, reference, np.arange(len(good)))
    return Evaluation(
        headline=said if menu is None else _first(menu, better),
        verdict=said,
        advice=() if better else advice("value", intervals, outcomes, tiers, default),
        better=better,
        tiers=tuple(tiers),
        best_tier=tiers[best],
        n_prompts=len(good),
        frontier=frontier,
        intervals=intervals,
        hulls={name: _thinned(curve) for name, curve in hulls.items()},
        tier_points=Points(price.mean(axis=0), good.mean(axis=0)),
        controls=tuple(controls),
        two_tier=two_tier_metrics(good_hat[:, best] - good_hat[:, 0], good[:, 0], good[:, best]),
        calibration=tuple(_calibration(name, p_hat[:, t], met[:, t], random_state) for t, name in enumerate(tiers)),
        slices=tuple(slice_rows(slices or {}, good, price, chosen, labels, best)),
        confusion=confusion(labels, chosen, tiers),
        menu=menu,
        warnings=(*warnings, *(() if menu is None else menu.warnings)),
    )


def _first(menu: Menu, better: bool) -> str:
    """The headline: the default in dollars, and before it that it is no better than a blind mix, where that is so."""
    if better:
        return menu.headline
    return f"NO BETTER than mixing single tiers blindly, as far as these prompts can tell. {menu.headline}"


def _settings(value: Sweep, p_hat: FloatArray, good: FloatArray, price: FloatArray) -> dict[str, ArrayLike]:
    """The settings that the controls table names: value at the best tier's quality, bar at round thresholds."""
    reached = points(value, good, price)
    target = good.mean(axis=0).max()
    named: dict[str, ArrayLike] = {}
    for share in (1.0, 0.95):
        enough = reached.quality >= share * target - 1e-12
        if enough.any():
            s = int(np.where(enough, reached.cost, np.inf).argmin())
            named[f"at {100 * share:.0f} % of the best tier's quality (lam {value.knob[s]:.4g})"] = value.choices[s]
    bar = sweep_bar(p_hat, _THRESHOLDS)
    for s, threshold in enumerate(_THRESHOLDS):
        named[f"threshold {threshold:g} on p_meets"] = bar.choices[s]
    return named


def _calibration(
    tier: str, p: FloatArray, y: FloatArray, random_state: int | np.random.Generator | None
) -> TierCalibration:
    error = calibration_error(p, y, random_state=random_state)
    return TierCalibration(tier, int((~np.isnan(y)).sum()), error, reliability(p, y))


def _thinned(curve: Hull) -> Hull:
    if len(curve.cost) <= _CORNERS:
        return curve
    kept = np.unique(np.linspace(0, len(curve.cost) - 1, _CORNERS).round().astype(int))
    return Hull(curve.cost[kept], curve.quality[kept])


def _plain(value: Any) -> Any:
    if isinstance(value, Menu):
        return {"points": [p.to_dict() for p in value.points], "default": value.default, "reference": value.reference}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Points):
        return {name: _plain(part) for name, part in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
