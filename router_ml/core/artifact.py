"""The artifact: one ONNX file that holds the graph, and in its metadata all else that a decision needs.

The format
----------
The file is an ONNX ``ModelProto`` with four metadata properties: ``router_ml.schema`` (the version below),
``router_ml.metadata`` (JSON, see :class:`Metadata`), ``router_ml.tokenizer`` (the JSON of a ``tokenizers`` file) and
``router_ml.sha256``, of the serialised graph, the metadata and the tokenizer: damage is found before anything is run. A fifth,
``router_ml.acceptance``, may hold a second ONNX model in base64 (`router_ml.core.acceptance`), which the digest then covers too:
in the same file, a router and the model that judges its answers can't be of different versions. And ``router_ml.neighbours`` may hold
a sample of the training prompts (`router_ml.core.neighbours`): ids and outcomes, no text.

The graph takes what `Metadata.inputs` names: of a static encoder ``feature_ids`` [n, F] int64 and ``feature_weights`` [n, 1, F]
float32 (`router_ml.core.features`); of a transformer ``input_ids`` and ``attention_mask`` [n, L] int64 (1, and 0 where a row is
filled up), and ``log_n_chars`` [n, 1] float32 (the natural logarithm of 1 + the length in characters, before the text is cut). It gives
``p_meets``, ``quality``, ``output_tokens`` [n, T] and ``novelty`` [n], all float32, and with neighbours ``embedding`` [n, d].
Where there are several encoders, it takes in addition what each of `Metadata.side_encoders` names: ``input_ids_2`` and
``attention_mask_2``, or ``token_weights_2`` [n, 1, L] float32 (one over the number of tokens), by that encoder's own tokenizer.

To change the format: raise `SCHEMA_VERSION`, say in CHANGELOG.md what changed, and leave reading the older one to the
older release: an artifact is cheap to export again, and a router that misreads one is not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from router_ml.core.decision import Policy
from router_ml.core.guarantee import Guarantee
from router_ml.core.text import RENDER_VERSION
from router_ml.errors import ArtifactError
from router_ml.ladder import Ladder

__all__ = [
    "ACCEPTANCE_KEY",
    "DIGEST_KEY",
    "METADATA_KEY",
    "NEIGHBOURS_KEY",
    "SCHEMA_KEY",
    "SCHEMA_VERSION",
    "TEXT_INPUTS",
    "TOKENIZER_KEY",
    "Artifact",
    "Metadata",
    "Setting",
    "SideEncoder",
    "check_reads_tokens",
    "content_digest",
    "read_artifact",
]

SCHEMA_VERSION = "4"
SCHEMA_KEY = "router_ml.schema"
METADATA_KEY = "router_ml.metadata"
TOKENIZER_KEY = "router_ml.tokenizer"
DIGEST_KEY = "router_ml.sha256"
ACCEPTANCE_KEY = "router_ml.acceptance"
NEIGHBOURS_KEY = "router_ml.neighbours"

TEXT_INPUTS = ("text",)
"""What the graph takes that ``router-ml export --text-in`` wrote: its tokenizer is in it."""

# Field numbers of onnx.proto's ModelProto and StringStringEntryProto
# (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
_GRAPH = 7
_METADATA_PROPS = 14
_KEY = 1
_VALUE = 2


@dataclass(frozen=True, slots=True)
class Setting:
    """A policy with its knob, and what is known of it.

    Parameters
    ----------
    name : str
        What it is called.
    policy : {"bar", "value", "reference"}
    knob : float
        The threshold, or `lam`, or the reference tier's index.
    quality, cost_usd : float or None
        Mean quality and mean cost of a call at this setting, on the prompts that it was chosen on.
    best_single_quality, best_single_cost_usd : float or None
        The same for the best single tier there.
    guarantee : str
        What it promises, in a sentence.
    """

    name: str
    policy: Policy
    knob: float
    quality: float | None
    cost_usd: float | None
    best_single_quality: float | None
    best_single_cost_usd: float | None
    guarantee: str

    def __str__(self) -> str:
        """The knob with its name."""
        knobs = {
            "bar": f", threshold {self.knob:.3f}",
            "value": f", lam {self.knob:.4g} (quality per USD)",
            "reference": "",
        }
        return f"policy {self.policy!r}{knobs[self.policy]}: {self.name}; guarantee: {self.guarantee}"


@dataclass(frozen=True, slots=True)
class SideEncoder:
    """An encoder beside the first: how to tokenize for it.

    Parameters
    ----------
    tokenizer : str
        JSON of a ``tokenizers`` tokenizer.
    inputs : tuple of str
        Names of the graph's inputs, token ids first.
    pad_id, max_tokens, add_special_tokens
        As in :class:`Metadata`.
    """

    tokenizer: str
    inputs: tuple[str, ...]
    pad_id: int
    max_tokens: int | None
    add_special_tokens: bool


@dataclass(frozen=True, slots=True)
class Metadata:
    """All that the artifact holds beside graph and tokenizer.

    Parameters
    ----------
    ladder : Ladder
        The tiers, in the order of the graph's columns.
    bar : dict
        The bar that the labels were made with: ``{"kind", "value", "reference"}``.
    reference : str
        Name of the reference tier: what a promise is measured against, and where queries unlike the training traffic go.
    settings : tuple of Setting
        The first is the default.
    guarantees : tuple of Guarantee
        What was certified, and what could not be.
    novelty_threshold : float or None
        The novelty above which a query goes to the reference tier; None: never.
    input_tokens_per_char, input_tokens_base : tuple of float
        Per tier, how many input tokens a prompt of so many characters is expected to be.
    inputs : tuple of str
        Names of the graph's inputs.
    pad_id : int
        Token id that fills short rows.
    max_tokens : int or None
        Tokens that the encoder reads at most; None: all.
    add_special_tokens : bool
        Whether the tokenizer adds its special tokens.
    encoder, learner : dict
        Name, hash and settings.
    provenance : dict
        Training data's hash and size, library versions, git commit, MLflow run.
    render_version : str
        Version of the text rendering (`router_ml.core.text`).
    side_encoders : tuple of SideEncoder
        Further encoders that the graph reads; mostly none.
    """

    ladder: Ladder
    bar: dict[str, Any]
    reference: str
    settings: tuple[Setting, ...]
    guarantees: tuple[Guarantee, ...]
    novelty_threshold: float | None
    input_tokens_per_char: tuple[float, ...]
    input_tokens_base: tuple[float, ...]
    inputs: tuple[str, ...]
    pad_id: int
    max_tokens: int | None
    add_special_tokens: bool
    encoder: dict[str, Any]
    learner: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)
    render_version: str = RENDER_VERSION
    side_encoders: tuple[SideEncoder, ...] = ()

    def to_json(self) -> str:
        """Serialise; the inverse of :meth:`from_json`."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["ladder"] = self.ladder.to_dicts()
        values["settings"] = [dataclasses.asdict(s) for s in self.settings]
        values["guarantees"] = [g.to_dict() for g in self.guarantees]
        values["side_encoders"] = [dataclasses.asdict(e) for e in self.side_encoders]
        return json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse; raises ArtifactError where a key is missing, unknown or of the wrong shape."""
        try:
            values = json.loads(text)
            values["ladder"] = Ladder.from_dicts(values["ladder"])
            values["settings"] = tuple(Setting(**s) for s in values["settings"])
            values["guarantees"] = tuple(map(Guarantee.from_dict, values["guarantees"]))
            sides = values.get("side_encoders", [])
            values["side_encoders"] = tuple(SideEncoder(**s | {"inputs": tuple(s["inputs"])}) for s in sides)
            for name in ("input_tokens_per_char", "input_tokens_base", "inputs"):
                values[name] = tuple(values[name])
            metadata = cls(**values)
        except (ValueError, KeyError, TypeError, RecursionError) as exc:  # LadderError is a ValueError
            raise ArtifactError(f"The artifact's metadata can't be read ({exc}); export it again.") from exc
        n_tiers = len(metadata.ladder)
        if (
            not metadata.settings
            or len(metadata.input_tokens_base) != n_tiers
            or len(metadata.input_tokens_per_char) != n_tiers
            or metadata.reference not in metadata.ladder.names
        ):
            raise ArtifactError("The artifact's metadata contradict one another; export it again.")
        return metadata


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified artifact: the model's bytes, the metadata, the tokenizer's JSON, and in base64 the acceptance model and the neighbours (empty: none)."""

    model: bytes
    metadata: Metadata
    tokenizer: str
    acceptance: str = ""
    neighbours: str = ""


