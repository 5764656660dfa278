"""How a cascade goes on: probes where two cheap answers tell more than one, none where they don't."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from router_ml.core.acceptance import seen_states
from router_ml.core.probes import Probes
from router_ml.evaluation.cascade import simulate_cascade
from router_ml.evaluation.metrics import frontier_metrics
from router_ml.learning.escalation import choose_escalation, choose_probes

N, COST = 2000, np.array([0.1, 0.1, 5.0])
Array = NDArray[np.float64]
World = tuple[Array, Array, dict[tuple[int, ...], Array], Array, Array]


def draw(*, agreement: bool, seed: int = 0, n: int = N) -> World:
    """Two cheap tiers that are right on the same prompts, where `agreement` says so, and a dear one that is right on nearly all.

    What is expected after answers is the truth given what can be seen: of one answer nothing, of two whether they agree.
    """
    rng = np.random.default_rng(seed)
    easy = rng.random(n) < 0.6
    cheap = np.where(easy, 0.98, 0.3)
    Q = np.column_stack([rng.random(n) < cheap, rng.random(n) < cheap, rng.random(n) < 0.95]).astype(float)
    means = np.array([0.708, 0.708, 0.95])
    expected = np.broadcast_to(means, Q.shape).copy()
    agree = easy if agreement else rng.random(n) < 0.6
    told = np.where(agree[:, None], [0.98, 0.98, 0.95], [0.3, 0.3, 0.95]) if agreement else expected
    after = {state: told if set(state) >= {0, 1} else expected for state in seen_states(3)}
    return expected, np.broadcast_to(COST, Q.shape).copy(), after, Q, np.broadcast_to(COST, Q.shape).copy()


def test_two_cheap_answers_are_asked_for_where_they_spare_the_dear_one() -> None:
    probes = choose_probes(*draw(agreement=True), caution=1.0)

    # The dear tier is 0.242 better for 4.9 more: the router begins there below a lam of 0.05.
    assert probes.of(0.03, 2) == (0, 1)
    assert probes.of(0.045, 2) == (0, 1)


def test_where_answers_tell_nothing_no_more_are_asked_for() -> None:
    world = draw(agreement=False)
    probes = choose_probes(*world, caution=1.0)
    held = draw(agreement=False, seed=1)
    plain, with_probes = (simulate_cascade(*held, probes=p) for p in (Probes(), probes))

    assert with_probes.n_calls.mean() < plain.n_calls.mean() + 0.1


def test_on_other_prompts_they_close_more_of_the_gap() -> None:
    escalation = choose_escalation(*draw(agreement=True))
    held = draw(agreement=True, seed=1)
    plain = simulate_cascade(*held)
    found = simulate_cascade(*held, caution=escalation.caution, probes=escalation.probes)

    gained, without = (frontier_metrics(p, *held[3:]).gap_closed for p in (found, plain))
    assert gained > without + 0.2


def test_a_few_prompts_decide_nothing() -> None:
    assert not any(any(row) for row in choose_probes(*draw(agreement=True, n=49), caution=1.0).tiers)


def test_the_dearest_tier_is_no_probe() -> None:
    probes = choose_probes(*draw(agreement=True), caution=1.0)

    assert not any(2 in plan for row in probes.tiers for plan in row)


def test_rows_that_are_the_same_are_one() -> None:
    probes = choose_probes(*draw(agreement=True), caution=1.0)

    assert all(a != b for a, b in zip(probes.tiers, probes.tiers[1:], strict=False))
    assert list(probes.lams) == sorted(probes.lams)


@pytest.mark.parametrize("agreement", [True, False])
def test_the_same_input_gives_the_same(agreement: bool) -> None:
    assert choose_escalation(*draw(agreement=agreement)) == choose_escalation(*draw(agreement=agreement))


def test_where_all_cost_the_same_there_is_nothing_to_choose() -> None:
    expected, cost, after, Q, C = draw(agreement=True)

    assert choose_escalation(expected, cost * 0 + 1, after, Q, C * 0 + 1) == (1.0, Probes())
