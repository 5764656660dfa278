"""Promises: knobs of a fitted router whose expected loss is certified on prompts that it was not fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_ml.core.decision import Policy
from router_ml.core.guarantee import Guarantee, GuaranteeKind
from router_ml.core.policy import choose
from router_ml.evaluation.frontier import sweep_bar, sweep_value
from router_ml.evaluation.guarantees import certify

__all__ = ["DELTAS", "LIMITS", "CalibrationSet", "knob_grid", "make_promises"]

LIMITS = (0.01, 0.02, 0.05, 0.1)
DELTAS = (0.05, 0.1)
"""What an artifact's table holds, beside what was asked for."""
N_KNOBS = 40
"""Settings that are tested in order: a finer grid gives noise more occasions to stop the sequence."""
MIN_SLICE = 300
"""Calibration prompts of a slice that gets promises of its own."""


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """Prompts that a promise is to rest on, none of which the router was fitted on.

    Attributes
    ----------
    p_meets, expected_quality, expected_cost_usd : array [n, T]
        What the router says.
    to_safety : array [n] of bool
        Prompts that go to the reference tier since they are novel.
    quality, meets, cost_usd : array [n, T]
        Observed; of partial logs pseudo-outcomes, and expected costs.
    bound : float
        The largest loss that there can be: 1, and more with pseudo-outcomes.
    note : str
        What the promises rest on beside exchangeable traffic; empty: nothing.
    slices : mapping of name to array [n] of str
        ``"category"`` to the prompts' values.
    """

    p_meets: NDArray[np.float64]
    expected_quality: NDArray[np.float64]
    expected_cost_usd: NDArray[np.float64]
    to_safety: NDArray[np.bool_]
    quality: NDArray[np.float64]
    meets: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    bound: float
    note: str
    slices: Mapping[str, NDArray[np.str_]]

    def choices(self, policy: Policy, knobs: NDArray[np.float64], reference: int) -> NDArray[np.intp]:
        """The tier that each knob takes for each prompt; shape [n, K]."""
        picked = [
            choose(policy, knob, self.p_meets, self.expected_quality, self.expected_cost_usd) for knob in knobs.tolist()
        ]
        return np.where(self.to_safety[:, None], reference, np.column_stack(picked))

    def losses(self, picked: NDArray[np.intp], reference: int) -> dict[GuaranteeKind, NDArray[np.float64]]:
        """What each kind of promise bounds, for each prompt and knob of :meth:`choices`; shape [n, K] each."""
        return {
            "loss": self.quality[:, [reference]] - np.take_along_axis(self.quality, picked, axis=1),
            "violation": 1 - np.take_along_axis(self.meets, picked, axis=1),
        }

    def saving(self, picked: NDArray[np.intp], reference: int) -> NDArray[np.float64]:
        """Share of the reference tier's cost that each knob of :meth:`choices` saves; shape [K]."""
        spent = np.take_along_axis(self.cost_usd, picked, axis=1).sum(axis=0)
        return np.asarray(1 - spent / self.cost_usd[:, reference].sum())

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """The given prompts only."""
        tables = {f.name: getattr(self, f.name) for f in fields(self)}
        taken: dict[str, Any] = {n: value[rows] for n, value in tables.items() if isinstance(value, np.ndarray)}
        return replace(self, **taken, slices={name: values[rows] for name, values in self.slices.items()})


def knob_grid(
    policy: Policy,
    p_meets: NDArray[np.float64],
    expected_quality: NDArray[np.float64],
    expected_cost_usd: NDArray[np.float64],
    *,
    n_knobs: int = N_KNOBS,
) -> NDArray[np.float64]:
    """Knobs from the safest to the boldest, at even steps of expected cost; shape [K].

    From predictions on prompts other than those that the knobs are tested on: they have to be fixed before.
    """
    sweep = sweep_bar(p_meets) if policy == "bar" else sweep_value(expected_quality, expected_cost_usd)
    usable = np.isfinite(sweep.knob)
    knob, choices = sweep.knob[usable], sweep.choices[usable]
    rows = np.arange(choices.shape[1])
    cost = np.array([expected_cost_usd[rows, c].mean() for c in choices])
    order = np.argsort(-knob if policy == "bar" else knob, kind="stable")
    knob, cost = knob[order], cost[order]
    wanted = np.linspace(cost[0], cost[-1], n_knobs)
    nearest = np.unique(np.abs(cost[:, None] - wanted).argmin(axis=0))
    grid = knob[nearest]
    return np.unique(np.minimum(grid, 1.0))[::-1] if policy == "bar" else np.unique(grid)


def make_promises(
    calibration: CalibrationSet,
    policy: Policy,
    knobs: NDArray[np.float64],
    reference: int,
    *,
    limits: Mapping[GuaranteeKind, Sequence[float]],
    deltas: Sequence[float],
    random_state: int,
) -> tuple[Guarantee, ...]:
    """Certify the boldest knob for each limit and delta, for all prompts and for each slice of 300 or more.

    Parameters
    ----------
    calibration : CalibrationSet
    policy : {"bar", "value"}
    knobs : array [K]
        From the safest to the boldest, fixed before the calibration set was seen (:func:`knob_grid`).
    reference : int
        Index of the tier that losses are measured against, fixed before, too.
    limits : mapping of kind to limits
    deltas : sequence of float
    random_state : int
        Shuffles the prompts, see `router_ml.evaluation.guarantees.betting_p_value`.

    Returns
    -------
    tuple of Guarantee
        Each holds for itself.

    References
    ----------
    Angelopoulos, Bates, Candès, Jordan, Lei (2021), "Learn then test", arXiv:2110.01052.
    """
    picked = calibration.choices(policy, knobs, reference)
    losses = calibration.losses(picked, reference)
    everyone = np.ones(len(picked), dtype=bool)
    parts = [(None, everyone), *_slices(calibration.slices)]
    promises = []
    for name, rows in parts:
        saving = calibration.take(rows).saving(picked[rows], reference)
        for kind, table in losses.items():
            for limit in sorted(set(limits.get(kind, ()))):
                for delta in sorted(set(deltas)):
                    found = certify(
                        table[rows] / calibration.bound,
                        limit / calibration.bound,
                        delta,
                        # Of 0 and 1 the exact test is the strongest there is.
                        method="binomial" if kind == "violation" and calibration.bound == 1 else "betting",
                        random_state=random_state,
                    )
                    index = found.index
                    promises.append(
                        Guarantee(
                            kind,
                            limit,
                            delta,
                            policy,
                            knob=None if index is None else float(knobs[index]),
                            n=found.n,
                            mean_loss=None if index is None else float(table[rows, index].mean()),
                            saving=None if index is None else float(saving[index]),
                            rows_needed=found.rows_needed,
                            slice=name,
                            note=calibration.note,
                        )
                    )
    return tuple(promises)


def _slices(slices: Mapping[str, NDArray[np.str_]]) -> list[tuple[str, NDArray[np.bool_]]]:
    found = []
    for column, values in slices.items():
        names, counts = np.unique(values, return_counts=True)
        kept = [str(v) for v, n in zip(names, counts, strict=True) if n >= MIN_SLICE and n < len(values) and v]
        found += [(f"{column}={value}", np.asarray(values == value)) for value in kept]
    return found
