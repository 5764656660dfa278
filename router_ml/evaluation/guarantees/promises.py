"""Promises: policies of a fitted router whose expected loss is certified on prompts that it was not fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from router_ml.core.guarantee import Guarantee, GuaranteeKind
from router_ml.core.menu import OperatingPoint
from router_ml.core.policy import Policy, Reference, Rule, Shortfall
from router_ml.evaluation.frontier import sweep_value
from router_ml.evaluation.guarantees import Certificate, Method, certify, rows_needed
from router_ml.evaluation.tradeoff import Expectations

__all__ = ["DELTAS", "LIMITS", "CalibrationSet", "make_promises", "policy_grid", "prompts_to_certify", "with_points"]

LIMITS = (0.005, 0.01, 0.02, 0.05, 0.1)
DELTAS = (0.05, 0.1)
"""What an artifact's table holds, beside what was asked for."""
N_POLICIES = 40
"""Policies that are tested in order. A finer grid lowers power: the sequence stops at the first failed test."""
MIN_SLICE = 300
"""Units of a slice that gets promises of its own."""
_WORST = 1.0
"""The loss of an answer of which nothing is known."""


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """Prompts that a promise is to rest on, none of which the router was fitted on.

    Attributes
    ----------
    expected : Expectations
        Predicted by the router.
    quality, meets, cost_usd : array [n, T]
        Observed; of partial logs pseudo-outcomes, and expected costs.
    bound : float
        The largest loss that there can be: 1, and more with pseudo-outcomes.
    note : str
        What the promises rest on beside exchangeable traffic; empty: nothing.
    slices : mapping of name to array [n] of str
        ``"category"`` to the prompts' values.
    unit : array [n] of int
        Prompts of one number were drawn together (a session): they count as one, by the mean of their losses. Each prompt its own
        where not given.
    exact : bool
        Test exactly, and let one prompt of each unit, drawn at random, stand for it: stronger where answers are right or wrong, and few
        prompts belong together. To be decided without these prompts.
    supported : array [n, T] of bool
        Whether anything is known of the tier on such prompts. All where not given. What isn't known counts as the worst: a loss of 1.
    """

    expected: Expectations
    quality: NDArray[np.float64]
    meets: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    bound: float
    note: str
    slices: Mapping[str, NDArray[np.str_]]
    unit: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    exact: bool = False
    supported: NDArray[np.bool_] = field(default_factory=lambda: np.empty((0, 0), dtype=bool))

    def __post_init__(self) -> None:
        if not self.unit.size:
            object.__setattr__(self, "unit", np.arange(len(self.quality)))
        if not self.supported.size:
            object.__setattr__(self, "supported", np.ones(self.quality.shape, dtype=bool))

    def choices(self, rule: Rule, policies: Sequence[Policy]) -> NDArray[np.intp]:
        """The tier that each policy takes for each prompt, by the rule otherwise; shape [n, K]."""
        return np.column_stack([self.expected.choices(replace(rule, policy=policy)) for policy in policies])

    def losses(self, picked: NDArray[np.intp], reference: int) -> dict[GuaranteeKind, NDArray[np.float64]]:
        """What each kind of promise bounds, for each prompt and policy of :meth:`choices`; shape [n, K] each."""
        known = np.take_along_axis(self.supported, picked, axis=1)
        lost = self.quality[:, [reference]] - np.take_along_axis(self.quality, picked, axis=1)
        # The reference tier loses nothing against itself, known or not.
        comparable = (known & self.supported[:, [reference]]) | (picked == reference)
        return {
            "loss": np.where(comparable, lost, _WORST),
            "violation": np.where(known, 1 - np.take_along_axis(self.meets, picked, axis=1), _WORST),
        }

    def saving(self, picked: NDArray[np.intp], reference: int) -> NDArray[np.float64]:
        """Share of the reference tier's cost that each policy of :meth:`choices` saves; shape [K]."""
        spent = np.take_along_axis(self.cost_usd, picked, axis=1).sum(axis=0)
        return np.asarray(1 - spent / self.cost_usd[:, reference].sum())

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """The given prompts only."""
        tables = {f.name: getattr(self, f.name) for f in fields(self)}
        taken: dict[str, Any] = {n: value[rows] for n, value in tables.items() if isinstance(value, np.ndarray)}
        taken["expected"] = self.expected.take(rows)
        return replace(self, **taken, slices={name: values[rows] for name, values in self.slices.items()})


