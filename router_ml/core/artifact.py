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

To change the format: raise `SCHEMA_VERSION`, say in CHANGELOG.md what changed, and keep a reader for the older one that rewrites its
metadata (:func:`_from_schema_4`). The parts of the file beside the metadata are those of schema 4.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from router_ml.core.checks import is_finite
from router_ml.core.guarantee import Guarantee
from router_ml.core.menu import Menu, OperatingPoint, find_point
from router_ml.core.policy import Policy, Rule
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
    "SideEncoder",
    "check_reads_tokens",
    "content_digest",
    "read_artifact",
]

SCHEMA_VERSION = "5"
READABLE = ("4", SCHEMA_VERSION)
"""Schema versions that this release reads."""
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
    reference_cost_usd : float
        Mean cost of a call to it in USD on the training traffic, > 0: the unit of `router_ml.core.policy.Shortfall`.
    points : tuple of OperatingPoint
        The menu; see `router_ml.core.menu`.
    default : str
        Name of the operating point that is used where a request names none.
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
    reference_cost_usd: float
    points: tuple[OperatingPoint, ...]
    default: str
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
        values["points"] = [p.to_dict() for p in self.points]
        values["guarantees"] = [g.to_dict() for g in self.guarantees]
        values["side_encoders"] = [dataclasses.asdict(e) for e in self.side_encoders]
        return json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, *, schema: str = SCHEMA_VERSION) -> Self:
        """Parse the metadata of a schema version; raises ArtifactError where a key is missing, unknown or of the wrong shape."""
        try:
            values = json.loads(text)
            if schema == "4":
                values = _from_schema_4(values)
            values["ladder"] = Ladder.from_dicts(values["ladder"])
            values["points"] = tuple(map(OperatingPoint.from_dict, values["points"]))
            values["guarantees"] = tuple(map(Guarantee.from_dict, values["guarantees"]))
            sides = values.get("side_encoders", [])
            values["side_encoders"] = tuple(SideEncoder(**s | {"inputs": tuple(s["inputs"])}) for s in sides)
            for name in ("input_tokens_per_char", "input_tokens_base", "inputs"):
                values[name] = tuple(values[name])
            metadata = cls(**values)
            consistent = metadata._is_consistent()
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            IndexError,
            RecursionError,
        ) as exc:  # LadderError is a ValueError
            raise ArtifactError(f"The artifact's metadata can't be read ({exc}); export it again.") from exc
        if not consistent:
            raise ArtifactError("The artifact's metadata contradict one another; export it again.")
        return metadata

    def _is_consistent(self) -> bool:
        """Whether tiers, points and lengths fit together; raises InputError for a policy of a tier that isn't there."""
        names = [p.name for p in self.points]
        for policy in (*(p.policy for p in self.points), *(g.policy for g in self.guarantees)):
            self.rule(policy)
        n_tiers = len(self.ladder)
        return (
            self.default in names
            and len(set(names)) == len(names)
            and is_finite(self.reference_cost_usd)
            and self.reference_cost_usd > 0
            and len(self.input_tokens_base) == n_tiers
            and len(self.input_tokens_per_char) == n_tiers
            and self.reference in self.ladder.names
        )

    @property
    def menu(self) -> Menu:
        """The operating points, ready to be shown."""
        return Menu(self.points, self.default, self.reference, self.ladder.names)

    def point(self, name: str | None = None) -> OperatingPoint:
        """Return the operating point of that name, the default's without one; raises InputError where there is none."""
        return find_point(self.points, self.default if name is None else name)

    def rule(self, policy: Policy | None = None, *, ignore_novelty: bool = False) -> Rule:
        """Return the rule of a policy, the default operating point's without one; raises InputError for an unknown tier."""
        ignored = ignore_novelty or self.novelty_threshold is None
        return Rule(
            self.point().policy if policy is None else policy,
            self.ladder.names,
            self.ladder.index(self.reference),
            self.reference_cost_usd,
            math.inf if ignored or self.novelty_threshold is None else self.novelty_threshold,
        )


def _from_schema_4(values: dict[str, Any]) -> dict[str, Any]:
    """Rewrite metadata of schema 4: a policy was a name and a number there, and the menu was `settings`, the default first."""
    kinds = {"bar": "threshold", "value": "utility"}

    def policy(name: str, knob: float) -> dict[str, Any]:
        field = {"bar": "p_meets", "value": "quality_per_usd"}
        return {"kind": kinds.get(name, name)} | ({field[name]: knob} if name in field else {})

    def point(setting: Mapping[str, Any], *, first: bool) -> dict[str, Any]:
        said = str(setting["guarantee"])
        certified = not said.startswith("none") and ": not certified on " not in said
        known = policy(setting["policy"], setting["knob"])
        return {
            "name": "default" if first else f"{setting['name']} ({known['kind']})",
            "policy": known,
            "max_quality_drop": None,
            "expected": None,
            "guarantee": said if certified else "",
            "note": "" if certified or said.startswith("none") else said,
        }

    settings = values.pop("settings")
    points = [point(setting, first=not k) for k, setting in enumerate(settings)]
    guarantees = [
        {k: v for k, v in g.items() if k != "knob"}
        | {
            "certified": g["knob"] is not None,
            "policy": policy("reference" if g["knob"] is None else g["policy"], g["knob"]),
        }
        for g in values["guarantees"]
    ]
    # Of use to `Shortfall` alone, which schema 4 doesn't know.
    cost = settings[0]["best_single_cost_usd"] or 1.0
    return values | {"points": points, "default": "default", "guarantees": guarantees, "reference_cost_usd": cost}


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
            "onnxruntime-extensions, without router-ml; in Python, router_ml.export.text_input.text_session opens it. Give the "
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
    if schema not in READABLE:
        raise ArtifactError(
            f"The artifact has schema version {schema!r}; this release reads {' and '.join(READABLE)}. Export it again with this "
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
    metadata = Metadata.from_json(properties[METADATA_KEY], schema=schema)
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
