"""A planted world of features and outcomes, and a run of one's own graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from router_ml.graph.builder import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.targets import Targets, expit

N_FEATURES = 13


class World(NamedTuple):
    """13 features (the last is the length) and some tokens of n prompts, and what came of three tiers."""

    X: Inputs
    targets: Targets


@pytest.fixture
def draw() -> Callable[..., World]:
    """Draws n prompts; the first feature, times `strength`, decides on which prompts the tiers do well."""

    def draw(n: int, *, seed: int = 0, strength: float = 4.0, tried: float = 1.0) -> World:
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
        p = expit(strength * X[:, :1] + np.array([-1.0, 0.0, 1.0]))
        meets = (rng.random((n, 3)) < p).astype(np.float64)
        n_tokens = rng.poisson(np.exp(4 + 0.5 * X[:, [1]] + np.array([0.0, 0.3, 0.6]))).astype(np.float64)
        masked = rng.random((n, 3)) >= tried
        cells = [
            np.where(masked, np.nan, v) for v in (meets, 0.1 + 0.8 * p, n_tokens, 1e-6 * (1 + n_tokens) * [1, 4, 20])
        ]
        # Tokens 0 to 9 for each prompt, and one more of 10 to 17 by what decides: a text says the same in words.
        level = np.clip(np.round(2 * X[:, 0]) + 14, 10, 17)
        tokens = [np.append(rng.integers(0, 10, rng.integers(0, 12)), n).astype(np.int32) for n in level]
        return World(Inputs(X, tokens), Targets(*cells))

    return draw


@pytest.fixture
def run_graph() -> Callable[..., list[NDArray[np.float32]]]:
    """Builds a graph with a function (graph, x) -> names of values [n, T] and, last, one [n]; runs it on inputs."""

    def run_graph(build: Callable[[Graph, InputNames], list[str]], X: Inputs) -> list[NDArray[np.float32]]:
        graph = Graph()
        names = InputNames(
            graph.input("x", np.float32, ["n", X.features.shape[1]]),
            graph.input("input_ids", np.int64, ["n", "length"]),
            graph.input("token_weights", np.float32, ["n", 1, "length"]),
        )
        values = build(graph, names)
        for i, value in enumerate(values):
            # Only the novelty, always last, has one axis.
            axes = 1 if i == len(values) - 1 else 2
            graph.output(value, f"out{i}", [f"axis{i}_{a}" for a in range(axes)])
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(graph.model().SerializeToString(), options)
        lengths = np.array([len(t) for t in X.tokens])
        is_token = np.arange(max(1, lengths.max())) < lengths[:, None]
        input_ids = np.zeros(is_token.shape, dtype=np.int64)
        input_ids[is_token] = np.concatenate(X.tokens)
        weights = (is_token / np.maximum(lengths, 1)[:, None]).astype(np.float32)[:, None, :]
        feed = {"x": X.features, "input_ids": input_ids, "token_weights": weights}
        outputs: list[NDArray[np.float32]] = session.run(None, feed)
        return outputs

    return run_graph