def policy_grid(expected: Expectations, rule: Rule, *, n_policies: int = N_POLICIES) -> tuple[Policy, ...]:
    """Policies from the safest to the boldest, at even steps of expected cost.

    From predictions on prompts other than those that the policies are tested on: they have to be fixed before.
    """
    if expected.quality.shape[1] < 2:
        return (Shortfall(0.0),)
    sweep = sweep_value(expected.quality, expected.cost_usd)
    usable = np.isfinite(sweep.knob)
    order = np.argsort(sweep.knob[usable], kind="stable")
    price, choices = sweep.knob[usable][order], sweep.choices[usable][order]
    rows = np.arange(choices.shape[1])
    cost = np.array([expected.cost_usd[rows, c].mean() for c in choices])
    wanted = np.linspace(cost[0], cost[-1], n_policies)
    nearest = np.unique(np.abs(cost[:, None] - wanted).argmin(axis=0))
    return tuple(Shortfall(float(e)) for e in np.unique(price[nearest]) * rule.reference_cost_usd)


def with_points(policies: Sequence[Policy], points: Sequence[OperatingPoint]) -> tuple[Policy, ...]:
    """Add the operating points' own policies to a grid of :func:`policy_grid`, in its order, so that they are tested, too."""
    epsilons = {p.epsilon for p in (*policies, *(point.policy for point in points)) if isinstance(p, Shortfall)}
    return tuple(map(Shortfall, sorted(epsilons)))


def prompts_to_certify(
    calibration: CalibrationSet, rule: Rule, policy: Policy, limit: float, delta: float
) -> tuple[float, float]:
    """About how many prompts it takes to certify a policy for a limit on the loss, at the loss that is observed.

    Returns
    -------
    mean_loss : float
        Of the policy, against the reference tier.
    n : float
        Prompts to certify on, those at hand included; infinite where the observed loss isn't under the limit.
    """
    picked = calibration.choices(rule, [policy])
    means = _unit_means(calibration.losses(picked, rule.reference)["loss"], calibration.unit)
    more = rows_needed(means / calibration.bound, limit / calibration.bound, delta)
    return float(means.mean()), len(means) + more


def make_promises(
    calibration: CalibrationSet,
    policies: Sequence[Policy],
    rule: Rule,
    *,
    limits: Mapping[GuaranteeKind, Sequence[float]],
    deltas: Sequence[float],
    random_state: int,
) -> tuple[Guarantee, ...]:
    """Certify the boldest policy for each limit and delta, for all prompts and for each slice of 300 or more.

    Parameters
    ----------
    calibration : CalibrationSet
    policies : sequence of K Policy
        From the safest to the boldest, fixed before the calibration set was seen (:func:`policy_grid`).
    rule : Rule
        Novelty and the reference tier, that losses are measured against, fixed before, too; its own policy doesn't matter.
    limits : mapping of kind to limits
    deltas : sequence of float
    random_state : int
        Shuffles the prompts, see `router_ml.evaluation.guarantees.betting_p_value`.

    Returns
    -------
    tuple of Guarantee
        Each holds for itself. None is bolder than one of a larger limit or delta, so that where the boldest that would do isn't certified,
        no stricter one is.

    Notes
    -----
    What is promised is a mean over units: the mean loss in a session (or of a prompt asked again and again) like these, whatever its
    length. A test that took the prompts of a session for independent would promise too much.

    References
    ----------
    Angelopoulos, Bates, Candès, Jordan, Lei (2021), "Learn then test", arXiv:2110.01052.
    """
    reference = rule.reference
    picked = calibration.choices(rule, policies)
    losses = calibration.losses(picked, reference)
    parts = [(None, np.ones(len(picked), dtype=bool)), *_slices(calibration.slices, calibration.unit)]
    promises = []
    for name, rows in parts:
        saving = calibration.take(rows).saving(picked[rows], reference)
        for kind, table in losses.items():
            means = _unit_means(table[rows], calibration.unit[rows])
            method = _method(kind, calibration, single=len(means) == rows.sum())
            tested = means
            if method != "betting":
                tested = table[rows][_one_each(calibration.unit[rows], random_state)]
            certified = _certify_all(
                tested / calibration.bound,
                {limit: limit / calibration.bound for limit in sorted(set(limits.get(kind, ())))},
                sorted(set(deltas)),
                method=method,
                random_state=random_state,
            )
            for (limit, delta), (index, needed) in certified.items():
                promises.append(
                    Guarantee(
                        kind,
                        limit,
                        delta,
                        policy=Reference() if index is None else policies[index],
                        certified=index is not None,
                        n=len(means),
                        mean_loss=None if index is None else float(means[:, index].mean()),
                        saving=None if index is None else float(saving[index]),
                        rows_needed=needed,
                        slice=name,
                        note=calibration.note,
                    )
                )
    return tuple(promises)


