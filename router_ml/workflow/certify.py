"""Promises in the offline path: which prompts they rest on, and the default setting that comes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from router_ml.core.guarantee import Guarantee, GuaranteeKind, find_guarantee
from router_ml.core.menu import Menu, OperatingPoint, find_point
from router_ml.core.policy import Reference, Rule, Shortfall
from router_ml.errors import TrafficError
from router_ml.evaluation.guarantees.promises import (
    DELTAS,
    LIMITS,
    CalibrationSet,
    make_promises,
    policy_grid,
    prompts_to_certify,
    with_points,
)
from router_ml.evaluation.off_policy import pseudo_outcomes
from router_ml.evaluation.tradeoff import Expectations
from router_ml.export.onnx_export import InputTokens
from router_ml.ladder import Ladder
from router_ml.learning.model import FittedModel
from router_ml.learning.partial import MIN_PROPENSITY, LogDesign
from router_ml.traffic.labels import meets
from router_ml.traffic.observations import Observations
from router_ml.traffic.split import connected_groups, split_by_hash
from router_ml.workflow.data import MIN_PROMPTS
from router_ml.workflow.embed import Embedded
from router_ml.workflow.options import FitOptions

__all__ = [
    "HeldOut",
    "Promised",
    "can_test_exactly",
    "certified_menu",
    "certified_point",
    "held_for_promises",
    "promise",
]

_NEARLY_ALL = 0.9
_SALT = 2
"""Beside the seed, so that these prompts are other than those of the parity check."""


def held_for_promises(observations: Observations, options: FitOptions) -> NDArray[np.bool_]:
    """The prompts [n] that are kept out of training, whole sessions together; none where nothing is to be promised.

    Raises
    ------
    TrafficError
        If too few are left on either side, or what is asked for can't be known from the log.
    """
    if not options.promises:
        return np.zeros(len(observations), dtype=bool)
    if options.max_violation is not None and options.bar.kind == "relative" and not observations.complete.all():
        raise TrafficError(
            "max_violation with a relative bar needs prompts that every tier answered: of others it isn't known what the bar is. "
            "Give an absolute bar, or max_loss, or replay the missing tiers."
        )
    held = split_by_hash(
        observations.prompt,
        observations.session_id,
        test_share=options.calibration_share,
        random_state=options.random_state + _SALT,
    )
    if min(held.sum(), (~held).sum()) < MIN_PROMPTS:
        raise TrafficError(
            f"A calibration share of {options.calibration_share:g} leaves {held.sum()} of {len(held)} prompts for promises and "
            f"{(~held).sum()} for training; each needs at least {MIN_PROMPTS}. Change the share, or bring more traffic."
        )
    return held


def can_test_exactly(training: Observations) -> bool:
    """Whether each answer is right or wrong, and nearly all prompts stand alone, so that little is lost by one of each session.

    Asked of the training prompts, since a test mustn't be chosen by the prompts that it tests.
    """
    answers = training.quality[~np.isnan(training.quality)]
    n_units = len(np.unique(connected_groups(training.prompt, training.session_id)))
    return bool(np.isin(answers, (0.0, 1.0)).all()) and n_units >= _NEARLY_ALL * len(training)


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Prompts that are kept out of training, for promises to rest on.

    Attributes
    ----------
    observations : Observations
    embedded : Embedded
    design : LogDesign
    """

    observations: Observations
    embedded: Embedded
    design: LogDesign

    def take(self, rows: NDArray[np.bool_]) -> HeldOut:
        """Return the given prompts only."""
        return HeldOut(self.observations.take(rows), self.embedded.take(rows), self.design.take(rows))


@dataclass(frozen=True, slots=True)
class Promised:
    """What was certified.

    Attributes
    ----------
    guarantees : tuple of Guarantee
        Each limit, delta and slice; also those for which nothing could be certified.
    advice : str
        Where nothing useful is certified for what was asked: what would be, and what it takes; else empty.
    """

    guarantees: tuple[Guarantee, ...]
    advice: str


