"""What an artifact is worth on held-out traffic, and how that is shown."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from router_ml import tracking
from router_ml.core.acceptance import seen_states
from router_ml.core.decision import Prediction
from router_ml.core.router import Router
from router_ml.errors import TrafficError
from router_ml.evaluation.cascade import cascade_figures, simulate_cascade
from router_ml.evaluation.figures import curve_figure, draw_figures, to_png
from router_ml.evaluation.frontier import hull, points, sweep_value
from router_ml.evaluation.summary import Evaluation, evaluate
from router_ml.evaluation.tradeoff import Expectations, Outcomes, measure_menu
from router_ml.learning.curve import CurvePoint, curve_text
from router_ml.learning.threads import single_threaded
from router_ml.traffic.labels import Bar, meets
from router_ml.traffic.observations import Observations, observe, slices
from router_ml.traffic.prices import dated_names
from router_ml.traffic.split import connected_groups
from router_ml.traffic.validate import MAX_REJECTS
from router_ml.workflow.data import read_traffic
from router_ml.workflow.warnings import seen_in_training, simulated

__all__ = ["curve_of", "evaluate_router", "figures", "log_evaluation", "plot_tables", "report_facts"]

logger = logging.getLogger(__name__)

_RESAMPLES = 300
"""Of the cascade's bootstrap at most."""
_WHOLE_SHARE = 0.9
"""Of the prompts have to have all responses for a cascade to be evaluated: on fewer it would be another traffic's."""


@single_threaded()
def evaluate_router(
    router: Router,
    paths: Sequence[str | Path],
    *,
    random_state: int = 0,
    max_rejects: float = MAX_REJECTS,
    n_resamples: int = 1000,
) -> Evaluation:
    """Evaluate an artifact on traffic it wasn't fitted on (its `warnings` say where it was), through the core that serves it.

    Only prompts that every tier answered, and whose answers are judged and priced, can be used.

    Raises
    ------
    TrafficError
        If there are fewer than two such prompts.
    """
    traffic = read_traffic(paths, max_rejects=max_rejects).traffic
    seen = traffic["model"].unique().to_list()
    lacking = [m for m in router.ladder.models if m not in seen]
    if lacking:
        raise TrafficError(
            f"The traffic holds no answer of {lacking}, which the router's ladder names; it holds {sorted(seen)}. "
            f"{dated_names(lacking, seen)}".rstrip()
        )
    observations = observe(traffic, router.ladder)
    complete = observations.complete
    if complete.sum() < 2:
        raise TrafficError(
            f"{complete.sum()} of {len(observations)} prompts hold a judged and priced answer of every tier "
            f"({', '.join(router.ladder.names)}); at least 2 are needed. Judge a log with one answer a prompt as it is, with "
            "--off-policy (evaluate_off_policy), or replay the missing tiers first."
        )
    if not complete.all():
        logger.info(
            "%d of %d prompts lack an answer of some tier and are left out.", (~complete).sum(), len(observations)
        )
    observations = observations.take(complete)
    prediction = router.predict(observations.prompt.tolist())
    rule, expected = router.metadata.rule(), Expectations.of(prediction)
    groups = connected_groups(observations.prompt, observations.session_id)
    outcomes = Outcomes(observations.quality, observations.cost_usd, rule.reference, groups)
    points = measure_menu(router.metadata.points, rule, expected, outcomes, random_state=random_state)
    evaluation = evaluate(
        prediction.p_meets,
        prediction.quality,
        prediction.cost_usd,
        observations.quality,
        observations.cost_usd,
        tiers=router.ladder.names,
        default_choice=expected.choices(rule),
        meets=meets(observations.quality, router.ladder, dataclasses.replace(Bar(**router.metadata.bar), margin=0.0)),
        random_state=random_state,
        n_resamples=n_resamples,
        slices=slices(observations),
        menu=dataclasses.replace(router.menu, points=points),
        warnings=(*seen_in_training(router, paths, observations.prompt_id), *simulated(observations.source)),
    )
    return _with_cascade(evaluation, router, observations, prediction, min(n_resamples, _RESAMPLES), random_state)


