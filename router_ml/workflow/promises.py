"""Promises in the offline path: which prompts they rest on, and the default setting that comes of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from router_ml.core.artifact import Setting
from router_ml.core.guarantee import Guarantee, GuaranteeKind, find_guarantee
from router_ml.errors import TrafficError
from router_ml.evaluation.off_policy import pseudo_outcomes
from router_ml.ladder import Ladder
from router_ml.learning.export import InputTokens
from router_ml.learning.model import FittedModel
from router_ml.learning.partial import MIN_PROPENSITY, LogDesign
from router_ml.learning.promising import DELTAS, LIMITS, CalibrationSet, knob_grid, make_promises
from router_ml.learning.targets import Outputs
from router_ml.traffic.labels import meets
from router_ml.traffic.observations import Observations
from router_ml.traffic.split import connected_groups, split_by_hash
from router_ml.workflow.data import MIN_PROMPTS
from router_ml.workflow.embedding import Embedded
from router_ml.workflow.options import FitOptions

__all__ = ["can_test_exactly", "certified_default", "held_for_promises", "promise"]

logger = logging.getLogger(__name__)

_NEARLY_ALL = 0.9


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
        observations.prompt, observations.session_id, test_share=options.calibration_share, random_state=2
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


def promise(
    model: FittedModel,
    embedded: Embedded,
    observations: Observations,
    design: LogDesign,
    input_tokens: InputTokens,
    ladder: Ladder,
    reference: int,
    default: Setting,
    training: Outputs,
    training_cost_usd: NDArray[np.float64],
    options: FitOptions,
    *,
    exact: bool = False,
) -> tuple[Guarantee, ...]:
    """Certify the default policy's knobs on prompts that the model was not fitted on.

    Parameters
    ----------
    embedded, observations, design
        Of the prompts held out (:func:`held_for_promises`).
    reference : int
        Index of the reference tier, chosen on the training prompts.
    default : Setting
        Its policy is the one that is certified.
    training, training_cost_usd : Outputs, array [m, T]
        Out of fold on the training prompts, for the knobs to be fixed by.
    exact : bool
        See :func:`can_test_exactly`; asked of the training prompts.
    """
    rows = np.asarray(~np.isnan(observations.quality).all(axis=1))
    if design.is_complete:
        rows &= observations.complete
    seen, told, design = observations.take(rows), embedded.take(rows), design.take(rows)
    said = model.predict(told.inputs)
    tokens = input_tokens.base + input_tokens.per_char * told.n_chars[:, None]
    expected_cost = ladder.cost_usd(tokens, said.output_tokens)
    bar = replace(options.bar, margin=0.0)
    if bar.kind == "relative":
        # The tier that was found on the training prompts: on these another may be the best.
        bar = replace(bar, reference=ladder.names[reference])
    met = meets(seen.quality, ladder, bar)
    quality, cost, bound = seen.quality, seen.cost_usd, 1.0
    if not design.is_complete:
        quality = _completed(seen.quality, design, said.quality)
        met = _completed(met, design, said.p_meets)
        cost, bound = expected_cost, _bound(seen.quality, design, reference)
    unit, supported = connected_groups(seen.prompt, seen.session_id), _supported(seen.quality, design)
    policy = "value" if default.policy == "reference" else default.policy
    calibration = CalibrationSet(
        said.p_meets,
        said.quality,
        expected_cost,
        said.novelty > model.novelty.threshold if options.safe_when_novel else np.zeros(len(seen), dtype=bool),
        quality,
        met,
        cost,
        bound,
        "; ".join(_notes(observations, unit, supported, design, ladder)),
        {"source": seen.source, "category": seen.category},
        unit,
        exact,
        supported,
    )
    limits: Mapping[GuaranteeKind, Sequence[float]] = {
        "loss": (*LIMITS, *([] if options.max_loss is None else [options.max_loss])),
        "violation": () if options.max_violation is None else (options.max_violation,),
    }
    knobs = knob_grid(policy, training.p_meets, training.quality, training_cost_usd)
    return make_promises(
        calibration,
        policy,
        knobs,
        reference,
        limits=limits,
        deltas=(*DELTAS, options.delta),
        random_state=options.random_state,
    )


def certified_default(promises: Sequence[Guarantee], reference: int, default: Setting, options: FitOptions) -> Setting:
    """The setting that keeps what was asked for; the reference tier for everything where nothing could be certified."""
    if options.max_loss is not None:
        found = find_guarantee(promises, "loss", options.max_loss, options.delta)
    else:
        assert options.max_violation is not None  # else nothing is promised
        found = find_guarantee(promises, "violation", options.max_violation, options.delta)
    if found.knob is None:
        logger.warning("Nothing certified: %s.", found)
        return Setting(
            "the reference tier for everything",
            "reference",
            float(reference),
            default.best_single_quality,
            default.best_single_cost_usd,
            default.best_single_quality,
            default.best_single_cost_usd,
            str(found),
        )
    return Setting(
        "certified",
        found.policy,
        found.knob,
        None,
        None,
        default.best_single_quality,
        default.best_single_cost_usd,
        str(found),
    )


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
    observations: Observations,
    unit: NDArray[np.intp],
    supported: NDArray[np.bool_],
    design: LogDesign,
    ladder: Ladder,
) -> list[str]:
    """What promises rest on beside exchangeable traffic."""
    notes = []
    if design.is_complete:
        left_out = int((~observations.complete).sum())
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