def promise(
    held: HeldOut,
    model: FittedModel,
    input_tokens: InputTokens,
    ladder: Ladder,
    training: Expectations,
    menu: Menu,
    rule: Rule,
    options: FitOptions,
    *,
    exact: bool = False,
) -> Promised:
    """Certify policies on prompts that the model was not fitted on.

    Parameters
    ----------
    held : HeldOut
        See :func:`held_for_promises`.
    model, input_tokens, ladder
        Fitted on the training prompts.
    training : Expectations
        Out of fold on the training prompts, by which the policies to test are fixed.
    menu : Menu
        Its points are among the policies that are tested. What it takes to certify its default is said where nothing useful is certified.
    rule : Rule
        Of the router; the reference tier was chosen on the training prompts.
    options : FitOptions
    exact : bool
        See :func:`can_test_exactly`; asked of the training prompts.
    """
    rows = np.asarray(~np.isnan(held.observations.quality).all(axis=1))
    if held.design.is_complete:
        rows &= held.observations.complete
    calibration = _calibration_set(
        held.take(rows), model, input_tokens, ladder, rule, options, exact=exact, left_out=int((~rows).sum())
    )
    named = [p.max_quality_drop for p in menu.points if p.max_quality_drop]
    limits: Mapping[GuaranteeKind, Sequence[float]] = {
        "loss": (*LIMITS, *named, *([] if options.max_loss is None else [options.max_loss])),
        "violation": () if options.max_violation is None else (options.max_violation,),
    }
    guarantees = make_promises(
        calibration,
        with_points(policy_grid(training, rule), menu.points),
        rule,
        limits=limits,
        deltas=(*DELTAS, options.delta),
        random_state=options.random_state,
    )
    asked = _asked(guarantees, options)
    if asked.is_useful:
        return Promised(guarantees, "")
    # The default, or where one tier takes everything there, the least that the menu gives up by routing.
    routing = [p for p in (find_point(menu.points, menu.default), *menu.points) if isinstance(p.policy, Shortfall)]
    point = routing[0] if routing else None
    return Promised(guarantees, _advice(asked, guarantees, calibration, point, rule, options.calibration_share))


def _calibration_set(
    held: HeldOut,
    model: FittedModel,
    input_tokens: InputTokens,
    ladder: Ladder,
    rule: Rule,
    options: FitOptions,
    *,
    exact: bool,
    left_out: int,
) -> CalibrationSet:
    seen, design = held.observations, held.design
    said = model.predict(held.embedded.inputs)
    tokens = input_tokens.base + input_tokens.per_char * held.embedded.n_chars[:, None]
    expected = Expectations(said.p_meets, said.quality, ladder.cost_usd(tokens, said.output_tokens), said.novelty)
    bar = replace(options.bar, margin=0.0)
    if bar.kind == "relative":
        # The tier that was found on the training prompts: on these another may be the best.
        bar = replace(bar, reference=ladder.names[rule.reference])
    met = meets(seen.quality, ladder, bar)
    quality, cost, bound = seen.quality, seen.cost_usd, 1.0
    if not design.is_complete:
        quality = _completed(seen.quality, design, said.quality)
        met = _completed(met, design, said.p_meets)
        cost, bound = expected.cost_usd, _bound(seen.quality, design, rule.reference)
    unit, supported = connected_groups(seen.prompt, seen.session_id), _supported(seen.quality, design)
    return CalibrationSet(
        expected=expected,
        quality=quality,
        meets=met,
        cost_usd=cost,
        bound=bound,
        note="; ".join(_notes(left_out, unit, supported, design, ladder)),
        slices={"source": seen.source, "category": seen.category},
        unit=unit,
        exact=exact,
        supported=supported,
    )


def _asked(guarantees: Sequence[Guarantee], options: FitOptions) -> Guarantee:
    if options.max_loss is not None:
        return find_guarantee(guarantees, "loss", options.max_loss, options.delta)
    assert options.max_violation is not None  # else nothing is promised
    return find_guarantee(guarantees, "violation", options.max_violation, options.delta)


def _advice(
    asked: Guarantee,
    guarantees: Sequence[Guarantee],
    calibration: CalibrationSet,
    point: OperatingPoint | None,
    rule: Rule,
    held_share: float,
) -> str:
    """Say that nothing useful is certified, what is, and how many prompts would certify the menu's default."""
    what = "quality loss" if asked.kind == "loss" else "share of answers under the bar"
    text = (
        f"Nothing useful is certified for a {what} of at most {asked.limit:g} (delta {asked.delta:g}): on {asked.n:,} prompts held out for it, "
        "only always using the reference tier, or nearly so, can be."
    )
    useful = [
        g for g in guarantees if g.kind == asked.kind and g.slice is None and g.delta == asked.delta and g.is_useful
    ]
    if useful:
        best = min(useful, key=lambda g: g.limit)
        option = "--max-loss" if asked.kind == "loss" else "--max-violation"
        text += (
            f" The least that is certified usefully now is {best.limit:g}, saving {100 * (best.saving or 0):.0f} %: use it with route "
            f"{option} {best.limit:g}, or fit again with it."
        )
    if asked.kind == "violation" or point is None:
        return text
    loss, n = prompts_to_certify(calibration, rule, point.policy, asked.limit, asked.delta)
    verb = f"loses {100 * loss:.1f}" if loss > 0 else f"gains {-100 * loss + 0.0:.1f}"
    share = f"the {point.name} operating point {verb} points on them"
    if not np.isfinite(n):
        return (
            f"{text} No number of prompts like these would certify the {point.name} point for {asked.limit:g}: {share}."
        )
    if n <= asked.n:
        return f"{text} By an estimate ({share}) so many prompts would mostly certify that point, and these happened not to: hold out some more."
    return (
        f"{text} By an estimate ({share}) about {n:,.0f} prompts to certify on would probably certify that point: {n / held_share:,.0f} prompts "
        f"of traffic in all, of which {100 * held_share:.0f} % are held out (--calibration-share)."
    )


