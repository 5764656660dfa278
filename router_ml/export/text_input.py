"""The graph with text in: the artifact's own graph, with all that the core does to a query's text put before it.

Another language then needs onnxruntime and the library of custom operators of onnxruntime-extensions, and neither our code
nor a tokenizer: one string tensor goes in, the artifact's outputs come out.

What the graph does is what :func:`router_ml.core.text.render`, :class:`router_ml.core.tokenize.TextTokenizer` and
:func:`router_ml.core.features.feature_rows` do. It can't
refuse a query as they do: an empty text is answered as one without tokens, and a text ends at its first NUL character. Render
chat messages with :func:`~router_ml.core.text.conversation_text` before they go in.

The tokenizer becomes a SentencePiece model, whose operator gives the ids of the ``tokenizers`` library. (Its ``SpmTokenizer``,
a byte-pair encoding by merges, was tried: it gave other ids for 28 of 5,443 real prompts.)
"""

from __future__ import annotations

import dataclasses
import json
import re
import struct
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from router_ml._atomic import replacing
from router_ml.core.artifact import TEXT_INPUTS, Artifact, check_reads_tokens, read_artifact
from router_ml.core.features import FIRST_TOKEN, N_PAIRS, N_WHOLE, PAIR_MULTIPLIER, PAIR_START
from router_ml.core.inference import FEATURE_INPUTS
from router_ml.core.router import Router
from router_ml.core.text import HEAD_CHARS, MAX_CHARS, TAIL_CHARS
from router_ml.core.tokenize import words_are_independent
from router_ml.errors import ExportError, MissingExtraError
from router_ml.export.onnx_export import MAX_DIFFERENCE, MIN_AGREEMENT, Parity
from router_ml.export.serialise import seal

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["PROBES", "add_text_input", "text_session"]