def _with_cascade(
    evaluation: Evaluation,
    router: Router,
    observations: Observations,
    prediction: Prediction,
    n_resamples: int,
    random_state: int,
) -> Evaluation:
    """Add the joint policy, where the artifact holds an acceptance model and the traffic the responses that it needs."""
    if not router.can_accept:
        return evaluation
    answers = observations.response.tolist()
    whole = np.array([None not in row for row in answers])
    if not whole.all():
        enough = whole.mean() >= _WHOLE_SHARE
        logger.info(
            "%d of %d prompts lack a response, so the cascade %s.",
            (~whole).sum(),
            len(whole),
            "is evaluated on the others" if enough else "can't be evaluated",
        )
        if not enough:
            return evaluation
        observations, prediction = observations.take(whole), prediction.take(whole)
        answers = observations.response.tolist()
    _, told = router.predict_answers(observations.prompt.tolist(), answers, prediction)
    after = {state: told[:, s].astype(np.float64) for s, state in enumerate(seen_states(len(router.ladder)))}
    quality, cost = observations.quality, observations.cost_usd
    expected = prediction.quality, prediction.cost_usd
    caution = router.caution
    cascade = simulate_cascade(*expected, after, quality, cost, caution=caution, probes=router.probes)
    alone = sweep_value(*expected)
    figures = cascade_figures(
        cascade, alone, quality, cost, caution=caution, n_resamples=n_resamples, random_state=random_state
    )
    hulls = {**evaluation.hulls, "cascade": hull(*points(cascade, quality, cost))}
    return dataclasses.replace(evaluation, cascade=figures, hulls=hulls)


def figures(evaluation: Evaluation, curve: Sequence[CurvePoint] = ()) -> dict[str, bytes]:
    """All figures of an evaluation as PNG, by name, and of a learning curve, where there is one."""
    drawn = draw_figures(evaluation)
    if curve:
        drawn["learning curve"] = curve_figure(curve)
    return {name: to_png(figure) for name, figure in drawn.items()}


def curve_of(router: Router) -> tuple[CurvePoint, ...]:
    """The learning curve that was measured when the artifact was fitted; empty where there was none."""
    return tuple(CurvePoint(*point) for point in router.metadata.provenance.get("learning_curve", ()))


def report_facts(router: Router, evaluation: Evaluation) -> dict[str, str]:
    """What a report says of the artifact and the data, beside the figures."""
    metadata = router.metadata
    return {
        "prompts": f"{evaluation.n_prompts:,}",
        "tiers": ", ".join(router.ladder.names),
        "bar": f"quality >= {metadata.bar['value']:g} ({metadata.bar['kind']})",
        "encoder": str(metadata.encoder["name"]),
        "learner": str(metadata.learner["name"]),
        "reference tier": metadata.reference,
        "default": str(router.default),
        **{f"promise {i}": str(g) for i, g in enumerate(metadata.guarantees, start=1)},
        "unlike the training traffic": "ignored"
        if metadata.novelty_threshold is None
        else f"above a novelty of {metadata.novelty_threshold:.3g} to the reference tier",
        **{
            key.replace("_", " "): str(value)
            for key, value in metadata.provenance.items()
            if value is not None and not isinstance(value, (dict, list))
        },
        **({"learning curve": f"gap closed {curve_text(curve)}"} if (curve := curve_of(router)) else {}),
    }


def log_evaluation(router: Router, evaluation: Evaluation, images: Mapping[str, bytes], report: Path) -> None:
    """Log a held-out evaluation to the run that the artifact comes from."""
    with tracking.start("evaluate", run_id=router.metadata.provenance.get("mlflow_run")) as run:
        run.log_metrics(evaluation.metrics(), prefix="test/")
        run.log_figures(images)
        run.log_file(report)


def plot_tables(evaluation: Evaluation) -> dict[str, pl.DataFrame]:
    """The frontier and the reliability as tables, for plotting tools."""
    frontier = [
        pl.DataFrame({"curve": name, "cost_usd_per_1000": 1000 * hull.cost, "quality": hull.quality})
        for name, hull in evaluation.hulls.items()
    ]
    reliability = [
        pl.DataFrame({"tier": c.tier, "predicted": c.reliability.predicted, "observed": c.reliability.observed})
        for c in evaluation.calibration
    ]
    return {"frontier": pl.concat(frontier), "reliability": pl.concat(reliability)}
