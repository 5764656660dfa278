"""Export: encoder, model and all that a decision needs as one ONNX file, proven to answer as the trained model does."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from router_ml._atomic import replacing
from router_ml.core.artifact import Metadata, SideEncoder
from router_ml.core.guarantee import Guarantee
from router_ml.core.inference import EMBEDDING, FEATURE_INPUTS
from router_ml.core.menu import OperatingPoint
from router_ml.core.neighbours import Neighbours
from router_ml.core.router import Router
from router_ml.errors import ExportError
from router_ml.export.serialise import seal
from router_ml.graph.builder import Graph
from router_ml.ladder import Ladder
from router_ml.learning.acceptance import AcceptanceModel, Answers
from router_ml.learning.encoders import Encoder, ExportableEncoder, parts_of
from router_ml.learning.encoders.base import TokenizerSpec
from router_ml.learning.inputs import InputNames, encode_inputs, tokenize
from router_ml.learning.model import FittedModel

if TYPE_CHECKING:
    import onnx

__all__ = [
    "InputTokens",
    "Parity",
    "build_graph",
    "check_acceptance_parity",
    "check_exportable",
    "check_parity",
    "export",
    "read_encoder",
]

MAX_DIFFERENCE = 1e-4
MIN_AGREEMENT = 0.9999

_LENGTH = "log_n_chars"
_INPUTS: Mapping[str, tuple[type[np.generic], list[int | str]]] = {
    "input_ids": (np.int64, ["n", "length"]),
    "attention_mask": (np.int64, ["n", "length"]),
    "token_weights": (np.float32, ["n", 1, "length"]),
    _LENGTH: (np.float32, ["n", 1]),
}


@dataclass(frozen=True, slots=True)
class InputTokens:
    """Expected input tokens per tier: ``base + per_char * n_chars``; arrays [T]."""

    base: NDArray[np.float64]
    per_char: NDArray[np.float64]

    @classmethod
    def fit(cls, n_chars: NDArray[np.float64], input_tokens: NDArray[np.float64]) -> InputTokens:
        """Least squares per tier on logged input tokens [n, T]; four characters a token where none were logged."""
        lines = [_line(n_chars, input_tokens[:, t]) for t in range(input_tokens.shape[1])]
        base, per_char = np.array(lines).T
        return cls(base, per_char)


@dataclass(frozen=True, slots=True)
class Parity:
    """How near the artifact is to the trained model.

    Attributes
    ----------
    n_prompts : int
    max_difference : float
        Largest absolute difference of a `p_meets`.
    agreement : float
        Share of equal decisions at the default setting.
    """

    n_prompts: int
    max_difference: float
    agreement: float


def check_exportable(encoder: Encoder, learner: str) -> None:
    """Raise ExportError where an artifact couldn't hold the encoder, before anything is learned from it."""
    first, *others = parts_of(encoder)
    if not isinstance(first, ExportableEncoder):
        raise ExportError(
            f"The encoder {first.name!r} embeds over the network, and an artifact decides without one. Use it for study "
            "(label, embed, evaluate), or as a teacher beside another ('--encoder static,openai:MODEL --learner distilled'), and "
            "export with 'static' or a sentence-transformers model."
        )
    far = [other.name for other in others if not isinstance(other, ExportableEncoder)]
    if far and learner != "distilled":
        raise ExportError(
            f"The encoder {far[0]!r} embeds over the network, and an artifact decides without one. Beside {first.name!r} it can be "
            "a teacher, with the learner 'distilled', whose student reads the first encoder alone."
        )


def read_encoder(encoder: Encoder, model: FittedModel, n_tiers: int) -> Encoder:
    """What a model reads of an encoder: of several the first alone, where the others made no difference or only taught."""
    first, *others = parts_of(encoder)
    if not others:
        return encoder
    check_exportable(first, "")
    graph = Graph()
    _inputs(graph, first)
    graph.input(_FIRST, np.float32, ["n", "first_width"])
    unread = [graph.input(f"embedding_{k}", np.float32, ["n", f"width_{k}"]) for k in range(len(others))]
    _outputs(graph, first, [_FIRST, *unread], model, n_tiers)
    return encoder if any(map(graph.needs, unread)) else first


