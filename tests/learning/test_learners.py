"""The learners: what all of them must do, then what each promises of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from router_ml.errors import InputError
from router_ml.graph.builder import Graph
from router_ml.learning.calibration import Calibration
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.learners import LEARNERS, make_learner
from router_ml.learning.model import FittedModel
from router_ml.learning.novelty import Novelty
from router_ml.learning.targets import Scores, Targets, expit

Draw = Callable[..., tuple[Inputs, Targets]]


def dense(features: np.ndarray) -> Inputs:
    """Prompts without tokens."""
    return Inputs(features.astype(np.float32), [np.empty(0, np.int32)] * len(features))


every_learner = pytest.mark.parametrize("name", list(LEARNERS))
learns = pytest.mark.parametrize("name", [name for name in LEARNERS if name != "constant"])


def learner(name: str, **params: Any) -> Any:
    """Small enough for a test."""
    small = {
        "logistic": {"C": 0.1, "C_quality": 0.1},
        "knn": {"k": 32},
        "ngram": {"alpha": 1.0},
        "stack": {"bases": ("logistic", "knn"), "base_params": {"logistic": {"C": 0.1, "C_quality": 0.1}}},
        "distilled": {"teacher": "logistic", "teacher_params": {"C": 0.1, "C_quality": 0.1}},
        "ordinal": {"alpha": 1.0},
        "pooled": {"base_params": {"ngram": {"alpha": 1.0}, "ordinal": {"alpha": 1.0}}},
        "constant": {},
        "mlp": {"hidden": 16, "max_epochs": 15, "lr": 1e-2},
    }
    return make_learner(name, **{**small[name], **params})


def equal(a: Scores, b: Scores) -> bool:
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("meets", "quality", "log_tokens"))


def with_tier(targets: Targets, tier: int, value: float) -> Targets:
    """The same, with one tier's every cell set to a value."""
    cells = [getattr(targets, f.name).copy() for f in fields(targets)]
    for c in cells:
        c[:, tier] = value
    return Targets(*cells[:4])


@learns
def test_planted_signal_is_learned(name: str, draw: Draw) -> None:
    X, targets = draw(600)
    X_new, new = draw(600, seed=1)
    scores = learner(name).fit(X, targets).predict(X_new)

    assert min(roc_auc_score(new.meets[:, t], scores.meets[:, t]) for t in range(3)) > 0.8


@every_learner
def test_cells_not_tried_are_left_out_not_counted_as_failures(name: str, draw: Draw) -> None:
    # Every answer there is is good; two in three cells are missing. Filled in with 0, the mean would be a third.
    X, targets = draw(500, tried=1 / 3)
    always = Targets(*(np.where(np.isnan(targets.meets), np.nan, value) for value in (1.0, 0.9, 50.0, 1.0)))
    scores = learner(name).fit(X, always).predict(X)

    assert expit(scores.meets).min() > 0.8
    assert expit(scores.quality).mean() == pytest.approx(0.9, abs=0.08)
    assert np.exp(scores.log_tokens).mean() == pytest.approx(50, rel=0.1)


@pytest.mark.parametrize("name", ["logistic", "knn"])
def test_one_tiers_answers_say_nothing_of_another(name: str, draw: Draw) -> None:
    X, targets = draw(300)
    one = learner(name).fit(X, targets).predict(X)
    other = learner(name).fit(X, with_tier(targets, 2, np.nan)).predict(X)

    assert np.allclose(one.meets[:, :2], other.meets[:, :2])


@every_learner
@pytest.mark.parametrize("value", [np.nan, 0.0, 1.0])
def test_tier_with_nothing_to_tell_apart_gets_finite_scores(name: str, value: float, draw: Draw) -> None:
    X, targets = draw(200)
    scores = learner(name).fit(X, with_tier(targets, 1, value)).predict(X)

    assert all(np.isfinite(getattr(scores, f)).all() for f in ("meets", "quality", "log_tokens"))


@pytest.mark.parametrize("name", ["logistic", "knn"])
@pytest.mark.parametrize("value", [np.nan, 0.0, 1.0])
def test_tier_with_nothing_to_tell_apart_gets_one_score(name: str, value: float, draw: Draw) -> None:
    X, targets = draw(200)
    scores = learner(name).fit(X, with_tier(targets, 1, value)).predict(X)

    assert np.ptp(scores.meets[:, 1]) < 1e-5


