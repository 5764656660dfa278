"""Smaller artifacts, made from an artifact: fewer bytes a weight, fewer rows in the table of token vectors.

Of a static encoder's artifact nearly all is the table of token vectors. onnxruntime turns what is stored here back into one
float32 table when it loads the file, so that a decision takes as long as before, and takes about as much memory; only
:func:`prune_tokens` makes that smaller too. A transformer's products are done in whole numbers, which is faster.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from router_ml.core.artifact import Artifact, Metadata, read_artifact
from router_ml.core.decision import Prediction
from router_ml.core.policy import choose
from router_ml.core.router import Router
from router_ml.core.text import render
from router_ml.errors import ExportError, InputError
from router_ml.evaluation.frontier import sweep_bar, sweep_value
from router_ml.evaluation.metrics import FrontierMetrics, frontier_metrics
from router_ml.files import replacing
from router_ml.learning.sealing import seal
from router_ml.traffic.split import split_by_hash

__all__ = [
    "TOLERANCES",
    "WEIGHTS",
    "Compression",
    "Weights",
    "compress",
    "prune_tokens",
    "quantize_table",
    "quantize_transformer",
]

Weights = Literal["float16", "int8"]
WEIGHTS: tuple[Weights, ...] = ("float16", "int8")

TOLERANCES: Mapping[str, float] = MappingProxyType(
    {"float16": 1e-3, "int8": 2e-2, "pruned": 1e-4, "transformer int8": 1e-1}
)
"""How far a `p_meets` may move, by kind: a few times what was seen, so that a prompt of another sort passes and a wrong graph doesn't.