PROBES = (
    "What is 2+2?",
    "def f(x):\n\treturn [x, '!', {\"a\": 1.5e-3}]\r\n\n    # x!', and }.$",
    "\u3000Tiefe\u00a0Grüße, 你好 世界, 안녕, e\u0301 👩\u200d👩\u200d👧 \ue000\u2028end ",
    "<s>a</s> b <unk><s> c <s>",
    "\u2581 \u2581\u2581x \u2581",
    "=" * 77 + "-" * 33,
    "word " * 1638 + "12",
    "é" * (MAX_CHARS + 1),
    "a" + "日😀é" * (MAX_CHARS // 9 + 2),
    "a" * HEAD_CHARS + " \n" * 500 + "日本" * TAIL_CHARS,
)
"""Texts that a wrong graph would answer otherwise: white space of all kinds, reserved tokens, bytes, both sides of the cut."""

_OUTPUTS = ["p_meets", "quality", "output_tokens", "novelty"]
_BYTE_PIECES = [f"<0x{byte:02X}>" for byte in range(256)]

_GRAPH = """
<ir_version: 9, opset_import: ["" : 20, "ai.onnx.contrib" : 1]>
text_input (string[n] text) => (int64[n, features] feature_ids, float[n, 1, features] feature_weights)
{
    n_chars = ai.onnx.contrib.StringLength (text)
    one = Constant <value_float = 1.0> ()
    n_chars_float = Cast <to = 1> (n_chars)
    n_chars_and_one = Add (n_chars_float, one)
    log_n_chars_row = Log (n_chars_and_one)
    log_n_chars = Unsqueeze (log_n_chars_row, axis_1)

    two_wide = ai.onnx.contrib.StringRegexReplace (text, of_2_bytes, two_marks)
    three_wide = ai.onnx.contrib.StringRegexReplace (two_wide, of_3_bytes, three_marks)
    all_wide = ai.onnx.contrib.StringRegexReplace (three_wide, of_4_bytes, four_marks)
    n_bytes = ai.onnx.contrib.StringLength (all_wide)
    longest_text = ReduceMax <keepdims = 0> (n_bytes)
    any_too_long = Greater (longest_text, max_chars)
    bounded = If (any_too_long) <
        then_branch = cut () => (string[n] shortened) {
            separated = ai.onnx.contrib.StringRegexReplace (text, any_character, character_and_separator)
            characters, n_pieces = StringSplit <delimiter = "\uffff"> (separated)
            two_each = ai.onnx.contrib.StringRegexReplace (characters, of_2_bytes, two_marks)
            three_each = ai.onnx.contrib.StringRegexReplace (two_each, of_3_bytes, three_marks)
            all_each = ai.onnx.contrib.StringRegexReplace (three_each, of_4_bytes, four_marks)
            bytes_each = ai.onnx.contrib.StringLength (all_each)
            ends_at = CumSum (bytes_each, step)
            starts_at = Sub (ends_at, bytes_each)
            n_bytes_column = Unsqueeze (n_bytes, axis_1)
            tail_start = Sub (n_bytes_column, tail_chars)
            fits = LessOrEqual (n_bytes_column, max_chars)
            in_head = LessOrEqual (ends_at, head_chars)
            in_tail = GreaterOrEqual (starts_at, tail_start)
            at_an_end = Or (in_head, in_tail)
            stays = Or (fits, at_an_end)
            at_break = LessOrEqual (starts_at, head_chars)
            gap = Where (at_break, line_break, nothing)
            pieces = Where (stays, characters, gap)
            shortened = ai.onnx.contrib.StringJoin (pieces, nothing, axis_1)
        },
        else_branch = keep () => (string[n] whole) { whole = Identity (text) }
    >

    led = StringConcat (space, bounded)
    collapsed = ai.onnx.contrib.StringRegexReplace (led, white_space, space)
    spaced = ai.onnx.contrib.StringRegexReplace (collapsed, reserved_run, run_and_space)
    ready = ai.onnx.contrib.StringRegexReplace (spaced, ends, first_group)
    tokens, bounds, places = ai.onnx.contrib.SentencepieceTokenizer (ready, nbest, alpha, no, no, no, no)

    first = Slice (bounds, from_0, to_last)
    end = Slice (bounds, from_1, to_end)
    n_tokens = Sub (end, first)
    longest = ReduceMax <keepdims = 0> (n_tokens)
    width = Max (longest, step)
    position = Range (zero, width, step)
    n_tokens_column = Unsqueeze (n_tokens, axis_1)
    first_column = Unsqueeze (first, axis_1)
    is_token = Less (position, n_tokens_column)
    token_index = Add (first_column, position)
    index = Where (is_token, token_index, minus_one)
    wide_tokens = Cast <to = 7> (tokens)
    tokens_and_pad = Concat <axis = 0> (wide_tokens, pad)
    input_ids = Gather (tokens_and_pad, index)

    is_token_float = Cast <to = 1> (is_token)
    divisor = Max (n_tokens_column, step)
    divisor_float = Cast <to = 1> (divisor)
    weights = Div (is_token_float, divisor_float)
    token_weights = Unsqueeze (weights, axis_1)

    shifted = Pad (input_ids, one_before, pair_start)
    before = Slice (shifted, from_0, to_last, axis_1)
    multiplied = Mul (before, pair_multiplier)
    hashed = Add (multiplied, input_ids)
    pair = Mod (hashed, n_pairs)
    token = Add (input_ids, first_token)
    n_texts = Shape (text)
    whole_shape = Concat <axis = 0> (n_texts, whole_width)
    of_whole = Expand (whole_ids, whole_shape)
    feature_ids = Concat <axis = 1> (token, pair, of_whole)

    share = Div (one, divisor_float)
    ones = Div (divisor_float, divisor_float)
    whole_weights = Concat <axis = 1> (share, log_n_chars, ones)
    whole_weights_row = Unsqueeze (whole_weights, axis_1)
    feature_weights = Concat <axis = 2> (token_weights, token_weights, whole_weights_row)
}
"""
"""The graph in ONNX's text form (https://github.com/onnx/onnx/blob/main/docs/Syntax.md).

Bytes are counted by marks: so many for a character as it has in UTF-8. Only where a text is too long are texts split into characters, with the noncharacter U+FFFF between them (a long text that holds it
is cut elsewhere). A space leads each text,
as SentencePiece is told to add none: a text that begins with a reserved token has none, one after reserved tokens has another.
"""


def add_text_input(
    artifact_path: str | Path, out_path: str | Path, *, parity_prompts: Sequence[str] = PROBES
) -> Parity:
    """Write an artifact's graph with text in, after checking it against the artifact.

    The file takes ``text`` [n] of strings, n >= 1, and gives what the artifact gives. Its metadata properties are the artifact's,
    with ``("text",)`` as the inputs and an empty tokenizer. It runs where the custom operators of onnxruntime-extensions are
    registered (:func:`text_session` in Python); :class:`~router_ml.core.router.Router` reads the artifact itself.

    Parameters
    ----------
    artifact_path : str or Path
        What ``router-ml fit`` wrote.
    out_path : str or Path
        Where to write.
    parity_prompts : sequence of str
        Prompts to check it on; :data:`PROBES` where not given.

    Returns
    -------
    Parity
        How near it is to the artifact.

    Raises
    ------
    ArtifactError
        If the artifact can't be read, or takes text already.
    ExportError
        If its tokenizer isn't one that the custom operators can stand in for (only byte-pair encodings in the manner of Llama
        can: the static encoder's), the file can't be written, or a `p_meets` differs by more than 1e-4, or a decision on more
        than 1 prompt in 10,000.
    MissingExtraError
        If onnxruntime-extensions isn't installed.
    """
    artifact = read_artifact(artifact_path)
    check_reads_tokens(artifact.metadata)
    model = _with_text_input(artifact)
    parity = _check(Router(artifact), model, parity_prompts)
    with replacing(Path(out_path), ExportError) as temporary:
        temporary.write_bytes(model)
    return parity


def text_session(model: str | Path | bytes) -> onnxruntime.InferenceSession:
    """An onnxruntime session of a graph with text in, the custom operators registered; one thread.

    Examples
    --------
    >>> session = text_session("router-text.onnx")  # doctest: +SKIP
    >>> session.run(["p_meets"], {"text": np.array(["Hello"], dtype=object)})  # doctest: +SKIP
    """
    import onnxruntime

    try:
        import onnxruntime_extensions
    except ImportError as exc:
        raise MissingExtraError("text", "A graph with text in") from exc
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _with_text_input(artifact: Artifact) -> bytes:
    spec = json.loads(artifact.tokenizer)
    metadata = artifact.metadata
    if metadata.side_encoders:
        raise ExportError(
            f"The artifact holds several encoders ({metadata.encoder.get('name')!r}), each with a tokenizer of its own; only one can be "
            "put into the graph. Fit it with '--encoder static', or with '--learner distilled', which reads the first alone."
        )
    if metadata.inputs != FEATURE_INPUTS or metadata.max_tokens is not None or not _becomes_sentencepiece(spec):
        raise ExportError(
            f"The tokenizer of the encoder {metadata.encoder.get('name')!r} can't be put into the graph: only a byte-pair "
            "encoding in the manner of Llama can, as the static encoder's. Use the artifact itself, with a tokenizer in front."
        )
    inner = onnx.load_from_string(artifact.model)
    # Else names in it could be those of the graph before it.
    inner = onnx.compose.add_prefix(inner, "router/", rename_inputs=False, rename_outputs=False)
    text = onnx.parser.parse_model(_GRAPH)
    tokenizer = next(n for n in text.graph.node if n.op_type == "SentencepieceTokenizer")
    tokenizer.attribute.append(helper.make_attribute("model", _sentencepiece(spec)))
    graph = helper.make_graph(
        [*text.graph.node, *inner.graph.node],
        inner.graph.name,
        text.graph.input,
        inner.graph.output,
        [*_constants(_reserved(spec), metadata.pad_id), *inner.graph.initializer],
    )
    opsets = [*inner.opset_import, *(o for o in text.opset_import if o.domain)]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=inner.ir_version, producer_name=inner.producer_name
    )
    return seal(model, dataclasses.replace(metadata, inputs=TEXT_INPUTS), "")


