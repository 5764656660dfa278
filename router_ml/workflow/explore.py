"""What to explore beside an artifact, so that the next log can train and judge a router."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml.core.router import Router
from router_ml.errors import InputError
from router_ml.evaluation.off_policy import plan_exploration
from router_ml.evaluation.off_policy.plan_report import RouterExploration, Stratum
from router_ml.traffic.validate import MAX_REJECTS
from router_ml.workflow.data import read_traffic

__all__ = ["By", "plan_router_exploration"]

By: TypeAlias = Literal["category", "source", "p_meets"]

_MIN_STRATUM = 30
"""Values with fewer prompts of the traffic are planned for together: their shares and means are too uncertain."""
_OTHER = "(other)"
_BANDS = 3


def plan_router_exploration(
    router: Router,
    paths: Sequence[str | Path],
    *,
    budget_usd: float,
    n_prompts: int,
    max_epsilon: float = 0.2,
    by: By | None = None,
    max_rejects: float = MAX_REJECTS,
) -> RouterExploration:
    """Say which prompts to send to which other tier how often, for a budget.

    Parameters
    ----------
    router : Router
        Serves, at its default setting; its predictions say what a call costs and how uncertain its quality is.
    paths : sequence of str or Path
        Traffic like that to come. Of its columns only prompt, category and source are used.
    budget_usd : float
        What exploring may cost beyond serving, > 0.
    n_prompts : int
        Prompts to plan for, >= 1.
    max_epsilon : float
        Largest share of a stratum to explore, in (0, 1).
    by : {"category", "source", "p_meets"}, optional
        What strata are made by, beside the tier that serves: a column of the traffic, or bands of the serving tier's p_meets, which
        each decision holds. The first column with more than one value where not given, else the bands.
    max_rejects : float
        Largest share of invalid rows to accept before failing.

    Raises
    ------
    InputError
        A value out of its range, or a column that holds one value only.

    Notes
    -----
    The spread of a tier's quality in a stratum is taken to be ``sqrt(mean(q (1 - q)))`` of the predicted qualities: what is
    left to a doubly robust estimate with the router's predictions, if these are calibrated and qualities are 0 or 1.
    Graded qualities vary less, so that the standard errors are then upper bounds. See `plan_exploration` for the method.
    """
    if n_prompts < 1:
        raise InputError(f"n_prompts is {n_prompts}; needed at least 1: the prompts to plan for.")
    traffic = read_traffic(paths, max_rejects=max_rejects).traffic
    prompts = traffic.unique("prompt_id", keep="first", maintain_order=True)
    texts = prompts["prompt"].to_list()
    prediction = router.predict(texts)
    decisions = router.route_batch(texts)
    names = router.ladder.names
    served = np.array([names.index(d.tier) for d in decisions], dtype=np.intp)
    made_by, values = _values(prompts, by, served, np.array([d.p_meets for d in decisions]))
    keys = list(zip(values, served.tolist(), strict=True))
    strata = sorted(set(keys), key=lambda k: (k[0], k[1]))
    at = np.array([strata.index(k) for k in keys])

    def mean_by_stratum(table: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.stack([table[at == s].mean(axis=0, dtype=np.float64) for s in range(len(strata))])

    sizes = n_prompts * np.bincount(at) / len(at)
    quality = prediction.quality.astype(np.float64).clip(0, 1)
    expected, cost_usd = mean_by_stratum(quality), mean_by_stratum(prediction.cost_usd)
    home = np.array([tier for _, tier in strata])
    plan = plan_exploration(
        sizes, np.sqrt(mean_by_stratum(quality * (1 - quality))), cost_usd, home, budget_usd, max_epsilon=max_epsilon
    )
    at_home = np.arange(len(home)), home
    extra = plan.calls * np.maximum(cost_usd - cost_usd[at_home][:, None], 0)
    lost = plan.calls * (expected[at_home][:, None] - expected)
    with np.errstate(divide="ignore"):
        effective_n = n_prompts**2 / (sizes[:, None] / plan.probability).sum(axis=0)
    return RouterExploration(
        tiers=names,
        by=made_by,
        n_prompts=n_prompts,
        budget_usd=budget_usd,
        extra_cost_usd=plan.extra_cost_usd,
        max_epsilon=max_epsilon,
        share=plan.share,
        quality_loss=float(lost.sum() / n_prompts),
        strata=tuple(
            Stratum(value, names[tier], float(n), float(epsilon), tuple(p), float(usd))
            for (value, tier), n, epsilon, p, usd in zip(
                strata, sizes, plan.epsilon, plan.probability.tolist(), extra.sum(axis=1), strict=True
            )
        ),
        calls=tuple(plan.calls.sum(axis=0).tolist()),
        standard_error=tuple(plan.standard_error.tolist()),
        effective_n=tuple(effective_n.tolist()),
    )


def _values(
    prompts: pl.DataFrame,
    by: By | None,
    served: NDArray[np.intp],
    p_meets: NDArray[np.float64],
) -> tuple[By, list[str]]:
    """What the strata are made by, and each prompt's value of it."""
    varied = [c for c in ("category", "source") if prompts[c].n_unique() > 1]
    if by is None:
        by = "category" if "category" in varied else "source" if varied else "p_meets"
    if by == "p_meets":
        return by, _bands(served, p_meets)
    if by not in varied:
        raise InputError(f"The traffic holds one {by} only; make strata by p_meets, or leave 'by' out.")
    found = prompts[by].fill_null(_OTHER).to_list()
    rare = {row[0] for row in prompts[by].fill_null(_OTHER).value_counts().iter_rows() if row[1] < _MIN_STRATUM}
    return by, [_OTHER if value in rare else value for value in found]


def _bands(served: NDArray[np.intp], p_meets: NDArray[np.float64]) -> list[str]:
    """Thirds of the serving tier's p_meets, with ends of two digits, so that a gateway can tell them from a decision."""
    bands = np.empty(len(served), dtype=object)
    for tier in np.unique(served):
        rows = served == tier
        n_bands = min(_BANDS, max(1, int(rows.sum()) // _MIN_STRATUM))
        inner = np.quantile(p_meets[rows], np.arange(1, n_bands) / n_bands).round(2)
        ends = np.unique([0.0, *inner, 1.0])
        at = np.searchsorted(ends[1:-1], p_meets[rows], side="right")
        bands[rows] = [f"{ends[b]:.2f} to {ends[b + 1]:.2f}" for b in at]
    return bands.tolist()
