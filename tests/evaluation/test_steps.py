from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router_ml.evaluation.steps import upward_steps

tables = arrays(np.float64, st.tuples(st.integers(1, 8), st.just(4)), elements=st.floats(0, 1, allow_subnormal=False))


def test_steps_climb_the_hull_of_each_prompt_steepest_first():
    quality = np.array([[0.1, 0.2, 0.9], [0.0, 0.6, 0.8], [0.7, 0.5, 0.7]])
    cost = np.array([[1.0, 2.0, 3.0]] * 3)
    steps = upward_steps(quality, cost)
    assert steps.start.tolist() == [0, 0, 0]
    # Prompt 0 skips its middle tier (.8 for 2 USD); prompt 1 takes both steps; prompt 2 has nothing to gain.
    assert steps.prompt.tolist() == [1, 0, 1]
    np.testing.assert_allclose(steps.slope, [0.6, 0.4, 0.2])
    np.testing.assert_allclose(steps.cost, [1.0, 2.0, 1.0])
    np.testing.assert_allclose(steps.quality, [0.6, 0.8, 0.2])


def test_a_prompt_starts_at_the_best_of_its_equally_cheap_tiers():
    assert upward_steps(np.array([[0.2, 0.5, 0.4]]), np.array([[1.0, 1.0, 2.0]])).start.tolist() == [1]


@settings(max_examples=50)
@given(tables, tables, st.floats(0.01, 10))
def test_the_steps_steeper_than_lam_lead_to_the_best_utility_at_lam(quality, cost, lam):
    cost = np.resize(cost, quality.shape)
    steps = upward_steps(quality, cost)
    rows, taken = np.arange(len(quality)), steps.slope > lam
    reached = (quality - lam * cost)[rows, steps.start].sum() + (steps.quality - lam * steps.cost)[taken].sum()
    np.testing.assert_allclose(reached, (quality - lam * cost).max(axis=1).sum(), atol=1e-9)