@every_learner
def test_same_input_gives_the_same_scores(name: str, draw: Draw) -> None:
    X, targets = draw(200)
    first, second = (learner(name, random_state=7).fit(X, targets).predict(X) for _ in range(2))

    assert equal(first, second)


@every_learner
def test_tune_gives_an_unfitted_copy_and_leaves_the_original(name: str, draw: Draw) -> None:
    X, targets = draw(150)
    original = learner(name)
    before = original.get_params()
    tuned = original.tune(X, targets, np.arange(150) % 3)

    assert not [k for k in vars(tuned) if k.endswith("_")]
    assert original.get_params() == before


@every_learner
def test_clone_has_the_same_params_and_nothing_fitted(name: str, draw: Draw) -> None:
    fitted = learner(name).fit(*draw(60))
    copy = clone(fitted)

    assert copy.get_params() == fitted.get_params()
    assert not [k for k in vars(copy) if k.endswith("_")]


@every_learner
def test_graph_answers_as_numpy_does(name: str, draw: Draw, run_graph: Callable[..., list[np.ndarray]]) -> None:
    X, targets = draw(300, tried=0.7)
    fitted = learner(name).fit(X, targets)
    model = FittedModel(
        name, fitted, Calibration.fit(fitted.predict(X), targets), Novelty.crossfit(X.tokens, np.arange(len(X)) % 5)[0]
    )

    def build(graph: Graph, x: InputNames) -> list[str]:
        outputs, novelty = model.to_graph(graph, x)
        return [*outputs, novelty]

    X_new, _ = draw(200, seed=1)
    got, expected = run_graph(build, X_new), model.predict(X_new)

    np.testing.assert_allclose(got[0], expected.p_meets, atol=1e-4)
    np.testing.assert_allclose(got[1], expected.quality, atol=1e-4)
    np.testing.assert_allclose(got[2], expected.output_tokens, rtol=1e-3)
    np.testing.assert_allclose(got[3], expected.novelty, rtol=1e-3)


def test_unknown_learner_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="choose from logistic, knn, mlp, ngram, ordinal, pooled"):
        make_learner("forest")


def test_pooled_is_the_mean_of_its_two(draw: Draw) -> None:
    X, targets = draw(300)
    settings = {"ngram": {"alpha": 3.0}, "ordinal": {"alpha": 5.0}}
    both = [make_learner(name, **params).fit(X, targets).predict(X) for name, params in settings.items()]
    found = make_learner("pooled", base_params=settings).fit(X, targets).predict(X)

    np.testing.assert_allclose(expit(found.quality), np.mean([expit(s.quality) for s in both], axis=0), atol=1e-9)
    np.testing.assert_allclose(found.log_tokens, np.mean([s.log_tokens for s in both], axis=0), atol=1e-9)


def test_pooled_tunes_each_of_its_two(draw: Draw) -> None:
    X, targets = draw(300)
    tuned = make_learner("pooled").tune(X, targets, np.arange(300) % 3)
    alone = {
        name: make_learner(name).tune(X, targets, np.arange(300) % 3).get_params() for name in ("ngram", "ordinal")
    }

    assert tuned.get_params()["base_params"] == alone


def test_unknown_parameter_is_an_error() -> None:
    with pytest.raises(InputError, match=r"'knn' has no parameter \['C'\]"):
        make_learner("knn", C=1)


def test_random_state_is_accepted_by_learners_that_have_none() -> None:
    assert make_learner("knn", random_state=1, on_epoch=None, k=3).get_params() == {"k": 3}  # type: ignore[attr-defined]


def test_logistic_recovers_the_mean_of_fractional_qualities(draw: Draw) -> None:
    X, targets = draw(2000)
    scores = learner("logistic", C_quality=10).fit(X, targets).predict(X)

    assert expit(scores.quality).mean(axis=0) == pytest.approx(targets.quality.mean(axis=0), abs=1e-3)


def test_logistic_recovers_a_planted_line_from_fractional_qualities() -> None:
    X = dense(np.random.default_rng(0).normal(size=(3000, 2)))
    quality = expit(1.5 * X.features[:, [0]].astype(np.float64) - 0.5)
    targets = Targets((quality > 0.5).astype(float), quality, np.ones_like(quality), quality)
    fitted = learner("logistic", C_quality=1e4).fit(X, targets)

    assert fitted.coef_[:, 1] == pytest.approx([1.5, 0], abs=0.01)
    assert fitted.intercept_[1] == pytest.approx(-0.5, abs=0.01)


