"""The learning curve: sizes, and that more prompts help where there is something to learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from router_ml.learning.curve import CurvePoint, learning_curve
from router_ml.learning.inputs import Inputs
from router_ml.learning.learners import make_learner
from router_ml.learning.targets import Targets

PRICES = np.array([1e-4, 4e-4, 2e-3])
Draw = Callable[..., tuple[Inputs, Targets]]


def curve(n: int, draw: Draw, **options: float) -> tuple[CurvePoint, ...]:
    X, targets = draw(n, **options)
    priced = dataclasses.replace(targets, cost_usd=np.where(np.isnan(targets.meets), np.nan, PRICES))
    learner = make_learner("knn", k=16)
    return learning_curve(learner, X, priced, np.arange(n) % 5, lambda rows, _: np.tile(PRICES, (len(rows), 1)))


def test_each_size_that_there_are_prompts_for_has_a_point_and_so_have_all(draw: Draw) -> None:
    assert [p.n_prompts for p in curve(600, draw)] == [100, 300, 480]


def test_more_prompts_help_where_there_is_something_to_learn(draw: Draw) -> None:
    points = curve(2000, draw)

    assert points[-1].gap_closed > points[0].gap_closed


def test_the_curve_is_seeded(draw: Draw) -> None:
    assert curve(300, draw) == curve(300, draw)


def test_partial_logs_have_no_curve(draw: Draw) -> None:
    assert curve(300, draw, tried=0.3) == ()


def test_few_prompts_have_no_curve(draw: Draw) -> None:
    assert curve(100, draw) == ()
