from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router_ml.errors import InputError
from router_ml.evaluation import two_tier_metrics

scored = arrays(np.float64, st.tuples(st.integers(1, 20), st.just(3)), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))


def test_a_worked_example():
    # Prompts 1 and 2 gain 1 from the strong tier; the score sends 1, then 3, then 2, then 0.
    found = two_tier_metrics([0.1, 0.9, 0.2, 0.5], [1, 0, 0, 0], [1, 1, 1, 0])
    assert found.strong_share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.pgr.tolist() == [0, 0.5, 0.5, 1, 1]
    # Trapezoids of width 1/4: (.25 + .5 + .75 + 1) / 4.
    assert found.apgr == pytest.approx(0.625)
    assert found.cpt_50 == 0.25
    assert found.cpt_80 == 0.75


def test_a_score_that_knows_nothing_is_a_random_router():
    found = two_tier_metrics(np.zeros(4), [1, 0, 0, 0], [1, 1, 1, 0])
    np.testing.assert_allclose(found.pgr, [0, 0.25, 0.5, 0.75, 1])
    assert found.apgr == pytest.approx(0.5)
    assert found.cpt_50 == 0.5


def test_the_best_score_recovers_all_with_the_calls_that_gain():
    found = two_tier_metrics([0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 0])
    assert found.cpt_80 == 0.5
    assert found.apgr == pytest.approx(0.75)


@pytest.mark.parametrize("strong", [[1, 0], [0, 0]])
def test_no_gap_to_recover_gives_nan(strong):
    found = two_tier_metrics([0.1, 0.2], [1, 0], strong)
    assert np.isnan([found.apgr, found.cpt_50, found.cpt_80, *found.pgr]).all()


@settings(max_examples=50)
@given(scored)
def test_pgr_runs_from_0_to_1_and_ties_make_the_order_irrelevant(table):
    score, weak, strong = table.T
    assume(strong.sum() > weak.sum())
    found, turned = two_tier_metrics(score, weak, strong), two_tier_metrics(score[::-1], weak[::-1], strong[::-1])
    assert found.pgr[0] == 0
    assert found.pgr[-1] == 1
    assert 0 < found.cpt_50 <= found.cpt_80 <= 1
    np.testing.assert_allclose(found.pgr, turned.pgr, atol=1e-9)


@pytest.mark.parametrize(
    ("score", "weak", "strong", "message"),
    [
        ([0.1], [1, 0], [1, 0], "q_weak has shape"),
        ([0.1, np.nan], [1, 0], [1, 0], "score holds NaN"),
        ([], [], [], "score has shape"),
        ([0.1, np.inf], [1, 0], [1, 0], "infinity"),
    ],
)
def test_mistakes_are_named(score, weak, strong, message):
    with pytest.raises(InputError, match=message):
        two_tier_metrics(score, weak, strong)