def build_graph(encoder: Encoder, model: FittedModel, n_tiers: int, *, with_embedding: bool = False) -> onnx.ModelProto:
    """The whole graph, from token ids to outputs; the (first) embedding is one of them where that is asked for.

    Raises
    ------
    ExportError
        If the encoder can't be part of an artifact.
    """
    parts = parts_of(encoder)
    for part in parts:
        check_exportable(part, "")
    graph, embeddings = Graph(), []
    for k, part in enumerate(parts):
        assert isinstance(part, ExportableEncoder)  # check_exportable has seen to it
        _inputs(graph, part, _suffix(k))
        embeddings.append(part.to_graph(graph, _suffix(k)))
    _outputs(graph, parts[0], embeddings, model, n_tiers)
    if with_embedding:
        graph.output(embeddings[0], EMBEDDING, ["n", "width"])
    return graph.model()


def export(
    path: str | Path,
    encoder: Encoder,
    model: FittedModel,
    *,
    ladder: Ladder,
    bar: dict[str, Any],
    reference: str,
    reference_cost_usd: float,
    points: Sequence[OperatingPoint],
    default: str,
    guarantees: Sequence[Guarantee] = (),
    novelty_threshold: float | None = None,
    neighbours: Neighbours | None = None,
    input_tokens: InputTokens,
    provenance: dict[str, Any],
    parity_prompts: Sequence[str],
    acceptance: AcceptanceModel | None = None,
    parity_answers: NDArray[np.object_] | None = None,
) -> Parity:
    """Write the artifact, after checking it against the trained model on the given prompts.

    The file is written under another name, loaded and checked as any user of it would, and only then moved into place.

    Raises
    ------
    ExportError
        If the encoder can't be exported, or the artifact differs by more than 1e-4 in a `p_meets` or decides otherwise on
        more than 1 prompt in 10,000.
    """
    encoder = read_encoder(encoder, model, len(ladder))
    onnx_model = build_graph(encoder, model, len(ladder), with_embedding=neighbours is not None)
    spec, *sides = (part.tokenizer_spec() for part in parts_of(encoder) if isinstance(part, ExportableEncoder))
    metadata = Metadata(
        ladder=ladder,
        bar=bar,
        reference=reference,
        reference_cost_usd=reference_cost_usd,
        points=tuple(points),
        default=default,
        guarantees=tuple(guarantees),
        novelty_threshold=novelty_threshold,
        input_tokens_per_char=tuple(input_tokens.per_char.tolist()),
        input_tokens_base=tuple(input_tokens.base.tolist()),
        encoder={"name": encoder.name, "sha256": encoder.fingerprint},
        learner={"name": model.name, "params": model.params},
        provenance=provenance,
        inputs=FEATURE_INPUTS if _takes_features(spec) else spec.inputs,
        pad_id=spec.pad_id,
        max_tokens=spec.max_tokens,
        add_special_tokens=spec.add_special_tokens,
        side_encoders=tuple(_side_encoder(side, _suffix(k)) for k, side in enumerate(sides, start=1)),
    )
    second = (
        ""
        if acceptance is None
        else base64.b64encode(acceptance.to_onnx().SerializeToString(deterministic=True)).decode()
    )
    with replacing(Path(path), ExportError) as temporary:
        third = "" if neighbours is None else neighbours.to_text()
        temporary.write_bytes(seal(onnx_model, metadata, spec.json, second, third))
        router = Router.load(temporary)
        parity = check_parity(router, encoder, model, parity_prompts)
        if acceptance is not None:
            check_acceptance_parity(router, encoder, acceptance, parity_prompts, parity_answers)
    return parity


def check_parity(router: Router, encoder: Encoder, model: FittedModel, prompts: Sequence[str]) -> Parity:
    """Compare an artifact with the trained model, prompt by prompt, through the core that will serve it.

    Raises
    ------
    ExportError
        If they differ by more than the export allows.
    """
    if not prompts:
        raise ExportError("There is no prompt to check the artifact on; give at least one.")
    expected, got = model.predict(encode_inputs(encoder, prompts)), router.predict(prompts)
    expected_cost = router.ladder.cost_usd(got.input_tokens, expected.output_tokens)
    rule = router.metadata.rule()
    same = rule.choose(expected.p_meets, expected.quality, expected_cost, expected.novelty) == rule.choose(
        got.p_meets, got.quality, got.cost_usd, got.novelty
    )
    difference = float(np.abs(expected.p_meets - got.p_meets).max())
    parity = Parity(len(prompts), difference, float(same.mean()))
    if not parity.max_difference <= MAX_DIFFERENCE or parity.agreement < MIN_AGREEMENT:
        raise ExportError(
            f"The exported graph doesn't answer as the trained model does: p_meets differs by up to {parity.max_difference:.2g} "
            f"(allowed {MAX_DIFFERENCE:.0e}), decisions agree on {parity.agreement:.2%} (needed {MIN_AGREEMENT:.2%}) of "
            f"{parity.n_prompts} prompts. Nothing was written."
        )
    return parity


