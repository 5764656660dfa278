"""A worked example whose figures are computed by hand in the tests, and a world to draw prompts from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

Table = NDArray[np.float64]


class World(NamedTuple):
    """Observed quality and cost [n, 3], and a router's predictions of both."""

    quality: Table
    cost: Table
    quality_hat: Table
    cost_hat: Table


@pytest.fixture
def example() -> tuple[Table, Table, Table]:
    """Four prompts, two tiers at 1 and 4 USD; the third table is a router's predicted quality.

    The dear tier helps on prompts 1 and 2. The router expects it to help most on 1, then 3, then 2, then 0.
    """
    quality = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    cost = np.tile([1.0, 4.0], (4, 1))
    predicted = np.array([[0.5, 0.6], [0.1, 0.9], [0.3, 0.6], [0.2, 0.7]])
    return quality, cost, predicted


@pytest.fixture
def draw() -> Callable[[np.random.Generator, int, float], World]:
    """Draws n prompts; `skill` mixes tier means (0: knows nothing) with the true chance of a good answer (1)."""

    def draw(rng: np.random.Generator, n: int, skill: float) -> World:
        hard = rng.random(n)[:, None]
        means = np.array([0.5, 0.7, 0.85])
        chance = np.clip(means + (0.5 - hard) * np.array([0.9, 0.6, 0.2]), 0, 1)
        prices = np.array([1.0, 3.0, 10.0]) * 1e-3
        cost = prices * rng.lognormal(0, 0.3, (n, 1))
        noise = 0.02 * rng.normal(size=(n, 3))
        predicted = np.clip(skill * chance + (1 - skill) * means + noise, 0, 1)
        return World((rng.random((n, 3)) < chance).astype(float), cost, predicted, np.tile(prices, (n, 1)))

    return draw