On 669 to 4,844 held-out prompts of BFCL, RouterBench and MMLU-Pro, int8 vectors moved it by at most 0.0022, 0.0031 and 0.0047 (a
mean's rounding errors average out), float16 ones by 0.00012. A pruned table is exact on what it was pruned to. MiniLM in int8, fitted on 150
prompts of BFCL, moved by at most 0.075 on 150 others and by 0.008 on the mean, for 0.0006 of AIQ: activations are rounded too,
at each of 36 products.
"""

_UNSEEN_SHARE = 0.2
"""Of the prompts pruned to: held out once, to see what pruning does to prompts that it hasn't seen."""


@dataclass(frozen=True, slots=True)
class Compression:
    """What a smaller artifact is, beside the one that it was made from.

    Attributes
    ----------
    kind : str
        What was done: ``"int8"``, ``"pruned"``, ``"pruned int8"``, ``"transformer int8"`` and so on.
    n_prompts : int
        Prompts that both were compared on.
    bytes_before, bytes_after : int
        Size of the file.
    max_difference, mean_difference : float
        Of a `p_meets`, absolute.
    agreement : float
        Share of equal decisions at the default setting.
    tolerance : float
        What `max_difference` may be (of a pruned table: on the prompts that it was pruned to).
    aiq_before, aiq_after, aiq_loss, gap_closed_before, gap_closed_after : float or None
        Of the default setting's policy; None: too few prompts have a judged and priced answer of every tier, or no tier costs
        more than the first.
    tokens_kept : int or None
        Rows of the pruned table, one for all other tokens not counted; None: not pruned.
    unseen_max_difference, unseen_agreement : float or None
        On a fifth of the prompts that the table was pruned to, with a table pruned to the other four: what new traffic of the
        same kind will see. None: not pruned, or too few prompts.
    """

    kind: str
    n_prompts: int
    bytes_before: int
    bytes_after: int
    max_difference: float
    mean_difference: float
    agreement: float
    tolerance: float
    aiq_before: float | None
    aiq_after: float | None
    aiq_loss: float | None
    gap_closed_before: float | None
    gap_closed_after: float | None
    tokens_kept: int | None = None
    unseen_max_difference: float | None = None
    unseen_agreement: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return dataclasses.asdict(self)

    def summary(self) -> str:
        """What became smaller, and what that costs, in a few lines."""
        lines = [
            f"{self.kind}: {self.bytes_before / 1e6:.2f} MB before, {self.bytes_after / 1e6:.2f} MB after",
            f"p_meets differs by at most {self.max_difference:.2g} (mean {self.mean_difference:.1g}, allowed {self.tolerance:g}); "
            f"{self.agreement:.2%} of the decisions on {self.n_prompts:,} prompts are the same",
        ]
        if self.tokens_kept is not None:
            unseen = (
                "there are too few prompts to say"
                if self.unseen_agreement is None
                else f"p_meets differs by up to {self.unseen_max_difference:.2g}, {self.unseen_agreement:.2%} of the decisions are the same"
            )
            lines.append(f"{self.tokens_kept:,} tokens have their own vector; on prompts not seen: {unseen}")
        if self.aiq_loss is not None:
            lines.append(
                f"AIQ {self.aiq_before:.4f} before, {self.aiq_after:.4f} after (loss {self.aiq_loss:.4f}); "
                f"gap closed {_or_unknown(self.gap_closed_before)} before, {_or_unknown(self.gap_closed_after)} after"
            )
        return "\n".join(lines)


def quantize_table(model: onnx.ModelProto, weights: Weights) -> onnx.ModelProto:
    """Store the table of token vectors as float16, or as int8 with a float32 scale for each row.

    Parameters
    ----------
    model : ModelProto
        An artifact's graph; it isn't changed.
    weights : {"float16", "int8"}

    Raises
    ------
    InputError
        If there is no table of floats, it is float16 already, or float16 can't hold it.
    """
    _check_weights(weights)
    model = _copy(model)
    table = _token_table(model.graph)
    if weights == "float16":
        half = _as_half(table)
        nodes = [_to_float("token_table_half", "token_table")]
        _replace_table(model.graph, table, nodes, {"token_table_half": half})
    else:
        whole, scale = _as_int8(table.rows)
        nodes = [
            _to_float("token_table_int8", "token_table_cast"),
            helper.make_node("Mul", ["token_table_cast", "token_table_scale"], ["token_table"], name="token_table"),
        ]
        _replace_table(model.graph, table, nodes, {"token_table_int8": whole, "token_table_scale": scale})
    return _checked(model)


def prune_tokens(model: onnx.ModelProto, used_ids: Iterable[int] | NDArray[np.integer[Any]]) -> onnx.ModelProto:
    """Keep the vectors of the tokens used, and one for all others: the mean of theirs.

    The tokenizer stays as it is: one more Gather maps its ids to rows.

    Parameters
    ----------
    model : ModelProto
        A static encoder's graph; it isn't changed.
    used_ids : ints
        Token ids, in any order.

    Raises
    ------
    InputError
        If the graph has no table of token vectors that can be pruned, an id is outside it, or none or all of its tokens are used.
    """
    if _is_transformer(model.graph):
        raise InputError(
            "The artifact's encoder is a transformer, whose tokens can't be pruned: a table's mean vector stands for no token "
            "there. Give 'weights' only."
        )
    model = _copy(model)
    table = _token_table(model.graph)
    if table.gather.input[1] != "input_ids":
        raise InputError(
            "The artifact's tokens have been pruned already; give the artifact that 'router-ml fit' wrote."
        )
    used = np.unique(np.fromiter(used_ids, dtype=np.int64))
    n_tokens = len(table.rows)
    if len(used) == 0 or used[0] < 0 or used[-1] >= n_tokens:
        raise InputError(
            f"{len(used)} token ids are given{f', from {used[0]} to {used[-1]}' if len(used) else ''}; needed at least one, each "
            f"from 0 to {n_tokens - 1}. Take those that the artifact's tokenizer gives for the traffic."
        )
    if len(used) == n_tokens:
        raise InputError(f"All {n_tokens:,} tokens are used, so there is none to prune. Give 'weights' only.")
    others = np.delete(table.rows, used, axis=0).mean(axis=0, dtype=np.float64)
    rows = np.concatenate([table.rows[used], others[None].astype(table.rows.dtype)])
    row_of = np.full(n_tokens, len(used), dtype=np.int32)
    row_of[used] = np.arange(len(used))
    nodes = [helper.make_node("Gather", ["token_row_of", "input_ids"], ["token_row"], name="token_row", axis=0)]
    constants = {"token_row_of": row_of, "token_table_kept": rows}
    table.gather.input[1] = "token_row"
    if rows.dtype == np.float16:
        nodes.append(_to_float("token_table_kept", "token_table"))
    else:
        constants["token_table"] = constants.pop("token_table_kept")
    _replace_table(model.graph, table, nodes, constants)
    return _checked(model)


def quantize_transformer(model: onnx.ModelProto) -> onnx.ModelProto:
    """Quantise a transformer encoder dynamically: int8 matrices, one scale a column; activations as they come; int8 token vectors.

    What comes after the encoder (the learner, the novelty) stays as it is.

    Parameters
    ----------
    model : ModelProto
        An artifact's graph; it isn't changed.

    Raises
    ------
    InputError
        If the encoder has no product with a matrix of floats.

    Notes
    -----
    The scale of the activations is that of a whole batch, so what a prompt comes to depends on what it is run with (MiniLM's
    `p_meets` by up to 0.05). The matrices keep to seven bits, which onnxruntime's `quantize_dynamic` advises for processors
    without VNNI, especially with a scale a column: an artifact doesn't know where it will run. On one such processor it made no
    difference (MiniLM's `p_meets` moved by 0.008 on the mean with either).
    """
    head = _behind(model.graph, "log_n_chars")
    constants = {c.name for c in model.graph.initializer if c.data_type == TensorProto.FLOAT}
    products = [
        n.name
        for n in model.graph.node
        if n.op_type in ("MatMul", "Gemm") and n.name not in head and n.input[1] in constants
    ]
    if not _is_transformer(model.graph) or not products:
        raise InputError(
            "The artifact's encoder holds no matrix of floats to quantise: it isn't a transformer, or it has been quantised "
            "already. Give the artifact that 'router-ml fit' wrote."
        )
    return quantize_table(_dynamic(model, products), "int8")


def compress(
    artifact_path: str | Path,
    out: str | Path,
    *,
    prompts: Sequence[str],
    weights: Weights | None = None,
    prune_to: Sequence[str] | None = None,
    quality: ArrayLike | None = None,
    cost_usd: ArrayLike | None = None,
) -> Compression:
    """Write a smaller artifact, after comparing it with the one that it is made from.

    The file is written under another name, loaded and compared as any user of it would, and only then moved into place.

    Parameters
    ----------
    artifact_path : str or Path
        What ``router-ml fit`` wrote.
    out : str or Path
        Where to write; not over the artifact itself.
    prompts : sequence of n str
        What to compare on: prompts of the traffic that it is for.
    weights : {"float16", "int8"}, optional
        What the token vectors are stored as; for a transformer ``"int8"``, and its matrices too.
    prune_to : sequence of str, optional
        Keep the vectors of these prompts' tokens only.
    quality, cost_usd : array-like [n, T], optional
        What was observed, NaN where it wasn't; where every tier was, AIQ is compared.

    Raises
    ------
    ArtifactError
        If the artifact can't be read.
    InputError
        If nothing is asked for, what is asked for isn't possible with this artifact, or no prompt is given.
    ExportError
        If it differs by more than :data:`TOLERANCES` allows, or can't be written.
    """
    artifact_path, out = Path(artifact_path), Path(out)
    _check_request(artifact_path, out, prompts, weights, prune_to)
    artifact = read_artifact(artifact_path)
    before = Router(artifact)
    ids = [] if prune_to is None else _token_ids(before, prune_to)
    kept = np.unique(np.concatenate(ids)) if ids else None
    small, metadata = _compressed(artifact, weights, kept)
    kind = _kind(small, weights, kept)
    with replacing(out, ExportError) as temporary:
        temporary.write_bytes(seal(small, metadata, artifact.tokenizer, artifact.acceptance, artifact.neighbours))
        after = Router.load(temporary)
        expected, got = _predict(before, prompts), _predict(after, prompts)
        difference = _difference(before, expected, got)
        is_home = prune_to is None or list(prune_to) == list(prompts)
        _check_tolerance(difference if is_home else _compare(before, after, prune_to or ()), kind)
        worth = [_worth(before, p, quality, cost_usd) for p in (expected, got)]
        sizes = artifact_path.stat().st_size, temporary.stat().st_size
        unseen = None if prune_to is None else _unseen(artifact, before, weights, prune_to, ids)
    aiq, closed = zip(*((None, None) if w is None else (w.aiq, _finite(w.gap_closed)) for w in worth), strict=True)
    return Compression(
        kind,
        len(prompts),
        *sizes,
        *difference,
        tolerance=TOLERANCES[_tolerance_of(kind)],
        aiq_before=aiq[0],
        aiq_after=aiq[1],
        aiq_loss=None if aiq[0] is None or aiq[1] is None else aiq[0] - aiq[1],
        gap_closed_before=closed[0],
        gap_closed_after=closed[1],
        tokens_kept=None if kept is None else len(kept),
        unseen_max_difference=None if unseen is None else unseen.max_difference,
        unseen_agreement=None if unseen is None else unseen.agreement,
    )


# The graph


class _Table(NamedTuple):
    """The table of token vectors [V, d]: the node that reads it, where it is stored, and the cast between, if any."""

    gather: onnx.NodeProto
    rows: NDArray[np.floating]
    stored: onnx.TensorProto
    cast: onnx.NodeProto | None


def _token_table(graph: onnx.GraphProto) -> _Table:
    stored = {c.name: c for c in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type != "Gather" or not _is_token_id(node.input[1], made_by):
            continue
        source = made_by.get(node.input[0])
        cast = source if source is not None and source.op_type == "Cast" else None
        tensor = stored.get(node.input[0] if cast is None else cast.input[0])
        floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
        if tensor is not None and len(tensor.dims) == 2 and tensor.data_type in floats:
            return _Table(node, numpy_helper.to_array(tensor), tensor, cast)
    raise InputError(
        "The artifact has no table of token vectors as floats: it has been quantised already, or its encoder has none. Give the "
        "artifact that 'router-ml fit' wrote."
    )


def _is_token_id(name: str, made_by: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether a value is `input_ids`, maybe copied, or mapped to rows."""
    while name != "input_ids":
        node = made_by.get(name)
        if node is None or node.op_type not in ("Identity", "Cast", "Gather"):
            return False
        name = node.input[1 if node.op_type == "Gather" else 0]
    return True


def _replace_table(
    graph: onnx.GraphProto, table: _Table, nodes: Sequence[onnx.NodeProto], constants: Mapping[str, NDArray[Any]]
) -> None:
    """Let the table be the value ``token_table`` that the new nodes and constants give, and drop the old one."""
    table.gather.input[0] = "token_table"
    if table.cast is not None:
        graph.node.remove(table.cast)
    graph.initializer.remove(table.stored)
    # A node comes after what it needs: these need constants and inputs only.
    for node in reversed(nodes):
        graph.node.insert(0, node)
    graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items())


def _to_float(source: str, name: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [name], name=name, to=TensorProto.FLOAT)


def _as_half(table: _Table) -> NDArray[np.float16]:
    if table.rows.dtype == np.float16:
        raise InputError(
            "The token vectors are float16 already, so the file wouldn't become smaller. Give 'int8', or prune."
        )
    with np.errstate(over="ignore"):
        half = table.rows.astype(np.float16)
    if not np.isfinite(half).all():
        raise InputError(
            f"A token vector holds {np.abs(table.rows).max():.3g}, beyond float16's largest, 65,504. Give 'int8'."
        )
    return half


def _as_int8(rows: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers [V, d] from -127 to 127, and what one of them is worth in each row [V, 1]."""
    exact = rows.astype(np.float64)
    largest = np.abs(exact).max(axis=1, keepdims=True)
    scale = (np.where(largest > 0, largest, 1.0) / 127).astype(np.float32)
    return np.clip(np.rint(exact / scale), -127, 127).astype(np.int8), scale


def _dynamic(model: onnx.ModelProto, products: list[str]) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    prepared = _copy(model)
    # Without this mark it says on stderr, through the root logger, that shapes might be inferred first; they needn't be.
    prepared.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantized.onnx"
        quantize_dynamic(
            prepared,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_quantize=products,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(path)


def _behind(graph: onnx.GraphProto, name: str) -> set[str]:
    """Names of the nodes that a value goes into, at once or through others (a node comes after what it needs)."""
    values, nodes = {name}, set()
    for node in graph.node:
        if values.intersection(node.input):
            values.update(node.output)
            nodes.add(node.name)
    return nodes


def _is_transformer(graph: onnx.GraphProto) -> bool:
    return any(i.name == "attention_mask" for i in graph.input)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _checked(model: onnx.ModelProto) -> onnx.ModelProto:
    onnx.checker.check_model(model)
    return model


# The artifact


def _check_weights(weights: str) -> None:
    if weights not in WEIGHTS:
        raise InputError(f"'weights' is {weights!r}; choose from {list(WEIGHTS)}.")


def _check_request(
    path: Path, out: Path, prompts: Sequence[str], weights: Weights | None, prune_to: Sequence[str] | None
) -> None:
    if weights is None and prune_to is None:
        raise InputError("Nothing is asked for; give 'weights' ('float16' or 'int8'), or prompts to prune to, or both.")
    if weights is not None:
        _check_weights(weights)
    if not len(prompts) or (prune_to is not None and not len(prune_to)):
        raise InputError("There is no prompt to compare on or to prune to; give traffic with at least one.")
    if path.exists() and out.exists() and path.samefile(out):
        raise InputError(f"{out} is the artifact itself, which is needed to make another from; give another name.")


def _compressed(
    artifact: Artifact, weights: Weights | None, kept: NDArray[np.int64] | None
) -> tuple[onnx.ModelProto, Metadata]:
    """The smaller graph, and the metadata that say so."""
    model = onnx.load_from_string(artifact.model)
    provenance = dict(artifact.metadata.provenance)
    if kept is not None:
        model = prune_tokens(model, kept)
        provenance["pruned_to_tokens"] = len(kept)
    if weights is not None:
        model = _with_weights(model, weights, is_pruned=kept is not None)
        provenance["weights"] = weights
    return model, dataclasses.replace(artifact.metadata, provenance=provenance)


def _with_weights(model: onnx.ModelProto, weights: Weights, *, is_pruned: bool) -> onnx.ModelProto:
    if not _is_transformer(model.graph):
        if weights == "float16" and is_pruned and _token_table(model.graph).rows.dtype == np.float16:
            return model  # as asked for, and smaller already
        return quantize_table(model, weights)
    if weights == "float16":
        raise InputError("The artifact's encoder is a transformer, for which 'weights' can be 'int8' only. Give that.")
    return quantize_transformer(model)


def _kind(model: onnx.ModelProto, weights: Weights | None, kept: NDArray[np.int64] | None) -> str:
    words = ["transformer"] if _is_transformer(model.graph) else []
    if kept is not None:
        words.append("pruned")
    if weights is not None:
        words.append(weights)
    return " ".join(words)


def _tolerance_of(kind: str) -> str:
    """The key of `TOLERANCES`: the weights' own is the wider one."""
    return kind if kind in TOLERANCES else kind.removeprefix("pruned ")


# The comparison


class _Difference(NamedTuple):
    max_difference: float
    mean_difference: float
    agreement: float


def _compare(before: Router, after: Router, prompts: Sequence[str]) -> _Difference:
    return _difference(before, _predict(before, prompts), _predict(after, prompts))


def _predict(router: Router, prompts: Sequence[str]) -> Prediction:
    """Predict as :meth:`Router.route` does: in a quantised transformer a prompt's answer depends on what it is run with."""
    if "attention_mask" not in router.metadata.inputs:
        return router.predict(prompts)
    return Prediction.concatenate([router.predict([p]) for p in prompts])


def _difference(router: Router, expected: Prediction, got: Prediction) -> _Difference:
    difference = np.abs(expected.p_meets.astype(np.float64) - got.p_meets)
    policy, knob = router.setting.policy, router.setting.knob
    chosen = [choose(policy, knob, p.p_meets, p.quality, p.cost_usd) for p in (expected, got)]
    return _Difference(float(difference.max()), float(difference.mean()), float((chosen[0] == chosen[1]).mean()))


def _check_tolerance(difference: _Difference, kind: str) -> None:
    allowed = TOLERANCES[_tolerance_of(kind)]
    if not difference.max_difference <= allowed:
        raise ExportError(
            f"The smaller artifact ({kind}) answers otherwise: p_meets differs by up to {difference.max_difference:.2g} (allowed "
            f"{allowed:g}), {difference.agreement:.2%} of the decisions are the same. Nothing was written. Use the artifact as it "
            "is, or compress it less."
        )


def _worth(
    router: Router, prediction: Prediction, quality: ArrayLike | None, cost_usd: ArrayLike | None
) -> FrontierMetrics | None:
    """The figures of the default policy's sweep, where every tier was observed."""
    if quality is None or cost_usd is None:
        return None
    Q, C = np.asarray(quality, dtype=np.float64), np.asarray(cost_usd, dtype=np.float64)
    if Q.shape != prediction.p_meets.shape or C.shape != Q.shape:
        raise InputError(
            f"quality has shape {Q.shape} and cost_usd {C.shape}; needed {prediction.p_meets.shape}, a row for each prompt and a "
            "column for each tier, in ladder order."
        )
    complete = ~np.isnan(Q + C).any(axis=1)
    Q, C = Q[complete], C[complete]
    if len(Q) < 2 or Q.shape[1] < 2 or not C.mean(axis=0).max() > C[:, 0].mean():
        return None
    if router.setting.policy == "bar":
        return frontier_metrics(sweep_bar(prediction.p_meets[complete]), Q, C)
    return frontier_metrics(sweep_value(prediction.quality[complete], prediction.cost_usd[complete]), Q, C)


def _unseen(
    artifact: Artifact,
    before: Router,
    weights: Weights | None,
    prompts: Sequence[str],
    ids: Sequence[NDArray[np.int64]],
) -> _Difference | None:
    texts = np.array(prompts, dtype=np.object_)
    held = split_by_hash(texts, np.full(len(texts), ""), test_share=_UNSEEN_SHARE, random_state=0)
    if held.all() or not held.any():
        return None
    kept = np.unique(np.concatenate([i for i, out in zip(ids, held, strict=True) if not out]))
    small, metadata = _compressed(artifact, weights, kept)
    after = Router(Artifact(seal(small, metadata, artifact.tokenizer), metadata, artifact.tokenizer))
    return _compare(before, after, texts[held].tolist())


def _token_ids(router: Router, prompts: Sequence[str]) -> list[NDArray[np.int64]]:
    return router.tokenizer.encode_batch([render(p).text for p in prompts])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _or_unknown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
