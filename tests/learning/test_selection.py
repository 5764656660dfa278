"""The search: the better learner wins, the faster one where they are alike, and none where a constant does as well."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest

from router_ml.evaluation.frontier import Sweep, sweep_value
from router_ml.learning.inputs import Inputs
from router_ml.learning.partial import Comparable, design_log
from router_ml.learning.selection import Selection, select_learner
from router_ml.learning.selection import _least_error as least_error
from router_ml.learning.selection import _one_standard_error as one_standard_error
from router_ml.learning.targets import Outputs, Targets

PRICES = np.array([1e-4, 4e-4, 2e-3])
Draw = Callable[..., tuple[Inputs, Targets]]


def cost(outputs: Outputs) -> np.ndarray:
    return np.tile(PRICES, (len(outputs.quality), 1))


def select(X: Inputs, targets: Targets, names: tuple[str, ...], **options: object) -> Selection:
    priced = dataclasses.replace(targets, quality=targets.meets, cost_usd=np.tile(PRICES, (len(X), 1)))
    folds = np.arange(len(X)) % 3
    design = design_log(priced.quality, np.full_like(priced.quality, np.nan), X.features, folds, random_state=0)
    return select_learner(X, priced, folds, cost, design=design, names=names, **options)  # type: ignore[arg-type]


def planted(noise: dict[str, float]) -> tuple[dict[str, Sweep], Comparable]:
    """Sweeps of routers that know the chances up to a noise, the same but for its size, and 1500 prompts' outcomes."""
    rng = np.random.default_rng(0)
    p = np.sort(rng.random((1500, 3)), axis=1)
    quality, price = (rng.random(p.shape) < p).astype(float), np.tile(PRICES, (len(p), 1))
    error = rng.normal(size=p.shape)
    sweeps = {name: sweep_value(p + size * error, price) for name, size in noise.items()}
    return sweeps, Comparable(np.ones(len(p), dtype=bool), quality, price, is_estimated=False)


def test_the_better_one_is_chosen_though_it_is_slower() -> None:
    name, reason = one_standard_error(*planted({"fast": 0.5, "slow": 0.0}), random_state=0)

    assert name == "slow"
    assert reason.startswith("slow: the best in cross-validation, and none faster")


def test_the_faster_one_is_chosen_where_they_can_not_be_told_apart() -> None:
    name, reason = one_standard_error(*planted({"fast": 0.02, "slow": 0.0}), random_state=0)

    assert name == "fast"
    assert reason.startswith("fast: the")


def test_a_gain_that_may_be_noise_is_said_to_be() -> None:
    assert "may be noise" not in one_standard_error(*planted({"fast": 0.0}), random_state=0)[1]
    rng = np.random.default_rng(0)
    quality, price = rng.integers(2, size=(300, 3)).astype(float), np.tile(PRICES, (300, 1))
    table = Comparable(np.ones(300, dtype=bool), quality, price, is_estimated=False)
    reasons = [
        one_standard_error({"guess": sweep_value(rng.random((300, 3)), price)}, table, random_state=0)
        for _ in range(10)
    ]
    taken = [reason for name, reason in reasons if name]
    assert taken
    assert sum("may be noise" in reason for reason in taken) >= len(taken) - 1


def test_a_constant_is_chosen_where_there_is_nothing_to_learn(draw: Draw) -> None:
    X, targets = draw(600, strength=0)
    chosen = select(X, targets, ("knn",))

    assert chosen.fitted.model.name == "constant"
    assert not chosen.beats_constant
    assert "no learner beats" in chosen.reason


def test_all_that_were_tried_are_named(draw: Draw) -> None:
    X, targets = draw(300)

    assert [c.name for c in select(X, targets, ("logistic", "knn")).candidates] == ["logistic", "knn"]


def test_no_more_are_tried_once_the_time_is_spent(draw: Draw) -> None:
    X, targets = draw(300)
    chosen = select(X, targets, ("logistic", "knn"), max_seconds=0.0)

    assert [c.name for c in chosen.candidates] == ["logistic"]
    assert chosen.reason.endswith("Not tried, for want of time: knn.")


