"""A world whose policies have a known value, and a log of it by an epsilon-greedy policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from router_ml.evaluation.off_policy import Logged

Table = NDArray[np.float64]


class World(NamedTuple):
    """A log, the policy to judge, reward models right and wrong, and the logging policy [n, 3]."""

    logged: Logged
    pi: Table
    right: Table
    wrong: Table
    behaviour: Table
    features: Table


def chances(x: Table) -> Table:
    return np.stack([0.9 - 0.7 * x, 0.95 - 0.4 * x, 0.9 - 0.1 * x], axis=1)


def target(x: Table) -> NDArray[np.intp]:
    return np.digitize(x, [0.3, 0.7])


@pytest.fixture
def truth() -> float:
    """The mean reward of the target policy."""
    x = (np.arange(100_000) + 0.5) / 100_000
    return float(chances(x)[np.arange(len(x)), target(x)].mean())


@pytest.fixture
def draw_log() -> Callable[..., World]:
    """Draws n rows; the logging policy serves tiers 0 and 1 and tries all three with probability `epsilon`."""

    def draw(rng: np.random.Generator, n: int, epsilon: float = 0.3) -> World:
        x, rows = rng.random(n), np.arange(n)
        reward = (rng.random((n, 3)) < chances(x)).astype(float)
        behaviour = np.full((n, 3), epsilon / 3)
        behaviour[rows, (x > 0.4).astype(int)] += 1 - epsilon
        action = (rng.random(n)[:, None] > behaviour.cumsum(axis=1)[:, :2]).sum(axis=1)
        logged = Logged(action, reward[rows, action], behaviour[rows, action])
        wrong = chances(x) + 0.15 * np.array([1.0, -1.0, 1.0])
        return World(
            logged, np.eye(3)[target(x)], chances(x), wrong, behaviour, np.stack([x > 0.4, x], axis=1).astype(float)
        )

    return draw