def test_logistic_expects_as_many_tokens_as_there_were(draw: Draw) -> None:
    X, targets = draw(1000)
    expected = np.exp(learner("logistic").fit(X, targets).predict(X).log_tokens)

    assert expected.sum(axis=0) == pytest.approx(targets.output_tokens.sum(axis=0), rel=1e-3)


def test_logistic_tunes_to_stronger_regularisation_on_noise_than_on_signal(draw: Draw) -> None:
    folds = np.arange(300) % 5
    noise, signal = (
        make_learner("logistic").tune(*draw(300, strength=strength, tried=0.9), folds).C  # type: ignore[attr-defined]
        for strength in (0, 4)
    )

    # On average: for a single tier, noise may look like signal.
    assert np.log(noise).mean() < np.log(signal).mean() - 1


def test_logistic_takes_regularisation_per_tier(draw: Draw) -> None:
    X, targets = draw(300)
    spread = np.ptp(learner("logistic", C=[1e-6, 1.0, 1.0]).fit(X, targets).predict(X).meets, axis=0)

    assert spread[0] < 0.1 < 1 < spread[1]


def test_logistic_gives_a_constant_column_no_weight(draw: Draw) -> None:
    X, targets = draw(200)
    X.features[:, 3] = 1.0
    shifted = dense(X.features.copy())
    shifted.features[:, 3] = 2.0
    fitted = learner("logistic").fit(X, targets)

    assert np.allclose(fitted.predict(X).meets, fitted.predict(shifted).meets, atol=1e-3)


def test_knn_is_continuous_in_the_query(draw: Draw) -> None:
    # Along a line between two prompts the neighbours change, one by one; no prediction may jump.
    X, targets = draw(300)
    first, second = X.features[:2]
    line = dense(first + np.linspace(0, 1, 4001)[:, None] * (second - first))
    means = expit(learner("knn", k=8).fit(X, targets).predict(line).meets)

    assert np.abs(np.diff(means, axis=0)).max() < 0.02


def test_knn_without_neighbours_that_tried_a_tier_falls_back_to_the_tiers_mean() -> None:
    near, far = np.tile([1.0, 0.0, 1.0], (20, 1)), np.tile([0.0, 1.0, 1.0], (20, 1))
    rng = np.random.default_rng(0)
    X = dense(np.vstack([near, far]) + 0.01 * rng.normal(size=(40, 3)))
    meets = np.concatenate([np.full(20, np.nan), np.tile([1.0, 0.0], 10)])[:, None]
    scores = learner("knn", k=10).fit(X, Targets(meets, meets, meets, meets)).predict(X[:20])

    assert expit(scores.meets) == pytest.approx(np.full((20, 1), 0.5), abs=1e-5)


def test_knn_does_not_look_at_the_length(draw: Draw) -> None:
    X, targets = draw(100)
    longer = dense(X.features.copy())
    longer.features[:, -1] += 5
    fitted = learner("knn").fit(X, targets)

    assert equal(fitted.predict(X), fitted.predict(longer))


def test_knn_takes_more_neighbours_than_there_are(draw: Draw) -> None:
    X, targets = draw(10)

    assert np.isfinite(learner("knn", k=256).fit(X, targets).predict(X).meets).all()


def test_mlp_stops_early_on_noise(draw: Draw) -> None:
    epochs: list[int] = []
    learner("mlp", max_epochs=200, patience=2, on_epoch=lambda epoch, _: epochs.append(epoch)).fit(
        *draw(200, strength=0)
    )

    assert len(epochs) < 100


def test_mlp_reports_every_epoch_with_its_losses(draw: Draw) -> None:
    seen: list[tuple[int, set[str]]] = []
    learner("mlp", max_epochs=3, on_epoch=lambda epoch, losses: seen.append((epoch, set(losses)))).fit(*draw(60))

    assert seen == [(i, {"train_loss", "validation_loss"}) for i in range(3)]


def test_mlp_leaves_torchs_global_random_state_alone(draw: Draw) -> None:
    import torch

    before = torch.get_rng_state()
    learner("mlp", max_epochs=1).fit(*draw(60))

    assert torch.equal(torch.get_rng_state(), before)