def content_digest(
    graph: bytes | memoryview, metadata: str, tokenizer: str, acceptance: str = "", neighbours: str = ""
) -> str:
    """SHA-256, in hexadecimal, of the serialised graph, and of the texts that the artifact holds beside it."""
    digest = hashlib.sha256(graph)
    for text in (metadata, tokenizer, acceptance, neighbours):
        digest.update(hashlib.sha256(text.encode("utf-8", "replace")).digest())
    return digest.hexdigest()


def read_artifact(path: str | Path) -> Artifact:
    """Read an artifact and verify it; nothing of it has been run yet.

    Raises
    ------
    ArtifactError
        If the file can't be read, isn't an ONNX file of ours, is truncated or damaged, is of another schema version, or
        renders text otherwise than this core.
    """
    path = Path(path)
    try:
        model = path.read_bytes()
    except OSError as exc:
        raise ArtifactError(f"The artifact {path} can't be read: {exc.strerror or exc}.") from exc
    try:
        return _verify(model)
    except ArtifactError as exc:
        raise ArtifactError(f"{path}: {exc}") from exc


def _writer(properties: Mapping[str, str]) -> str:
    """The release that wrote an artifact, in brackets, where its metadata say so."""
    try:
        return f" (router-ml {json.loads(properties[METADATA_KEY])['provenance']['versions']['router-ml']})"
    except (KeyError, TypeError, ValueError):  # of another schema, so anything may be missing
        return ""


