"""Export: the artifact answers as the trained model does, or there is none; and the threshold it carries."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from router_ml import Router
from router_ml.core.menu import OperatingPoint
from router_ml.core.policy import Threshold
from router_ml.datasets import sample_ladder, simulate
from router_ml.errors import ExportError
from router_ml.export.onnx_export import InputTokens, Parity, check_parity, export
from router_ml.learning.encoders import Encoder, load_encoder
from router_ml.learning.encoders.openai import OpenAIEncoder
from router_ml.learning.inputs import Inputs, encode_inputs
from router_ml.learning.learners import LEARNERS, make_learner
from router_ml.learning.model import FittedModel, crossfit
from router_ml.learning.targets import Targets
from router_ml.traffic.labels import Bar, meets
from router_ml.traffic.observations import Observations, observe

BAR = Bar(0.5)


class World(NamedTuple):
    """Simulated traffic, embedded."""

    encoder: Encoder
    observations: Observations
    X: Inputs
    targets: Targets


@pytest.fixture(scope="module")
def world() -> World:
    encoder = load_encoder("static")
    observations = observe(simulate(300, random_state=0), sample_ladder())
    X = encode_inputs(encoder, observations.prompt.tolist())
    quality = observations.quality
    targets = Targets(meets(quality, sample_ladder(), BAR), quality, observations.output_tokens, observations.cost_usd)
    return World(encoder, observations, X, targets)


def fit(world: World, name: str) -> FittedModel:
    learner: Any = make_learner(name, **({"hidden": 16, "max_epochs": 3} if name == "mlp" else {}))
    learner.tune = lambda *_: learner
    return crossfit(name, learner, world.X, world.targets, np.arange(300) % 2).model


@pytest.fixture(scope="module")
def model(world: World) -> FittedModel:
    return fit(world, "logistic")


def write(path: Path, world: World, model: FittedModel, **changes: Any) -> Parity:
    settings: dict[str, Any] = {
        "encoder": world.encoder,
        "model": model,
        "ladder": sample_ladder(),
        "bar": BAR.to_dict(),
        "reference": sample_ladder().names[-1],
        "reference_cost_usd": 0.01,
        "points": [OperatingPoint("half", Threshold(0.5))],
        "default": "half",
        "input_tokens": InputTokens(np.zeros(3), np.full(3, 0.25)),
        "provenance": {},
        "parity_prompts": world.observations.prompt[:40].tolist(),
    }
    return export(path, **{**settings, **changes})


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in ("distilled", "pooled") else n for n in LEARNERS],
)
def test_artifact_answers_as_the_trained_model_does(world: World, name: str, tmp_path: Path) -> None:
    fitted = fit(world, name)
    write(tmp_path / "router.onnx", world, fitted)
    got = Router.load(tmp_path / "router.onnx").predict(world.observations.prompt.tolist())
    expected = fitted.predict(world.X)

    np.testing.assert_allclose(got.p_meets, expected.p_meets, atol=1e-4)
    np.testing.assert_allclose(got.quality, expected.quality, atol=1e-4)
    np.testing.assert_allclose(got.output_tokens, expected.output_tokens, rtol=1e-3)
    np.testing.assert_allclose(got.novelty, expected.novelty, rtol=1e-2)


def test_parity_is_reported(world: World, model: FittedModel, tmp_path: Path) -> None:
    parity = write(tmp_path / "router.onnx", world, model)

    assert (parity.n_prompts, parity.agreement) == (40, 1.0)
    assert parity.max_difference <= 1e-4


def test_artifact_carries_bar_learner_and_encoder(world: World, model: FittedModel, tmp_path: Path) -> None:
    write(tmp_path / "router.onnx", world, model)
    metadata = Router.load(tmp_path / "router.onnx").metadata

    assert metadata.bar == BAR.to_dict()
    assert metadata.learner == {"name": "logistic", "params": model.params}
    assert metadata.encoder == {"name": "static", "sha256": world.encoder.fingerprint}


def test_same_input_gives_the_same_bytes(world: World, model: FittedModel, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        write(tmp_path / name, world, model)

    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_encoder_over_the_network_is_refused_with_the_reason(world: World, model: FittedModel, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'openai:m' embeds over the network"):
        write(tmp_path / "router.onnx", world, model, encoder=OpenAIEncoder("m"))


class Contradicting(FittedModel):
    """Its graph is the trained model's, and its own predictions are a little off."""

    def predict(self, X: Inputs) -> Any:
        # Named in full: a dataclass with slots is remade, which breaks super().
        outputs = FittedModel.predict(self, X)
        return dataclasses.replace(outputs, p_meets=outputs.p_meets + 0.001)