def check_acceptance_parity(
    router: Router,
    encoder: Encoder,
    model: AcceptanceModel,
    prompts: Sequence[str],
    answers: NDArray[np.object_] | None = None,
) -> float:
    """The largest difference between the artifact's acceptance model and the trained one, in each state; see `check_parity`.

    Parameters
    ----------
    answers : array [n, T] of str or None, optional
        Logged responses; without them the prompts themselves stand in for answers.

    Raises
    ------
    ExportError
        If it is more than 1e-4.
    """
    if answers is None:
        answers = np.array([[p] * len(router.ladder) for p in prompts], dtype=np.object_)
    said = router.predict(prompts)
    got = router.predict_answers(prompts, answers.tolist(), said)
    expected = model.predict(said.quality, Answers.of(prompts, answers, partial(tokenize, encoder)))
    difference = max(float(np.abs(a - b).max()) for a, b in zip(got, expected, strict=True))
    if not difference <= MAX_DIFFERENCE:
        raise ExportError(
            f"The exported acceptance model differs by up to {difference:.2g} (allowed {MAX_DIFFERENCE:.0e}) from the trained one. "
            "Nothing was written."
        )
    return difference


_FIRST = "embedding"


def _suffix(k: int) -> str:
    """What the names of the k-th encoder's inputs end in, from 0."""
    return f"_{k + 1}" if k else ""


def _inputs(graph: Graph, encoder: Encoder, suffix: str = "") -> None:
    assert isinstance(encoder, ExportableEncoder)
    spec = encoder.tokenizer_spec()
    if not suffix and _takes_features(spec):
        graph.feature_inputs()
        return
    for name in spec.inputs:
        if not suffix or name != _LENGTH:
            graph.input(f"{name}{suffix}", *_INPUTS[name])


def _outputs(graph: Graph, first: Encoder, embeddings: Sequence[str], model: FittedModel, n_tiers: int) -> None:
    """The model on top of the encoders' embeddings."""
    assert isinstance(first, ExportableEncoder)
    x = graph.node("Concat", *embeddings, _LENGTH, axis=1)
    each = tuple(graph.node("Concat", e, _LENGTH, axis=1) for e in embeddings) if len(embeddings) > 1 else ()
    outputs, novelty = model.to_graph(graph, InputNames(x, "input_ids", _token_weights(graph, first), each))
    for name, value in zip(("p_meets", "quality", "output_tokens"), outputs, strict=True):
        graph.output(value, name, ["n", n_tiers])
    graph.output(novelty, "novelty", ["n"])


def _side_encoder(spec: TokenizerSpec, suffix: str) -> SideEncoder:
    inputs = tuple(f"{name}{suffix}" for name in spec.inputs if name != _LENGTH)
    return SideEncoder(spec.json, inputs, spec.pad_id, spec.max_tokens, spec.add_special_tokens)


def _takes_features(spec: TokenizerSpec) -> bool:
    """Whether the graph can be given sums of features: an encoder that asks for weights of tokens adds up rows for them."""
    return "token_weights" in spec.inputs


def _token_weights(graph: Graph, encoder: ExportableEncoder) -> str:
    if _takes_features(encoder.tokenizer_spec()):
        return "token_weights"
    mask = graph.cast("attention_mask", np.float32)
    weights = graph.node("Div", mask, graph.node("Max", graph.reduce_sum(mask, 1, keepdims=True), graph.floats(1)))
    return graph.node("Unsqueeze", weights, graph.constant(np.array([1], dtype=np.int64)))


def _line(n_chars: NDArray[np.float64], tokens: NDArray[np.float64]) -> tuple[float, float]:
    logged = ~np.isnan(tokens)
    x, y = n_chars[logged], tokens[logged]
    if len(y) == 0:
        return 0.0, 0.25
    spread = float(np.var(x))
    slope = float(np.mean((x - x.mean()) * (y - y.mean()))) / spread if spread > 0 else 0.0
    base = float(y.mean() - slope * x.mean())
    if slope <= 0 or base < 0:
        # A longer prompt never costs less, and an empty one never less than nothing.
        return 0.0, float(y.sum() / max(x.sum(), 1.0))
    return base, slope