def _check(router: Router, model: bytes, prompts: Sequence[str]) -> Parity:
    if not prompts:
        raise ExportError("There is no prompt to check the graph on; give at least one.")
    session = text_session(model)
    expected = router.predict(prompts)
    p_meets, quality, output_tokens, novelty = _run_in_turn(session, prompts)
    rule = router.metadata.rule()
    cost_usd = router.ladder.cost_usd(expected.input_tokens, output_tokens)
    same = rule.choose(p_meets, quality, cost_usd, novelty) == rule.choose(
        expected.p_meets, expected.quality, expected.cost_usd, expected.novelty
    )
    parity = Parity(len(prompts), float(np.abs(p_meets - expected.p_meets).max()), float(same.mean()))
    if not parity.max_difference <= MAX_DIFFERENCE or parity.agreement < MIN_AGREEMENT:
        raise ExportError(
            f"The graph with text in doesn't answer as the artifact does: p_meets differs by up to {parity.max_difference:.2g} "
            f"(allowed {MAX_DIFFERENCE:.0e}), decisions agree on {parity.agreement:.2%} (needed {MIN_AGREEMENT:.2%}) of "
            f"{parity.n_prompts} prompts. Nothing was written."
        )
    return parity


def _run_in_turn(session: onnxruntime.InferenceSession, prompts: Sequence[str]) -> list[NDArray[np.float32]]:
    """The outputs for each prompt, run by itself: together they would all be padded to the longest."""
    runs = [session.run(_OUTPUTS, {"text": np.array([p], dtype=object)}) for p in prompts]
    return [np.concatenate(column) for column in zip(*runs, strict=True)]