def contradicting(model: FittedModel) -> Contradicting:
    return Contradicting(model.name, model.learner, model.calibration, model.novelty)


def test_graph_that_disagrees_fails_the_export(world: World, model: FittedModel, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"p_meets differs by up to 0\.001"):
        write(tmp_path / "router.onnx", world, contradicting(model))


def test_failed_export_leaves_nothing_behind(world: World, model: FittedModel, tmp_path: Path) -> None:
    with pytest.raises(ExportError):
        write(tmp_path / "router.onnx", world, contradicting(model))

    assert list(tmp_path.iterdir()) == []


def test_failed_export_leaves_the_artifact_that_was_there(world: World, model: FittedModel, tmp_path: Path) -> None:
    path = tmp_path / "router.onnx"
    path.write_bytes(b"earlier")
    with pytest.raises(ExportError):
        write(path, world, contradicting(model))

    assert path.read_bytes() == b"earlier"


def test_parity_with_a_model_of_another_calibration_fails(world: World, model: FittedModel, tmp_path: Path) -> None:
    write(tmp_path / "router.onnx", world, model)
    calibration = dataclasses.replace(model.calibration, meets=model.calibration.meets + 0.1)
    router, other = Router.load(tmp_path / "router.onnx"), dataclasses.replace(model, calibration=calibration)

    with pytest.raises(ExportError, match="doesn't answer as the trained model does"):
        check_parity(router, world.encoder, other, world.observations.prompt[:40].tolist())


def test_parity_with_a_model_of_another_novelty_fails(world: World, model: FittedModel, tmp_path: Path) -> None:
    # To the artifact no prompt is novel and the cheapest tier takes all; to the other model all are, so they go to the reference.
    points = [OperatingPoint("all", Threshold(0.0))]
    prompts = world.observations.prompt[:40].tolist()
    write(tmp_path / "router.onnx", world, model, points=points, default="all", novelty_threshold=10.0)
    novelty = dataclasses.replace(model.novelty, surprisal=model.novelty.surprisal + 20)
    router, other = Router.load(tmp_path / "router.onnx"), dataclasses.replace(model, novelty=novelty)

    assert check_parity(router, world.encoder, model, prompts).agreement == 1
    with pytest.raises(ExportError, match=r"p_meets differs by up to [\d.e-]+ .*decisions agree on 0\.00%"):
        check_parity(router, world.encoder, other, prompts)


def test_export_without_a_prompt_to_check_on_fails(world: World, model: FittedModel, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no prompt to check"):
        write(tmp_path / "router.onnx", world, model, parity_prompts=[])


def test_place_that_cannot_be_written_is_an_export_error(world: World, model: FittedModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ExportError, match="can't be written"):
        write(tmp_path / "file" / "router.onnx", world, model)


def test_input_tokens_line_is_recovered() -> None:
    n_chars = np.array([100.0, 200.0, 400.0])
    fitted = InputTokens.fit(n_chars, np.column_stack([10 + 0.3 * n_chars, [np.nan, 50, 100]]))

    assert fitted.base == pytest.approx([10, 0])
    assert fitted.per_char == pytest.approx([0.3, 0.25])


def test_input_tokens_not_logged_are_a_quarter_of_the_characters() -> None:
    fitted = InputTokens.fit(np.array([100.0]), np.array([[np.nan]]))

    assert (fitted.base.tolist(), fitted.per_char.tolist()) == ([0], [0.25])


def test_input_tokens_never_fall_with_the_length() -> None:
    fitted = InputTokens.fit(np.array([100.0, 200.0]), np.array([[40.0], [20.0]]))

    assert (fitted.base[0], fitted.per_char[0]) == (0, pytest.approx(60 / 300))
