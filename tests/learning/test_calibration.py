"""Calibration: planted curves are recovered and chosen, useless scores are turned to the mean, and few rows promise nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from router_ml.graph.builder import Graph
from router_ml.learning.calibration import (
    Calibration,
    Curve,
    choose_curve,
    fit_beta,
    fit_isotonic,
    fit_platt,
    fit_temperature,
)
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.learners import make_learner
from router_ml.learning.model import FittedModel, crossfit
from router_ml.learning.targets import Scores, Targets, expit

TRUE_CURVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "platt": lambda s: expit(0.7 * s + 0.3),
    "beta": lambda s: expit(0.1 * s + 2.5 * np.logaddexp(0, s) - 1.5),
    "isotonic": lambda s: 0.1 + 0.7 * expit(4 * s),
}


def planted(name: str, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, outcomes and weights of 1 from a true curve."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    return score, (rng.random(n) < TRUE_CURVES[name](score)).astype(float), np.ones(n)


def calibration_of(*curves: Curve) -> Calibration:
    """A fit to outcomes planted with these curves, one a tier."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(6000, len(curves)))
    p = np.column_stack([expit(c(s)) for c, s in zip(curves, scores.T, strict=True)])
    meets = (rng.random(p.shape) < p).astype(float)
    return Calibration.fit(Scores(scores, scores, scores), Targets(meets, meets, np.ones_like(p), np.ones_like(p)))


LINE, BENT = Curve.line(0.7, 0.3), Curve.line(0.1, 0.0, 2.0)
STEP = Curve(0.0, -1.5, 0.0, np.array([[0.8], [0.05], [3.0]]))


def test_planted_slope_and_intercept_are_recovered() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=20_000)
    y = (rng.random(20_000) < expit(0.5 * score - 1)).astype(float)

    # Standard errors are about 0.02.
    assert fit_platt(score, y) == pytest.approx((0.5, -1), abs=0.08)


def test_fractional_outcomes_are_fitted_as_they_are() -> None:
    score = np.linspace(-3, 3, 5000)

    assert fit_platt(score, expit(0.7 * score + 0.2)) == pytest.approx((0.7, 0.2), abs=0.01)


def test_scores_that_rank_the_wrong_way_round_give_the_mean() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=5000)
    y = (rng.random(5000) < expit(-score - 1)).astype(float)
    slope, intercept = fit_platt(score, y)

    assert slope == 0
    assert expit(np.array(intercept)) == pytest.approx(y.mean(), abs=1e-3)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_few_answers_of_one_kind_promise_neither_0_nor_1(outcome: float) -> None:
    slope, intercept = fit_platt(np.array([-1.0, 0.5, 2.0]), np.full(3, outcome))

    assert 0.05 < expit(np.array(intercept)) < 0.95
    assert np.isfinite(slope)


def test_tier_without_outcomes_keeps_its_scores() -> None:
    assert fit_platt(np.zeros(5), np.full(5, np.nan)) == (1.0, 0.0)


def test_rows_not_tried_do_not_count() -> None:
    rng = np.random.default_rng(0)
    score, y = rng.normal(size=200), rng.integers(0, 2, 200).astype(float)
    masked = np.concatenate([y, np.full(50, np.nan)])

    assert fit_platt(np.concatenate([score, np.full(50, 9.0)]), masked) == fit_platt(score, y)


@pytest.mark.parametrize("name", TRUE_CURVES)
def test_method_that_the_planted_curve_needs_is_chosen_and_right(name: str) -> None:
    score, y, weight = planted(name, 6000)
    chosen, curve = choose_curve(score, y, weight)
    new = planted(name, 2000, seed=1)[0]

    assert chosen == name
    assert np.abs(expit(curve(new)) - TRUE_CURVES[name](new)).mean() < 0.02


def test_platt_is_kept_where_lines_are_true() -> None:
    chosen = [choose_curve(*planted("platt", 800, seed))[0] for seed in range(30)]

    # Each of three others would have to be better by two standard errors by chance.
    assert chosen.count("platt") >= 26