def test_a_slow_machine_tries_as_many_as_a_fast_one(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count(0, 3600)
    monkeypatch.setattr("router_ml.learning.selection.time.monotonic", lambda: float(next(seconds)))

    assert [c.name for c in select(*draw(300), ("logistic", "knn")).candidates] == ["logistic", "knn"]


def thinned(targets: Targets) -> Targets:
    """One tier a prompt, dealt at random."""
    one_each = np.random.default_rng(0).integers(0, 3, len(targets.meets))[:, None] == np.arange(3)
    names = ("meets", "quality", "output_tokens", "cost_usd")
    return Targets(*(np.where(one_each, getattr(targets, name), np.nan) for name in names))


def test_partial_logs_are_compared_on_pseudo_outcomes(draw: Draw) -> None:
    X, targets = draw(1500)
    # The cheap tier does well on every other kind of prompt, the dearest on all.
    x = X.features[:, :1] / X.features[:, 0].std()
    chance = 1 / (1 + np.exp(-np.hstack([3 * x, 1 + 2 * x, 0 * x + 3])))
    met = (np.random.default_rng(1).random(chance.shape) < chance).astype(float)
    chosen = select(X, thinned(dataclasses.replace(targets, meets=met, quality=met)), ("constant", "logistic"))

    assert chosen.fitted.model.name == "logistic"
    assert "by which partial logs are compared" in chosen.reason


def test_few_prompts_take_the_first_candidate_and_say_so(draw: Draw) -> None:
    X, targets = draw(39)
    chosen = select(X, thinned(targets), ("ngram", "logistic"))

    assert (chosen.fitted.model.name, chosen.candidates) == ("ngram", ())
    assert "too few" in chosen.reason


def test_few_prompts_that_put_a_learner_under_the_single_tiers_take_a_constant(draw: Draw) -> None:
    chosen = [select(*draw(39, seed=seed, strength=0), ("knn",)) for seed in range(10)]
    constant = [c for c in chosen if c.fitted.model.name == "constant"]

    # Of noise a learner is under them about as often as above.
    assert len(constant) >= 2
    assert not any(c.beats_constant for c in constant)
    assert all("only 39 prompts" in c.reason for c in chosen)


def test_the_search_is_seeded(draw: Draw) -> None:
    X, targets = draw(300)
    first, second = (select(X, targets, ("logistic", "ngram"), random_state=3) for _ in range(2))

    assert first.reason == second.reason
    np.testing.assert_array_equal(first.fitted.outputs.quality, second.fitted.outputs.quality)


@pytest.mark.parametrize("names", [("logistic",), ("logistic", "ngram")])
def test_candidates_are_reported_as_they_come(draw: Draw, names: tuple[str, ...]) -> None:
    from contextlib import contextmanager

    seen: list[str] = []

    @contextmanager
    def on_candidate(name: str):  # type: ignore[no-untyped-def]
        yield lambda candidate: seen.append(candidate.name)

    X, targets = draw(300)
    select(X, targets, names, on_candidate=on_candidate)  # type: ignore[arg-type]

    assert seen == list(names)


def test_each_fold_of_each_candidate_is_told_of(draw: Draw) -> None:
    X, targets = draw(300)
    folds: list[int] = []
    select(X, targets, ("constant", "knn"), on_fold=lambda: folds.append(1))
    assert len(folds) == 2 * 3


def test_a_constant_is_judged_out_of_sample_too() -> None:
    # Nothing but noise, and a learner that expects the true means. A mean of the same rows would never be the worse of the two.
    rng, chosen = np.random.default_rng(0), 0
    for _ in range(100):
        noise = rng.normal(size=(40, 2))
        table = Comparable(np.ones(40, dtype=bool), noise, np.ones((40, 2)), is_estimated=True)
        chosen += least_error({"ngram": np.zeros((40, 2))}, table)[0] == "ngram"
    # mean^2 < about 2 variance / n: 84 % of the time.
    assert 70 < chosen < 95
