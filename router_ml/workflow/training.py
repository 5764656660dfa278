"""From embedded prompts to a model, its settings and what it promises."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_ml import tracking
from router_ml.core.artifact import Setting
from router_ml.core.guarantee import Guarantee
from router_ml.core.neighbours import Neighbours
from router_ml.core.policy import choose, choose_reference
from router_ml.errors import InputError
from router_ml.evaluation.summary import Evaluation, evaluate
from router_ml.ladder import Ladder
from router_ml.learning.acceptance import AcceptanceModel, Answers, fit_acceptance
from router_ml.learning.curve import CurvePoint, learning_curve
from router_ml.learning.encoders import Encoder, load_encoder
from router_ml.learning.export import InputTokens
from router_ml.learning.inputs import Inputs, tokenize
from router_ml.learning.learners import make_learner
from router_ml.learning.model import CrossFitted, FittedModel, crossfit, group_folds
from router_ml.learning.partial import Comparable, LogDesign, comparable, design_log
from router_ml.learning.selection import CANDIDATES, PARTIAL_CANDIDATES, Candidate, select_learner
from router_ml.learning.settings import choose_settings
from router_ml.learning.targets import Outputs, Targets
from router_ml.learning.threads import single_threaded
from router_ml.traffic.labels import meets, reference_tier
from router_ml.traffic.observations import Observations, slices
from router_ml.traffic.split import connected_groups
from router_ml.workflow.caveats import simulated
from router_ml.workflow.data import MIN_PROMPTS
from router_ml.workflow.embedding import Embedded
from router_ml.workflow.options import AUTO, FitOptions
from router_ml.workflow.promises import can_test_exactly, certified_default, held_for_promises, promise

__all__ = ["Trained", "train"]

_MODEL, _TRAINED, _ACCEPTANCE = "model.npz", "trained.json", "acceptance.npz"
logger = logging.getLogger(__name__)

_RESAMPLES = 200
"""Of the cross-validated evaluation, which is looked at in passing; `evaluate_router` draws more."""
_MAX_NEIGHBOURS = 20_000
"""Training prompts that an artifact holds at most: 5 MB with 256 dimensions."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model and what goes with it.

    Its settings, the default first; its token lengths; the reference tier's name; its cross-validated evaluation (None: too few
    prompts were answered by all tiers); what it promises; where a search chose the learner, why; its learning curve; and a sample
    of the training prompts, where it was asked for.
    """

    model: FittedModel
    settings: tuple[Setting, ...]
    input_tokens: InputTokens
    reference: str
    evaluation: Evaluation | None
    acceptance: AcceptanceModel | None = None
    promises: tuple[Guarantee, ...] = ()
    reason: str | None = None
    curve: tuple[CurvePoint, ...] = ()
    neighbours: Neighbours | None = None

    def save(self, folder: Path, *, run_id: str | None) -> None:
        """Write ``model.npz`` and ``trained.json``, all but the evaluation; the inverse of :meth:`load`."""
        self.model.save(folder / _MODEL)
        if self.acceptance is not None:
            self.acceptance.save(folder / _ACCEPTANCE)
        tokens = {name: values.tolist() for name, values in asdict(self.input_tokens).items()}
        content: dict[str, Any] = {
            "reference": self.reference,
            "promises": [p.to_dict() for p in self.promises],
            "neighbours": None if self.neighbours is None else self.neighbours.to_text(),
            "settings": [asdict(s) for s in self.settings],
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
            settings = tuple(Setting(**s) for s in content["settings"])
            curve = tuple(CurvePoint(*point) for point in content["curve"])
            acceptance = AcceptanceModel.load(folder / content["acceptance"]) if "acceptance" in content else None
            trained = cls(
                FittedModel.load(folder / _MODEL),
                settings,
                tokens,
                content["reference"],
                None,
                acceptance,
                tuple(map(Guarantee.from_dict, content["promises"])),
                content["reason"],
                curve,
                None if content["neighbours"] is None else Neighbours.from_text(content["neighbours"]),
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
    seen_apart, told_apart, design_apart = observations.take(held), embedded.take(held), design.take(held)
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
    settings = choose_settings(
        fitted.outputs.p_meets[table.rows],
        fitted.outputs.quality[table.rows],
        cost_usd[table.rows],
        table.quality,
        table.cost_usd,
        quality_target=options.quality_target,
    )
    curve = learning_curve(
        fitted.model.learner, embedded.inputs, targets, folds, cost_of, random_state=options.random_state
    )
    for point in curve:
        run.log_metrics({"gap_closed": point.gap_closed}, prefix="learning_curve/", step=point.n_prompts)
    promises: tuple[Guarantee, ...] = ()
    if options.promises:
        promises = promise(
            fitted.model,
            told_apart,
            seen_apart,
            design_apart,
            input_tokens,
            ladder,
            reference,
            settings[0],
            fitted.outputs,
            cost_usd,
            options,
            exact=can_test_exactly(observations),
        )
        settings = (certified_default(promises, reference, settings[0], options), *settings)
    evaluation = _cross_validated(fitted, cost_usd, observations, ladder, settings[0], reference, options)
    acceptance = None
    if options.cascade:
        encoder = encoder or load_encoder(options.encoder)
        acceptance = _fit_acceptance(fitted, cost_usd, observations, targets, encoder)
    return Trained(
        fitted.model,
        settings,
        input_tokens,
        ladder.names[reference],
        evaluation,
        acceptance,
        promises,
        reason,
        curve,
        _neighbours(observations, embedded, options) if options.neighbours else None,
    )


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
    with tqdm(total=len(names), desc="search", unit="learner", disable=not options.progress) as bar:

        @contextmanager
        def log_candidate(name: str) -> Iterator[Callable[[Candidate], None]]:
            bar.set_postfix_str(name)
            with run.child(name) as child:
                child.log_params({"learner": name})
                yield lambda c: child.log_metrics(
                    {"cv/value/aiq": c.aiq, "cv/value/gap_closed": c.gap_closed, "seconds": c.seconds}
                )
            bar.update()

        selection = select_learner(
            X,
            targets,
            folds,
            predicted_cost,
            design=design,
            names=names,
            random_state=options.random_state,
            on_candidate=log_candidate,
        )
    if not selection.beats_constant:
        logger.warning(selection.reason)
    return selection.fitted, selection.reason


def _cross_validated(
    fitted: CrossFitted,
    cost_usd: NDArray[np.float64],
    observations: Observations,
    ladder: Ladder,
    setting: Setting,
    reference: int,
    options: FitOptions,
) -> Evaluation | None:
    rows = np.flatnonzero(observations.complete)
    if len(rows) < MIN_PROMPTS:
        return None
    seen = observations.take(rows)
    predicted = fitted.outputs.p_meets[rows], fitted.outputs.quality[rows], cost_usd[rows]
    chosen = choose(setting.policy, setting.knob, *predicted)
    if options.safe_when_novel:
        novel = fitted.outputs.novelty[rows] > fitted.model.novelty.threshold
        chosen = np.where(novel, choose_reference(predicted[1], reference), chosen)
    return evaluate(
        *predicted,
        seen.quality,
        seen.cost_usd,
        tiers=ladder.names,
        default_choice=chosen,
        meets=meets(seen.quality, ladder, replace(options.bar, margin=0.0)),
        random_state=options.random_state,
        n_resamples=_RESAMPLES,
        slices=slices(seen),
        warnings=simulated(seen.source),
    )