def test_few_outcomes_of_a_kind_leave_platt_whatever_they_look_like() -> None:
    score = np.linspace(-2, 2, 5000)

    assert choose_curve(score, (score > 1.95).astype(float), np.ones(5000))[0] == "platt"


def test_temperature_has_a_slope_only() -> None:
    curve = fit_temperature(*planted("platt", 3000))

    assert curve(np.zeros(1)) == 0
    assert curve.slope > 0


def test_beta_recovers_both_slopes() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=20_000) * 2
    p = expit(0.5 * score + 1.0 * np.logaddexp(0, score) - 1)
    curve = fit_beta(score, p, np.ones(20_000))

    assert (curve.slope, curve.bend, curve.intercept) == pytest.approx((0.5, 1.0, -1.0), abs=0.02)


def test_isotonic_of_a_worked_example() -> None:
    # Three scores; the middle and last outcomes are the wrong way round, so they are pooled at their mean score.
    score, y = np.repeat([0.0, 1.0, 2.0], 1000), np.repeat([0.2, 0.7, 0.5], 1000)
    curve = fit_isotonic(score, y, np.ones(3000))

    assert expit(curve(np.array([-9.0, 0.0, 1.5, 9.0]))) == pytest.approx([0.2, 0.2, 0.6, 0.6], abs=0.01)
    assert curve.steps[:2].T.tolist() == [pytest.approx([0.0, 1.5], abs=0.05)]


def test_isotonic_rises_everywhere_between_its_outermost_knots() -> None:
    curve = fit_isotonic(*planted("isotonic", 3000))
    start, width, rise = curve.steps
    inside = curve(np.linspace(start[0], start[-1] + width[-1], 500))

    assert (np.diff(inside) > 0).all()
    assert (rise > 0).all()
    assert 1 <= len(rise) < 32


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.booleans())
def test_no_curve_falls_or_reaches_0_or_1(seed: int, n: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n).round(0 if tied else 6)
    y, weight = rng.integers(0, 2, n).astype(float), rng.exponential(size=n)
    grid = np.linspace(-5, 5, 200)
    for fit in (fit_temperature, fit_beta, fit_isotonic, lambda *rows: Curve.line(*fit_platt(*rows))):
        p = expit(fit(score, y, weight)(grid))

        assert (np.diff(p) >= -1e-12).all()
        assert np.isfinite(p).all()
    assert expit(fit_isotonic(score, y, weight)(grid)).min() > 0
    assert expit(fit_isotonic(score, y, weight)(grid)).max() < 1


@pytest.mark.parametrize("fit", [fit_temperature, fit_beta, fit_isotonic, lambda *r: Curve.line(*fit_platt(*r))])
def test_weight_of_two_counts_as_two_rows(fit: Callable[..., Curve]) -> None:
    score, y, weight = planted("beta", 300)
    doubled = np.arange(300) % 3 == 0
    weighted = fit(score, y, weight + doubled)
    repeated = fit(np.repeat(score, 1 + doubled), np.repeat(y, 1 + doubled), np.ones(400))
    grid = np.linspace(-2, 2, 50)

    assert np.abs(expit(weighted(grid)) - expit(repeated(grid))).max() < 1e-3


def test_weighted_cells_move_all_that_is_fitted() -> None:
    rng = np.random.default_rng(0)
    meets, tokens = np.repeat([[0.0], [1.0]], 500, axis=0), np.repeat([[10.0], [90.0]], 500, axis=0)
    noise = Scores(*(rng.normal(size=(1000, 1)) * 0.01 for _ in range(3)))
    weight = np.repeat([[0.5], [1.5]], 500, axis=0)
    calibrated = Calibration.fit(noise, Targets(meets, meets, tokens, tokens, weight)).apply(noise)

    assert [values.mean() for values in calibrated] == pytest.approx([0.75, 0.75, 70], rel=0.01)


def test_each_tier_has_its_own_method() -> None:
    assert calibration_of(LINE, BENT, STEP).methods.tolist() == ["platt", "beta", "isotonic"]