def _becomes_sentencepiece(spec: dict[str, Any]) -> bool:
    """Whether SentencePiece gives the same ids.

    It merges by piece: so each way to split a piece has to be a merge, and a piece's merges have to stand together. All bytes have
    to be pieces, so that nothing is unknown, and reserved tokens have to be what a regular expression finds.
    """
    if not words_are_independent(spec):
        return False
    vocabulary = spec["model"]["vocab"]
    merges = [_pair(m) for m in spec["model"]["merges"]]
    # A piece's merges stand together where it is met anew as often as there are such pieces.
    runs = sum(a + b != c + d for (a, b), (c, d) in pairwise(merges)) + bool(merges)
    splits = {
        (p[:k], p[k:]) for p in vocabulary for k in range(1, len(p)) if p[:k] in vocabulary and p[k:] in vocabulary
    }
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    return (
        set(_BYTE_PIECES) <= vocabulary.keys()
        and splits == set(merges)
        and runs == len({a + b for a, b in merges})
        and sorted(vocabulary.values()) == list(range(len(vocabulary)))
        and all(
            vocabulary.get(t["content"]) == t["id"] and not any(t[f] for f in flags) and " " not in t["content"]
            for t in spec["added_tokens"]
        )
    )


def _reserved(spec: dict[str, Any]) -> list[str]:
    """The reserved tokens, a longer one before what it begins with."""
    return sorted((t["content"] for t in spec["added_tokens"]), key=len, reverse=True)


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """A merge's two halves; files of either age."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _constants(reserved: list[str], pad_id: int) -> list[onnx.TensorProto]:
    either = "|".join(map(re.escape, reserved)) or r"[^\x{0}-\x{10ffff}]"  # no reserved token: what never matches
    integers = {
        "zero": 0,
        "step": 1,
        "minus_one": -1,
        "first_token": FIRST_TOKEN,
        "pair_multiplier": PAIR_MULTIPLIER,
        "pair_start": PAIR_START,
        "n_pairs": N_PAIRS,
        "max_chars": MAX_CHARS,
        "head_chars": HEAD_CHARS,
        "tail_chars": TAIL_CHARS,
    }
    rows = {"axis_1": 1, "from_0": 0, "from_1": 1, "to_last": -1, "to_end": sys.maxsize, "pad": pad_id, "nbest": 0}
    rows["whole_width"] = N_WHOLE
    strings = {
        "space": " ",
        "line_break": "\n",
        "nothing": "",
        "white_space": f"[{''.join(_white_space())}]+",
        "of_2_bytes": r"[\x{80}-\x{7ff}]",
        "of_3_bytes": r"[\x{800}-\x{ffff}]",
        "of_4_bytes": r"[\x{10000}-\x{10ffff}]",
        "two_marks": "xx",
        "three_marks": "xxx",
        "four_marks": "xxxx",
        "any_character": "(?s)(.)",
        "character_and_separator": "\\1\uffff",
        "reserved_run": f"((?:{either})+)",
        "run_and_space": r"\1 ",
        "ends": rf"\A ({either})| +\z",
        "first_group": r"\1",
    }
    return [
        *(numpy_helper.from_array(np.array(v, dtype=np.int64), k) for k, v in integers.items()),
        *(numpy_helper.from_array(np.array([v], dtype=np.int64), k) for k, v in rows.items()),
        numpy_helper.from_array(np.array([0, 1, 0, 0], dtype=np.int64), "one_before"),
        numpy_helper.from_array(np.arange(-N_WHOLE, 0), "whole_ids"),
        numpy_helper.from_array(np.array([0], dtype=np.float32), "alpha"),
        numpy_helper.from_array(np.array([False]), "no"),
        *(helper.make_tensor(k, onnx.TensorProto.STRING, [1], [v.encode()]) for k, v in strings.items()),
    ]


def _white_space() -> Iterator[str]:
    """What ``str.split`` splits at, as a regular expression's class; its own class of white space is ASCII's alone."""
    return (rf"\x{{{code:x}}}" for code in range(sys.maxunicode + 1) if chr(code).isspace())


# Numbers of sentencepiece_model.proto (https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto).
_NORMAL, _UNKNOWN, _USER_DEFINED, _BYTE = 1, 2, 4, 6


def _sentencepiece(spec: dict[str, Any]) -> bytes:
    """The same tokenizer as a SentencePiece model: pieces that are merged earlier score higher."""
    vocabulary = spec["model"]["vocab"]
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(spec["model"]["merges"]):
        ranks.setdefault("".join(_pair(merge)), rank)
    types = dict.fromkeys(vocabulary, _NORMAL)
    types |= dict.fromkeys(_BYTE_PIECES, _BYTE) | dict.fromkeys(_reserved(spec), _USER_DEFINED)
    pieces = [
        _piece(piece, -ranks.get(piece, len(ranks)), types[piece])
        for piece in sorted(vocabulary, key=vocabulary.__getitem__)
    ]
    # SentencePiece needs an unknown piece. With all 256 bytes it comes to no text, and "<unk>" itself has to be found in texts.
    unknown = "<never>"
    pieces.append(_piece(unknown, 0, _UNKNOWN))
    trainer = _number(3, 2) + _number(35, 1) + _number(40, len(vocabulary)) + _bytes(45, unknown.encode())  # BPE, bytes
    normalizer = _bytes(1, b"identity") + _number(3, 0) + _number(4, 0) + _number(5, 1)  # only spaces become marks
    return b"".join(_bytes(1, p) for p in pieces) + _bytes(2, trainer) + _bytes(3, normalizer)


def _piece(text: str, score: float, kind: int) -> bytes:
    return _bytes(1, text.encode()) + b"\x15" + struct.pack("<f", score) + _number(3, kind)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
