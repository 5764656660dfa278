"""A planted world of features and outcomes, and a run of one's own graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from router_ml.learning.graph import Graph
from router_ml.learning.targets import Targets, expit

N_FEATURES = 13


class World(NamedTuple):
    """Features [n, 13] (the last is the length) and what came of three tiers."""

    X: NDArray[np.float32]
    targets: Targets


@pytest.fixture
def draw() -> Callable[..., World]:
    """Draws n prompts; the first feature, times `strength`, decides on which prompts the tiers do well."""

    def draw(n: int, *, seed: int = 0, strength: float = 4.0, tried: float = 1.0) -> World:
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
        p = expit(strength * X[:, :1] + np.array([-1.0, 0.0, 1.0]))
        meets = (rng.random((n, 3)) < p).astype(np.float64)
        tokens = rng.poisson(np.exp(4 + 0.5 * X[:, [1]] + np.array([0.0, 0.3, 0.6]))).astype(np.float64)
        masked = rng.random((n, 3)) >= tried
        cells = [np.where(masked, np.nan, v) for v in (meets, 0.1 + 0.8 * p, tokens, 1e-6 * (1 + tokens) * [1, 4, 20])]
        return World(X, Targets(*cells))

    return draw


@pytest.fixture
def run_graph() -> Callable[..., list[NDArray[np.float32]]]:
    """Builds a graph from features [n, d] with a function (graph, x) -> names of values [n, T] and, last, one [n]; runs it."""

    def run_graph(build: Callable[[Graph, str], list[str]], X: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        graph = Graph()
        values = build(graph, graph.input("x", np.float32, ["n", X.shape[1]]))
        for i, value in enumerate(values):
            # Only the novelty, always last, has one axis.
            axes = 1 if i == len(values) - 1 else 2
            graph.output(value, f"out{i}", [f"axis{i}_{a}" for a in range(axes)])
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(graph.model().SerializeToString(), options)
        outputs: list[NDArray[np.float32]] = session.run(None, {"x": X})
        return outputs

    return run_graph
