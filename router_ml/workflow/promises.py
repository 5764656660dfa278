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
from router_ml.traffic.split import split_by_hash
from router_ml.workflow.data import MIN_PROMPTS
from router_ml.workflow.embedding import Embedded
from router_ml.workflow.options import FitOptions

__all__ = ["certified_default", "held_for_promises", "promise"]

logger = logging.getLogger(__name__)

_MAX_UNSUPPORTED = 0.02


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
    quality, cost, bound, note = seen.quality, seen.cost_usd, 1.0, ""
    if not design.is_complete:
        quality = _completed(seen.quality, design, said.quality)
        met = _completed(met, design, said.p_meets)
        cost = expected_cost
        # A residual of at most 1, over the smallest propensity of a cell that was seen.
        bound = 1 + float((1 / design.propensity[~np.isnan(seen.quality)]).max())
        note = "the logging policy is known only by an estimate" if design.is_estimated else "propensities as logged"
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
        note,
        {"source": seen.source, "category": seen.category},
    )
    limits: Mapping[GuaranteeKind, Sequence[float]] = {
        "loss": (*LIMITS, *([] if options.max_loss is None else [options.max_loss])),
        "violation": () if options.max_violation is None else (options.max_violation,),
    }
    knobs = knob_grid(policy, training.p_meets, training.quality, training_cost_usd)
    promises = make_promises(
        calibration,
        policy,
        knobs,
        reference,
        limits=limits,
        deltas=(*DELTAS, options.delta),
        random_state=options.random_state,
    )
    return _supported(promises, calibration, design, reference)


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


def _supported(
    promises: tuple[Guarantee, ...], calibration: CalibrationSet, design: LogDesign, reference: int
) -> tuple[Guarantee, ...]:
    """Take back promises of knobs that use tiers which were hardly ever tried on such prompts, as far as that is known."""
    if design.is_complete:
        return promises
    kept = []
    for p in promises:
        share = 0.0
        if p.knob is not None:
            picked = calibration.choices(p.policy, np.array([p.knob]), reference)[:, 0]
            used = np.take_along_axis(design.support, np.column_stack([picked, np.full_like(picked, reference)]), 1)
            share = float((used < MIN_PROPENSITY).any(axis=1).mean())
        if share > _MAX_UNSUPPORTED:
            why = f"{share:.0%} of the prompts would go to, or are compared with, a tier that was hardly ever tried on such prompts"
            p = _withdrawn(p, why)
        kept.append(p)
    return tuple(kept)


def _withdrawn(p: Guarantee, why: str) -> Guarantee:
    return Guarantee(p.kind, p.limit, p.delta, p.policy, None, p.n, rows_needed=float("inf"), slice=p.slice, note=why)
