"""From embedded prompts to a model, its settings and what it promises."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml import tracking
from router_ml.core.guarantee import Guarantee
from router_ml.core.menu import Menu, OperatingPoint, find_point
from router_ml.core.neighbours import Neighbours
from router_ml.core.policy import Reference, Rule
from router_ml.errors import InputError
from router_ml.evaluation.operating_points import MENU, build_menu, default_point
from router_ml.evaluation.summary import Evaluation, evaluate
from router_ml.evaluation.tradeoff import Expectations, Outcomes, measure_menu
from router_ml.export.onnx_export import InputTokens
from router_ml.ladder import Ladder
from router_ml.learning.acceptance import AcceptanceModel, Answers, fit_acceptance
from router_ml.learning.curve import CurvePoint, learning_curve
from router_ml.learning.encoders import Encoder, load_encoder
from router_ml.learning.inputs import Inputs, tokenize
from router_ml.learning.learners import make_learner
from router_ml.learning.model import CrossFitted, FittedModel, crossfit, group_folds
from router_ml.learning.partial import Comparable, LogDesign, comparable, design_log
from router_ml.learning.selection import CANDIDATES, PARTIAL_CANDIDATES, Candidate, select_learner
from router_ml.learning.targets import Outputs, Targets
from router_ml.learning.threads import single_threaded
from router_ml.traffic.labels import count_labels, meets, reference_tier
from router_ml.traffic.observations import Observations, slices
from router_ml.traffic.split import connected_groups
from router_ml.workflow.certify import (
    HeldOut,
    can_test_exactly,
    certified_menu,
    certified_point,
    held_for_promises,
    promise,
)
from router_ml.workflow.data import MIN_PROMPTS, Prepared
from router_ml.workflow.embed import Embedded
from router_ml.workflow.options import AUTO, FitOptions
from router_ml.workflow.warnings import simulated

__all__ = ["Trained", "embed_unjudged", "log_inputs", "train", "train_tracked"]

_MODEL, _TRAINED, _ACCEPTANCE = "model.npz", "trained.json", "acceptance.npz"
logger = logging.getLogger(__name__)

_MAX_UNLABELLED = 20_000
"""Prompts without a quality that teach a student at most."""
_RESAMPLES = 200
"""Of the cross-validated evaluation, which is looked at in passing; `evaluate_router` draws more."""
_MAX_NEIGHBOURS = 20_000
"""Training prompts that an artifact holds at most: 5 MB with 256 dimensions."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model and what goes with it.

    Attributes
    ----------
    model : FittedModel
    menu : tuple of OperatingPoint
    default : str
        Name of the default operating point.
    input_tokens : InputTokens
        How many tokens a prompt of some length is.
    reference : str
        Name of the reference tier.
    reference_cost_usd : float
        Mean cost of a call to it.
    evaluation : Evaluation or None
        Cross-validated; None: too few prompts were answered by all tiers.
    acceptance : AcceptanceModel or None
    promises : tuple of Guarantee
    advice : str
        Where nothing useful could be certified, what to do; else empty.
    reason : str or None
        Why a search chose the learner.
    curve : tuple of CurvePoint
        Learning curve.
    neighbours : Neighbours or None
        A sample of the training prompts, where it was asked for.
    """

    model: FittedModel
    menu: tuple[OperatingPoint, ...]
    default: str
    input_tokens: InputTokens
    reference: str
    reference_cost_usd: float
    evaluation: Evaluation | None
    acceptance: AcceptanceModel | None = None
    promises: tuple[Guarantee, ...] = ()
    advice: str = ""
    reason: str | None = None
    curve: tuple[CurvePoint, ...] = ()
    neighbours: Neighbours | None = None

    def save(self, folder: Path, *, run_id: str | None) -> None:
        """Write ``model.npz`` and ``trained.json``, all but the evaluation; the inverse of :meth:`load`."""
        self.model.save(folder / _MODEL)
        if self.acceptance is None:
            np.savez(folder / _ACCEPTANCE)  # empty, so that a pipeline finds the same files with and without a cascade
        else:
            self.acceptance.save(folder / _ACCEPTANCE)
        tokens = {name: values.tolist() for name, values in asdict(self.input_tokens).items()}
        content: dict[str, Any] = {
            "reference": self.reference,
            "promises": [p.to_dict() for p in self.promises],
            "neighbours": None if self.neighbours is None else self.neighbours.to_text(),
            "reference_cost_usd": self.reference_cost_usd,
            "menu": [p.to_dict() for p in self.menu],
            "default": self.default,
            "advice": self.advice,
            "input_tokens": tokens,
            "mlflow_run": run_id,
            "reason": self.reason,
            "curve": self.curve,
        }
        if self.acceptance is not None:
            content["acceptance"] = _ACCEPTANCE
        (folder / _TRAINED).write_text(json.dumps(content, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> tuple[Trained, str | None]:
        """What :meth:`save` wrote, and the id of the MLflow run."""
        try:
            content = json.loads((folder / _TRAINED).read_text(encoding="utf-8"))
            tokens = InputTokens(**{name: np.array(values) for name, values in content["input_tokens"].items()})
            acceptance = AcceptanceModel.load(folder / content["acceptance"]) if "acceptance" in content else None
            trained = cls(
                model=FittedModel.load(folder / _MODEL),
                menu=tuple(map(OperatingPoint.from_dict, content["menu"])),
                default=content["default"],
                input_tokens=tokens,
                reference=content["reference"],
                reference_cost_usd=content["reference_cost_usd"],
                evaluation=None,
                acceptance=acceptance,
                promises=tuple(map(Guarantee.from_dict, content["promises"])),
                advice=content["advice"],
                reason=content["reason"],
                curve=tuple(CurvePoint(*point) for point in content["curve"]),
                neighbours=None if content["neighbours"] is None else Neighbours.from_text(content["neighbours"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise InputError(f"{folder} holds no trained model that can be read ({exc}); train it again.") from exc
        return trained, content["mlflow_run"]


@single_threaded()
def train(
    observations: Observations,
    embedded: Embedded,
    ladder: Ladder,
    options: FitOptions,
    *,
    run: tracking.Run | None = None,
    encoder: Encoder | None = None,
    unlabelled: Inputs | None = None,
) -> Trained:
    """Cross-fit and fit the learner, choose the settings, evaluate out of fold, and certify what is to be promised.

    A cascade needs the encoder's tokenizer; where no encoder is given, that of the options is loaded for it. Prompts without a
    quality (`unlabelled`) teach the student of the learner `distilled`; the others have no use for them.
    """
    run = run or tracking.Run()
    if options.reference is not None:
        ladder.index(options.reference)  # an unknown name is better found before anything is learned
    design = _design(observations, embedded, options)
    if text := design.summary(ladder.names):
        logger.info(text)
    held = held_for_promises(observations, options)
    apart = HeldOut(observations, embedded, design).take(held)
    observations, embedded, design = observations.take(~held), embedded.take(~held), design.take(~held)
    targets = Targets(
        meets(observations.quality, ladder, options.bar),
        observations.quality,
        observations.output_tokens,
        observations.cost_usd,
        design.weight,
    )
    folds = _folds(observations, options)
    input_tokens = InputTokens.fit(embedded.n_chars, observations.input_tokens)
    tokens = input_tokens.base + input_tokens.per_char * embedded.n_chars[:, None]

    def cost_of(rows: NDArray[np.intp] | slice, output_tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        return ladder.cost_usd(tokens[rows], output_tokens)

    def predicted_cost(outputs: Outputs) -> NDArray[np.float64]:
        return cost_of(slice(None), outputs.output_tokens)

    fitted, reason = _learn(embedded.inputs, targets, folds, predicted_cost, design, options, run, unlabelled)
    cost_usd = predicted_cost(fitted.outputs)
    table = comparable(targets, design, fitted.outputs, cost_usd)
    reference = _reference(table, observations, ladder, options)
    reference_cost_usd = _reference_cost(observations.cost_usd[:, reference], cost_usd[:, reference])
    threshold = fitted.model.novelty.threshold if options.safe_when_novel else math.inf
    rule = Rule(Reference(), ladder.names, reference, reference_cost_usd, threshold)
    out = fitted.outputs
    expected = Expectations(out.p_meets, out.quality, cost_usd, out.novelty)
    groups = connected_groups(observations.prompt, observations.session_id)
    outcomes = Outcomes(table.quality, table.cost_usd, reference, groups[table.rows]) if len(table.quality) else None
    menu = build_menu(
        expected if outcomes is None else expected.take(table.rows),
        outcomes,
        rule,
        drops=(*MENU, options.max_quality_drop),
        random_state=options.random_state,
    )
    default = default_point(menu, options.max_quality_drop)
    curve = learning_curve(
        fitted.model.learner, embedded.inputs, targets, folds, cost_of, random_state=options.random_state
    )
    for point in curve:
        run.log_metrics({"gap_closed": point.gap_closed}, prefix="learning_curve/", step=point.n_prompts)
    promises: tuple[Guarantee, ...] = ()
    advice = ""
    if options.promises:
        promised = promise(
            apart,
            fitted.model,
            input_tokens,
            ladder,
            expected,
            Menu(menu, default.name, ladder.names[reference], ladder.names),
            rule,
            options,
            exact=can_test_exactly(observations),
        )
        promises, advice = promised.guarantees, promised.advice
        default = certified_point(promised, options)
        if outcomes is not None:
            at_rows = expected.take(table.rows)
            (default,) = measure_menu((default,), rule, at_rows, outcomes, random_state=options.random_state)
        menu = (default, *certified_menu(menu, promises, options.delta))
    evaluation = _cross_validated(expected, observations, ladder, menu, default.name, rule, options)
    acceptance = None
    if options.cascade:
        encoder = encoder or load_encoder(options.encoder)
        acceptance = _fit_acceptance(fitted, cost_usd, observations, targets, encoder)
    return Trained(
        model=fitted.model,
        menu=menu,
        default=default.name,
        input_tokens=input_tokens,
        reference=ladder.names[reference],
        reference_cost_usd=reference_cost_usd,
        evaluation=evaluation,
        acceptance=acceptance,
        promises=promises,
        advice=advice,
        reason=reason,
        curve=curve,
        neighbours=_neighbours(observations, embedded, options) if options.neighbours else None,
    )


def _reference_cost(observed: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """The mean cost of a call to the reference tier, as observed, else as expected; 1 USD where neither is above 0."""
    known = observed[~np.isnan(observed)]
    mean = float(known.mean()) if len(known) else float(expected.mean())
    return mean if mean > 0 else 1.0


def embed_unjudged(prepared: Prepared, options: FitOptions, embed: Callable[[Observations], Embedded]) -> Inputs | None:
    """The prompts without a quality, for the one learner that learns from them; None for the others, and where there are none.

    At most 20,000 are drawn, by ``options.random_state``.
    """
    n = len(prepared.unjudged)
    if options.learner != "distilled" or n == 0:
        return None
    rng = np.random.default_rng(options.random_state)
    rows = np.sort(rng.choice(n, min(n, _MAX_UNLABELLED), replace=False))
    logger.info("%d of %d prompts without a quality teach the student, too.", len(rows), n)
    return embed(prepared.unjudged.take(rows)).inputs


def train_tracked(
    prepared: Prepared,
    embedded: Embedded,
    options: FitOptions,
    traffic: pl.DataFrame,
    *,
    source: str,
    name: str,
    unlabelled: Inputs | None = None,
) -> tuple[Trained, str | None]:
    """:func:`train`, as a new MLflow run; gives its id too, for what comes after to be logged there."""
    with tracking.start(name) as run:
        log_inputs(run, prepared, options, traffic, source=source)
        trained = train(prepared.observations, embedded, prepared.ladder, options, run=run, unlabelled=unlabelled)
        if trained.evaluation is not None:
            run.log_metrics(trained.evaluation.metrics(), prefix="cv/")
    return trained, run.id


def log_inputs(
    run: tracking.Run, prepared: Prepared, options: FitOptions, traffic: pl.DataFrame, *, source: str
) -> None:
    """Log options, traffic and the shares of the labels."""
    n_prompts = len(prepared.observations)
    run.log_params({**options.to_params(), "tiers": ", ".join(prepared.ladder.names), "n_prompts": n_prompts})
    run.log_traffic(traffic, source=source, name="training traffic")
    counts = count_labels(prepared.labels, prepared.ladder)
    run.log_metrics({f"labels/{name}": n / counts["n"].sum() for name, n in counts.iter_rows()})


def _design(observations: Observations, embedded: Embedded, options: FitOptions) -> LogDesign:
    features = embedded.inputs.features
    judged = ~np.isnan(observations.quality)
    n_judged, lacking = int(judged.sum()), int(np.isnan(observations.propensity[judged]).sum())
    if 0 < lacking < n_judged and not observations.complete.all():
        logger.warning(
            "%s of %s judged answers have no propensity, so that those of the others aren't used either, and the logging policy is "
            "estimated. Give it for all of them, or drop the rows without.",
            f"{lacking:,}",
            f"{n_judged:,}",
        )
    return design_log(
        observations.quality,
        observations.propensity,
        features,
        _folds(observations, options),
        random_state=options.random_state,
    )


def _folds(observations: Observations, options: FitOptions) -> NDArray[np.intp]:
    groups = connected_groups(observations.prompt, observations.session_id)
    return group_folds(groups, n_folds=min(options.n_folds, len(np.unique(groups))), random_state=options.random_state)


def _reference(table: Comparable, observations: Observations, ladder: Ladder, options: FitOptions) -> int:
    name = options.reference or options.bar.reference
    if name is not None:
        return ladder.index(name)
    return reference_tier(table.quality if len(table.quality) else observations.quality, ladder, options.bar)


def _neighbours(observations: Observations, embedded: Embedded, options: FitOptions) -> Neighbours:
    rng = np.random.default_rng(options.random_state)
    n = len(observations)
    rows = np.sort(rng.choice(n, min(n, _MAX_NEIGHBOURS), replace=False))
    return Neighbours.of(observations.prompt_id[rows], embedded.embeddings[rows], observations.quality[rows])


def _fit_acceptance(
    fitted: CrossFitted,
    cost_usd: NDArray[np.float64],
    observations: Observations,
    targets: Targets,
    encoder: Encoder,
) -> AcceptanceModel:
    answers = Answers.of(observations.prompt.tolist(), observations.response, partial(tokenize, encoder))
    return fit_acceptance(
        fitted.outputs.quality,
        cost_usd,
        answers,
        observations.quality,
        targets.meets,
        observations.cost_usd,
        fitted.folds,
    )


def _learn(
    X: Inputs,
    targets: Targets,
    folds: NDArray[np.intp],
    predicted_cost: Callable[[Outputs], NDArray[np.float64]],
    design: LogDesign,
    options: FitOptions,
    run: tracking.Run,
    unlabelled: Inputs | None,
) -> tuple[CrossFitted, str | None]:
    """The learner that is asked for, or the one that a search chooses, and why."""
    from tqdm import tqdm

    if options.learner != AUTO:
        common = {"random_state": options.random_state, "on_epoch": run.log_epoch, "unlabelled": unlabelled}
        learner = make_learner(options.learner, **common, **options.learner_params)
        with tqdm(total=len(np.unique(folds)), desc=options.learner, unit="fold", disable=not options.progress) as bar:
            fitted = crossfit(options.learner, learner, X, targets, folds, on_fold=lambda: bar.update() and None)
        return fitted, None
    names = PARTIAL_CANDIDATES if options.structure and not design.is_complete else CANDIDATES
    n_folds = len(np.unique(folds))
    with tqdm(total=n_folds * len(names), desc="search", unit="fold", disable=not options.progress) as bar:

        @contextmanager
        def log_candidate(name: str) -> Iterator[Callable[[Candidate], None]]:
            bar.set_postfix_str(name)
            with run.child(name) as child:
                child.log_params({"learner": name})
                yield lambda c: child.log_metrics(
                    {"cv/value/aiq": c.aiq, "cv/value/gap_closed": c.gap_closed, "seconds": c.seconds}
                )

        selection = select_learner(
            X,
            targets,
            folds,
            predicted_cost,
            design=design,
            names=names,
            max_seconds=options.max_seconds,
            random_state=options.random_state,
            on_candidate=log_candidate,
            on_fold=lambda: bar.update() and None,
        )
    if not selection.beats_constant:
        logger.warning(selection.reason)
    return selection.fitted, selection.reason


def _cross_validated(
    expected: Expectations,
    observations: Observations,
    ladder: Ladder,
    menu: Sequence[OperatingPoint],
    default: str,
    rule: Rule,
    options: FitOptions,
) -> Evaluation | None:
    rows = np.flatnonzero(observations.complete)
    if len(rows) < MIN_PROMPTS:
        return None
    seen, expected = observations.take(rows), expected.take(rows)
    return evaluate(
        expected.p_meets,
        expected.quality,
        expected.cost_usd,
        seen.quality,
        seen.cost_usd,
        tiers=ladder.names,
        default_choice=expected.choices(replace(rule, policy=find_point(menu, default).policy)),
        menu=Menu(tuple(menu), default, ladder.names[rule.reference], ladder.names),
        meets=meets(seen.quality, ladder, replace(options.bar, margin=0.0)),
        random_state=options.random_state,
        n_resamples=_RESAMPLES,
        slices=slices(seen),
        warnings=simulated(seen.source),
    )