def certified_menu(
    points: Sequence[OperatingPoint], guarantees: Sequence[Guarantee], delta: float
) -> tuple[OperatingPoint, ...]:
    """Return the operating points, each with the guarantee for the loss that it is named by, where it was certified for that.

    A point is certified where it isn't bolder than the boldest policy that was: those before it in the order of testing are certified, too.
    """
    boldest = {
        g.limit: g for g in guarantees if g.certified and g.kind == "loss" and g.slice is None and g.delta == delta
    }

    def certified(point: OperatingPoint) -> OperatingPoint:
        found = boldest.get(point.max_quality_drop or 0.0)
        policies = point.policy, found and found.policy
        if found is None or not all(isinstance(p, Shortfall) for p in policies):
            return point
        own = replace(found, policy=point.policy, saving=None, mean_loss=None)
        return replace(point, guarantee=str(own)) if point.policy.parameter <= found.policy.parameter else point

    return tuple(map(certified, points))


def certified_point(promised: Promised, options: FitOptions) -> OperatingPoint:
    """Return the operating point of the policy that was certified for what was asked; always the reference tier where none was."""
    asked = _asked(promised.guarantees, options)
    if not asked.certified or (asked.kind == "loss" and not asked.is_useful):
        return OperatingPoint(
            "reference",
            Reference(),
            options.max_loss,
            note="nothing useful could be certified, so that one tier takes everything",
        )
    return OperatingPoint("certified", asked.policy, options.max_loss, guarantee=str(asked))


def _completed(observed: NDArray[np.float64], design: LogDesign, predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    return pseudo_outcomes(observed, design.propensity, predicted)


def _supported(observed: NDArray[np.float64], design: LogDesign) -> NDArray[np.bool_]:
    """Whether a tier was tried on such prompts, [n, T], as far as that is known.

    Of estimated chances those below the least that was ever seen at work count as none, too, so that no loss exceeds :func:`_bound`.
    """
    known = np.asarray(design.support >= MIN_PROPENSITY)
    seen = known & ~np.isnan(observed)
    if design.is_complete or not design.is_estimated or not seen.any():
        return known
    return np.asarray(design.support >= design.support[seen].min())


def _bound(observed: NDArray[np.float64], design: LogDesign, reference: int) -> float:
    """The largest loss that pseudo-outcomes can make, against the reference tier.

    A tier's pseudo-outcome lies within 1 - w and w, where w is one over its smallest propensity, and within 0 and 1 on prompts that it
    didn't answer. Where propensities were logged, those of answers that weren't given aren't known: none of them is taken to be smaller.
    """
    tried = ~np.isnan(observed)
    counted = tried & _supported(observed, design)
    largest = (1 / np.where(counted, design.propensity, 1.0)).max(axis=0)
    if tried.sum(axis=1).max() <= 1:
        return float(largest.max())
    # Both may have answered; the reference tier is often sure to (shadow traffic), and then adds nothing.
    return float(largest[reference] + np.delete(largest, reference).max() - 1)


def _notes(
    left_out: int,
    unit: NDArray[np.intp],
    supported: NDArray[np.bool_],
    design: LogDesign,
    ladder: Ladder,
) -> list[str]:
    """What promises rest on beside exchangeable traffic."""
    notes = []
    if design.is_complete:
        if left_out:
            notes.append(f"{left_out:,} prompts that not every tier answered were left out")
    else:
        known = "the logging policy is known only by an estimate"
        notes.append(known if design.is_estimated else "propensities as logged")
        shares = (~supported).mean(axis=0)
        untried = [
            f"{name} on {100 * share:.1f} %" for name, share in zip(ladder.names, shares.tolist(), strict=True) if share
        ]
        if untried:
            notes.append(f"hardly ever tried, which counts as a loss of 1: {', '.join(untried)} of the prompts")
    if len(np.unique(unit)) < len(unit):
        notes.append(f"{len(unit):,} prompts, of which those of one session, or nearly the same, count as one")
    return notes