def test_mlp_depends_on_its_own_random_state(draw: Draw) -> None:
    X, targets = draw(60)
    first, second = (learner("mlp", max_epochs=1, random_state=r).fit(X, targets).predict(X) for r in (0, 1))

    assert not equal(first, second)


def test_ngram_learns_from_words_what_the_features_do_not_hold(draw: Draw) -> None:
    X, targets = draw(800)
    X_new, new = draw(400, seed=1)
    blind, blind_new = (Inputs(np.zeros_like(x.features), x.tokens) for x in (X, X_new))
    scores = learner("ngram").fit(blind, targets).predict(blind_new)

    assert min(roc_auc_score(new.meets[:, t], scores.meets[:, t]) for t in range(3)) > 0.75


def test_ngram_expects_words_never_seen_to_say_nothing(draw: Draw) -> None:
    X, targets = draw(300)
    fitted = learner("ngram").fit(X, targets)
    features = np.tile(X.features.mean(axis=0), (2, 1))
    strange = fitted.predict(Inputs(features, [np.array([20_001, 20_002]), np.empty(0, np.int64)]))

    assert strange.meets[0] == pytest.approx(strange.meets[1], abs=1e-6)


def test_ngram_tunes_to_stronger_regularisation_on_noise_than_on_signal(draw: Draw) -> None:
    def tuned(strength: float) -> float:
        X, targets = draw(400, strength=strength)
        outcomes = dataclasses.replace(targets, quality=targets.meets)
        return make_learner("ngram").tune(X, outcomes, np.arange(400) % 5).alpha  # type: ignore[attr-defined,no-any-return]

    assert tuned(0) > tuned(4)


def test_stack_gives_a_learner_of_noise_little_weight(draw: Draw) -> None:
    # The words hold the signal, and the features none.
    X, targets = draw(600)
    blind = Inputs(np.random.default_rng(1).normal(size=X.features.shape).astype(np.float32), X.tokens)
    outcomes = dataclasses.replace(targets, quality=targets.meets)
    tuned = make_learner("stack", bases=("ngram", "logistic")).tune(blind, outcomes, np.arange(600) % 5)
    ngram, logistic = tuned.weights["quality"]  # type: ignore[attr-defined]

    assert logistic < 0.3 < 0.7 < ngram


def test_stack_shrinks_to_the_means_where_there_is_nothing_to_learn(draw: Draw) -> None:
    X, targets = draw(600, strength=0)
    outcomes = dataclasses.replace(targets, quality=targets.meets)
    tuned = make_learner("stack", bases=("logistic", "ngram")).tune(X, outcomes, np.arange(600) % 5)

    assert sum(tuned.weights["quality"]) < 0.7  # type: ignore[attr-defined]


def test_distilled_student_is_near_its_teacher(draw: Draw) -> None:
    X, targets = draw(800)
    X_new, _ = draw(400, seed=1)
    teacher = learner("logistic").fit(X, targets).predict(X_new)
    student = learner("distilled").fit(X, targets).predict(X_new)

    assert min(np.corrcoef(teacher.meets[:, t], student.meets[:, t])[0, 1] for t in range(3)) > 0.9


def test_distilled_learns_from_prompts_that_nobody_answered(draw: Draw) -> None:
    # A word for the same thing that occurs on prompts without answers only: the teacher, who goes by the features, knows.
    X, targets = draw(800)
    X_new, new = draw(400, seed=1)
    answered = np.arange(800) % 2 == 0
    outcomes = Targets(*(np.where(answered[:, None], getattr(targets, f.name), np.nan) for f in fields(targets)))
    renamed = [t if known else t + 100 for t, known in zip(X.tokens, answered, strict=True)]
    fitted = learner("distilled").fit(Inputs(X.features, renamed), outcomes)
    blind = Inputs(np.zeros_like(X_new.features), [t + 100 for t in X_new.tokens])

    assert roc_auc_score(new.meets[:, 0], fitted.predict(blind).meets[:, 0]) > 0.7


def test_constant_says_the_same_of_all_prompts(draw: Draw) -> None:
    X, targets = draw(300)
    scores = learner("constant").fit(X, targets).predict(X)

    assert np.ptp(scores.quality, axis=0).max() == 0
    assert expit(scores.meets[0]) == pytest.approx(targets.meets.mean(axis=0), abs=0.01)
