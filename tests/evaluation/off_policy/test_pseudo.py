"""Pseudo-outcomes: right on average for every policy where the propensities are right, or else the predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from router_ml.errors import InputError
from router_ml.evaluation.off_policy import pseudo_outcomes

NAN = float("nan")


def test_by_hand() -> None:
    # Tried with a chance of 1 in 4 and 0.2 under what was expected: 0.6 - 4 x 0.2. What wasn't tried stays as expected.
    found = pseudo_outcomes([[0.4, NAN], [NAN, 1.0]], [[0.25, NAN], [0.5, 0.5]], [[0.6, 0.7], [0.1, 0.75]])
    np.testing.assert_allclose(found, [[-0.2, 0.7], [0.1, 1.25]])


SHAPE = st.tuples(st.integers(1, 6), st.integers(2, 4))
UNIT = st.floats(0, 1)


@given(SHAPE.flatmap(lambda s: st.tuples(*[hnp.arrays(np.float64, s, elements=UNIT)] * 2)))
def test_a_complete_table_is_itself_whatever_was_predicted(tables: tuple[Any, Any]) -> None:
    observed, predicted = tables
    np.testing.assert_allclose(pseudo_outcomes(observed, np.ones_like(observed), predicted), observed, atol=1e-12)


@given(SHAPE.flatmap(lambda s: hnp.arrays(np.float64, s, elements=UNIT)))
def test_where_nothing_was_tried_the_predictions_stand(predicted: Any) -> None:
    nothing = np.full_like(predicted, NAN)
    np.testing.assert_array_equal(pseudo_outcomes(nothing, nothing, predicted), predicted)


N = 1500
X = (np.arange(N) + 0.5) / N
CHANCE = np.stack([0.9 - 0.7 * X, 0.95 - 0.4 * X, 0.9 - 0.1 * X], axis=1)
WRONG = CHANCE + np.array([0.2, -0.2, 0.1])
BEHAVIOUR = np.stack([0.8 - 0.6 * X, np.full(N, 0.1), 0.1 + 0.6 * X], axis=1)
POLICIES = {
    "cheapest": np.zeros(N, dtype=int),
    "dearest": np.full(N, 2),
    "by the prompt": np.digitize(X, [0.3, 0.7]),
    "against the log": np.digitize(1 - X, [0.3, 0.7]),
}


def errors(propensity: Any, predicted: Any, *, several: bool = False) -> dict[str, np.ndarray]:
    """Of each policy's estimated value, over 400 logs of `N` prompts by `BEHAVIOUR`."""
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in POLICIES}
    for _ in range(400):
        outcome = (rng.random((N, 3)) < CHANCE).astype(float)
        if several:
            tried = rng.random((N, 3)) < BEHAVIOUR
        else:
            tried = (rng.random(N)[:, None] > BEHAVIOUR.cumsum(axis=1)[:, :2]).sum(axis=1)[:, None] == np.arange(3)
        table = pseudo_outcomes(np.where(tried, outcome, NAN), propensity, predicted)
        for name, chosen in POLICIES.items():
            found[name].append(float((table - CHANCE)[np.arange(N), chosen].mean()))
    return {name: np.array(values) for name, values in found.items()}


def bias(values: np.ndarray) -> float:
    """The mean error in its standard errors."""
    return float(abs(values.mean()) / (values.std() / np.sqrt(len(values))))


@pytest.mark.parametrize(
    ("propensity", "predicted", "several"),
    [
        (BEHAVIOUR, WRONG, False),
        (BEHAVIOUR, np.full((N, 3), 0.5), True),
        (np.full((N, 3), 1 / 3), CHANCE, False),
        (np.full((N, 3), 0.05), CHANCE, True),
    ],
    ids=["right propensities", "right propensities, several answers", "right predictions", "small propensities"],
)
def test_the_mean_over_a_policys_choices_is_unbiased_where_one_of_the_two_is_right(
    propensity: Any, predicted: Any, several: bool
) -> None:
    for values in errors(propensity, predicted, several=several).values():
        assert bias(values) < 3.5


def test_where_both_are_wrong_it_is_not() -> None:
    found = errors(np.full((N, 3), 1 / 3), WRONG)
    assert min(bias(found["cheapest"]), bias(found["by the prompt"])) > 20


@pytest.mark.parametrize(
    ("observed", "propensity", "predicted", "says"),
    [
        ([[1.0, NAN]], [[0.0, 0.5]], [[0.5, 0.5]], r"outside \(0, 1\]"),
        ([[1.0, NAN]], [[1.5, 0.5]], [[0.5, 0.5]], r"outside \(0, 1\]"),
        ([[1.0, NAN]], [[NAN, 0.5]], [[0.5, 0.5]], "NaN"),
        ([[1.0, NAN]], [[0.5, 0.5]], [[0.5, NAN]], "predicted holds 1 NaN"),
        ([[1.0, NAN]], [[0.5]], [[0.5, 0.5]], r"propensity \(1, 1\); needed \(1, 2\)"),
        ([[1.0]], [[0.5, 0.5]], [[0.5, 0.5]], r"observed has shape \(1, 1\)"),
    ],
)
def test_mistakes_are_named(observed: Any, propensity: Any, predicted: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        pseudo_outcomes(observed, propensity, predicted)