def _certify_all(
    table: NDArray[np.float64],
    limits: Mapping[float, float],
    deltas: Sequence[float],
    *,
    method: Method,
    random_state: int,
) -> dict[tuple[float, float], tuple[int | None, float]]:
    """The boldest certified setting for each limit (mapped to the table's scale) and delta, and the rows that are lacking."""
    found: dict[tuple[float, float], Certificate] = {
        (limit, delta): certify(table, scaled, delta, method=method, random_state=random_state)
        for limit, scaled in limits.items()
        for delta in deltas
    }
    boldest: dict[tuple[float, float], tuple[int | None, float]] = {}
    for (limit, delta), own in found.items():
        # With each certificate all settings before its boldest are certified, too, so that a safer one may be taken.
        weaker = [c for (other, d), c in found.items() if other >= limit and d >= delta]
        indices = [c.index for c in weaker if c.index is not None]
        index = min(indices) if len(indices) == len(weaker) else None
        boldest[limit, delta] = index, 0.0 if index is not None else max(1.0, own.rows_needed)
    return boldest


def _method(kind: GuaranteeKind, calibration: CalibrationSet, *, single: bool) -> Method:
    """The strongest test there is; `single`: each prompt is a unit of its own."""
    if calibration.bound == 1 and kind == "violation" and (single or calibration.exact):
        return "binomial"
    return "trinomial" if calibration.bound == 1 and calibration.exact else "betting"


def _one_each(unit: NDArray[np.intp], random_state: int) -> NDArray[np.intp]:
    """The row of a random prompt of each unit: its expected loss is the unit's mean."""
    shuffled = np.random.default_rng(random_state).permutation(len(unit))
    return np.asarray(shuffled[np.unique(unit[shuffled], return_index=True)[1]])


def _unit_means(table: NDArray[np.float64], unit: NDArray[np.intp]) -> NDArray[np.float64]:
    """The mean row of each unit; shape [units, K], in the order of the units' numbers."""
    first, at, counts = np.unique(unit, return_inverse=True, return_counts=True)
    if len(first) == len(table):
        return np.asarray(table[np.argsort(unit)])
    sums = np.zeros((len(first), table.shape[1]))
    np.add.at(sums, at, table)
    return np.asarray(sums / counts[:, None])


def _slices(slices: Mapping[str, NDArray[np.str_]], unit: NDArray[np.intp]) -> list[tuple[str, NDArray[np.bool_]]]:
    found = []
    for column, values in slices.items():
        for value in np.unique(values):
            rows = np.asarray(values == value)
            if value and not rows.all() and len(np.unique(unit[rows])) >= MIN_SLICE:
                found.append((f"{column}={value}", rows))
    return found
