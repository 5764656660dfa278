"""What a smaller artifact answers, beside the one that it was made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from router_ml.core.decision import Prediction
from router_ml.core.policy import Threshold
from router_ml.core.router import Router
from router_ml.errors import ExportError, InputError
from router_ml.evaluation.frontier import sweep_bar, sweep_value
from router_ml.evaluation.metrics import FrontierMetrics, frontier_metrics

__all__ = [
    "TOLERANCES",
    "Compression",
    "Difference",
    "check_tolerance",
    "difference",
    "predict",
    "tolerance_of",
    "worth",
]

TOLERANCES: Mapping[str, float] = MappingProxyType(
    {"float16": 1e-3, "int8": 2e-2, "pruned": 1e-4, "transformer int8": 1e-1}
)
"""How far a `p_meets` may move, by kind: a few times what was seen, so that a prompt of another sort passes and a wrong graph doesn't.

On 669 to 4,844 held-out prompts of BFCL, RouterBench and MMLU-Pro, `ngram`'s tables in int8 moved it by at most 0.0020, 0.0014 and 0.0020 (a
sum's rounding errors average out), in float16 by 0.00012. A pruned table is exact on what it was pruned to. MiniLM in int8, fitted on 150
prompts of BFCL, moved by at most 0.075 on 150 others and by 0.008 on the mean, for 0.0006 of AIQ: activations are rounded too,
at each of 36 products.
"""


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
        if self.aiq_loss is None:
            lines.append(
                "AIQ isn't compared: give traffic in which every tier's answers are judged and priced, to see what is lost"
            )
        else:
            lines.append(
                f"AIQ {self.aiq_before:.4f} before, {self.aiq_after:.4f} after (loss {self.aiq_loss:.4f}); "
                f"gap closed {_or_unknown(self.gap_closed_before)} before, {_or_unknown(self.gap_closed_after)} after"
            )
        return "\n".join(lines)


class Difference(NamedTuple):
    """Of `p_meets`, absolute; and the share of equal decisions."""

    max_difference: float
    mean_difference: float
    agreement: float


def predict(router: Router, prompts: Sequence[str]) -> Prediction:
    """Predict as :meth:`Router.route` does: in a quantised transformer a prompt's answer depends on what it is run with."""
    if "attention_mask" not in router.metadata.inputs:
        return router.predict(prompts)
    return Prediction.concatenate([router.predict([p]) for p in prompts])


def difference(router: Router, expected: Prediction, got: Prediction) -> Difference:
    """How far one prediction is from another of the same prompts, decided at the default."""
    moved = np.abs(expected.p_meets.astype(np.float64) - got.p_meets)
    rule = router.metadata.rule()
    chosen = [rule.choose(p.p_meets, p.quality, p.cost_usd, p.novelty) for p in (expected, got)]
    return Difference(float(moved.max()), float(moved.mean()), float((chosen[0] == chosen[1]).mean()))


def check_tolerance(moved: Difference, kind: str) -> None:
    """Raise ExportError for more than `TOLERANCES` allows."""
    allowed = TOLERANCES[tolerance_of(kind)]
    if not moved.max_difference <= allowed:
        raise ExportError(
            f"The smaller artifact ({kind}) answers otherwise: p_meets differs by up to {moved.max_difference:.2g} (allowed "
            f"{allowed:g}), {moved.agreement:.2%} of the decisions are the same. Nothing was written. Use the artifact as it "
            "is, or compress it less."
        )


def worth(
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
    if isinstance(router.default.policy, Threshold):
        return frontier_metrics(sweep_bar(prediction.p_meets[complete]), Q, C)
    return frontier_metrics(sweep_value(prediction.quality[complete], prediction.cost_usd[complete]), Q, C)


def tolerance_of(kind: str) -> str:
    """The key of `TOLERANCES`: the weights' own is the wider one."""
    return kind if kind in TOLERANCES else kind.removeprefix("pruned ")


def _or_unknown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