@pytest.mark.parametrize("curves", [(LINE, LINE), (LINE, BENT), (STEP, LINE), (BENT, STEP, LINE)])
def test_graph_gives_what_numpy_gives(curves: tuple[Curve, ...], run_graph: Callable[..., list[np.ndarray]]) -> None:
    calibration, n_tiers = calibration_of(*curves), len(curves)
    scores = np.random.default_rng(1).normal(size=(3000, 3 * n_tiers)).astype(np.float32) * 2

    def build(graph: Graph, x: InputNames) -> list[str]:
        linear = graph.linear(x.features, np.eye(3 * n_tiers), np.zeros(3 * n_tiers))
        novelty = graph.reduce_sum(x.features, 1)
        return [*calibration.to_graph(graph, linear), novelty]

    got = run_graph(build, Inputs(scores, [np.empty(0, np.int32)] * len(scores)))
    expected = calibration.apply(Scores(*np.split(scores.astype(np.float64), 3, axis=1)))
    for one, other in zip(got, expected, strict=False):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("curves", "extra"), [((LINE, LINE), set()), ((LINE, BENT), {"Softplus"})])
def test_only_curves_that_bend_add_nodes(curves: tuple[Curve, ...], extra: set[str]) -> None:
    graph = Graph()
    x = graph.input("x", np.float32, ["n", 6])
    linear = graph.linear(x, np.eye(6), np.zeros(6))
    for i, value in enumerate(calibration_of(*curves).to_graph(graph, linear)):
        graph.output(value, f"out{i}", ["n", 2])
    types = {node.op_type for node in graph.model().graph.node}

    assert types == {"Gemm", "Split", "Sigmoid", "Exp"} | extra


def test_curves_are_stored_with_the_model(draw: Callable[..., tuple[Inputs, Targets]], tmp_path: Path) -> None:
    X, targets = draw(100)
    model = crossfit("logistic", make_learner("logistic"), X, targets, np.arange(100) % 2).model
    curved = dataclasses.replace(model, calibration=calibration_of(LINE, BENT, STEP))
    curved.save(tmp_path / "model.npz")
    loaded = FittedModel.load(tmp_path / "model.npz")

    assert loaded.calibration.methods.tolist() == ["platt", "beta", "isotonic"]
    np.testing.assert_array_equal(loaded.predict(X).p_meets, curved.predict(X).p_meets)


def test_total_of_expected_tokens_is_the_total_seen() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.poisson(50, (300, 1)).astype(float)
    zeros = np.zeros((300, 1))
    scores = Scores(zeros, zeros, rng.normal(3, 0.1, (300, 1)))
    calibration = Calibration.fit(scores, Targets(zeros, zeros, tokens, zeros))

    assert calibration.apply(scores)[2].sum() == pytest.approx(tokens.sum())


def test_calibration_on_out_of_fold_scores_improves_the_brier_score_of_an_overconfident_learner(
    draw: Callable[..., tuple[np.ndarray, Targets]],
) -> None:
    X, targets = draw(120, strength=0.7)
    X_new, new = draw(2000, seed=1, strength=0.7)
    # So weakly regularised that 120 rows are all but memorised.
    learner = make_learner("logistic", C=1e4)
    scores = Scores(*(np.zeros_like(targets.meets) for _ in range(3)))
    for fold in range(5):
        out = np.arange(120) % 5 == fold
        predicted = clone(learner).fit(X[~out], targets.take(~out)).predict(X[out])
        for name in ("meets", "quality", "log_tokens"):
            getattr(scores, name)[out] = getattr(predicted, name)
    calibrated = Calibration.fit(scores, targets)
    raw = learner.fit(X, targets).predict(X_new)

    def brier(p: np.ndarray) -> float:
        return float(np.mean((p - new.meets) ** 2))

    assert brier(calibrated.apply(raw)[0]) < brier(expit(raw.meets))


def test_crossfitted_probabilities_have_the_mean_of_the_outcomes(
    draw: Callable[..., tuple[np.ndarray, Targets]],
) -> None:
    X, targets = draw(400)
    fitted = crossfit("logistic", make_learner("logistic"), X, targets, np.arange(400) % 5)

    # Exact but for the one success and one failure that are added.
    assert fitted.outputs.p_meets.mean(axis=0) == pytest.approx(targets.meets.mean(axis=0), abs=0.01)