def check_reads_tokens(metadata: Metadata) -> None:
    """Raise ArtifactError for an artifact that takes text, which isn't for this core."""
    if metadata.inputs == TEXT_INPUTS:
        raise ArtifactError(
            "The artifact takes text (router-ml export --text-in): it is for onnxruntime with the custom operators of "
            "onnxruntime-extensions, without router-ml; in Python, router_ml.learning.text_graph.text_session opens it. Give the "
            "artifact that 'router-ml fit' wrote."
        )


def _verify(model: bytes) -> Artifact:
    view = memoryview(model)
    properties: dict[str, str] = {}
    graph: memoryview | None = None
    for number, value in _fields(view):
        if number == _GRAPH:
            graph = value
        elif number == _METADATA_PROPS:
            entry = {n: bytes(v).decode("utf-8", "replace") for n, v in _fields(value)}
            properties[entry.get(_KEY, "")] = entry.get(_VALUE, "")
    schema = properties.get(SCHEMA_KEY)
    if graph is None or schema is None:
        raise ArtifactError(
            "This isn't a router-ml artifact (an ONNX file without our metadata). Make one with 'router-ml fit'."
        )
    if schema != SCHEMA_VERSION:
        raise ArtifactError(
            f"The artifact has schema version {schema!r}; this release reads {SCHEMA_VERSION!r}. Export it again with this "
            f"release ('router-ml fit'), or install the release that wrote it{_writer(properties)}."
        )
    if not {METADATA_KEY, TOKENIZER_KEY, DIGEST_KEY} <= properties.keys():
        raise ArtifactError("The artifact lacks its metadata or its tokenizer: it is damaged. Export or copy it again.")
    texts = properties[METADATA_KEY], properties[TOKENIZER_KEY]
    parts = properties.get(ACCEPTANCE_KEY, ""), properties.get(NEIGHBOURS_KEY, "")
    if content_digest(graph, *texts, *parts) != properties[DIGEST_KEY]:
        raise ArtifactError(
            "The artifact's content doesn't have the hash that it states: it is damaged. Copy it again."
        )
    metadata = Metadata.from_json(properties[METADATA_KEY])
    if metadata.render_version != RENDER_VERSION:
        raise ArtifactError(
            f"The artifact was trained on text rendering {metadata.render_version!r}; this release renders "
            f"{RENDER_VERSION!r}. Fit it again with this release."
        )
    return Artifact(model, metadata, properties[TOKENIZER_KEY], *parts)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The length-delimited fields of a protobuf message, without copying (https://protobuf.dev/programming-guides/encoding)."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        wire = tag & 7
        if wire == 0:
            _, position = _varint(message, position)
            continue
        if wire == 2:
            size, position = _varint(message, position)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ArtifactError("This isn't an ONNX file, or it is damaged. Give a file made by 'router-ml fit'.")
        if position + size > len(message):
            raise ArtifactError(
                "The file ends too early: it is truncated, or isn't an ONNX file. Copy or export it again."
            )
        if wire == 2:
            yield tag >> 3, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        if position >= len(message):
            raise ArtifactError(
                "The file ends too early: it is truncated, or isn't an ONNX file. Copy or export it again."
            )
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ArtifactError("This isn't an ONNX file, or it is damaged. Give a file made by 'router-ml fit'.")
