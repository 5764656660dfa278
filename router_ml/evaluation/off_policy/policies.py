"""Policies without chance judged on one log: each by all estimators, and one against another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_ml.errors import InputError
from router_ml.evaluation.inputs import FloatArray
from router_ml.evaluation.off_policy.diagnostics import check_overlap
from router_ml.evaluation.off_policy.direct import direct
from router_ml.evaluation.off_policy.doubly_robust import Influence, doubly_robust, influence
from router_ml.evaluation.off_policy.ips import ips
from router_ml.evaluation.off_policy.logged import Logged
from router_ml.evaluation.off_policy.paired import paired_difference
from router_ml.evaluation.off_policy.report import ROUTER, Estimates, Gain, OffPolicyEvaluation, PolicyValue
from router_ml.evaluation.off_policy.snips import snips

__all__ = ["Evidence", "judge_policies"]

_QUALITY, _COST = (0.0, 1.0), (0.0, float("inf"))
"""Where the mean of either lies, whatever the policy."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a log says of n prompts and T tiers, and what a model that didn't see the log expects.

    Attributes
    ----------
    tiers : tuple of T str
    quality, cost_usd : array [n, T]
        NaN where the tier wasn't tried. A prompt on which none was (another model answered it) is a prompt all the same.
    propensity : array [n, T]
        The chance that the tier was tried on the prompt, in (0, 1] where it was. Where several tiers may answer one
        prompt these are inclusion probabilities, and needn't sum to 1.
    expected_quality, expected_cost_usd : array [n, T]
        The reward models.
    logging_policy : array [n, T], optional
        The propensities of all tiers, tried or not, where they are known or estimated.
    level : float
        Of the intervals, in (0, 1).
    max_weight : float, optional
        Clip weights here.
    unit : array [n] of int, optional
        Prompts of one number (a session) hang together.

    Raises
    ------
    InputError
        Tables of different shapes.

    Notes
    -----
    To a policy without chance, a prompt that several tiers answered is one on which its own tier was or wasn't tried,
    with that tier's inclusion probability (Horvitz and Thompson, 1952); what the others answered doesn't matter.
    """

    tiers: tuple[str, ...]
    quality: FloatArray
    cost_usd: FloatArray
    propensity: FloatArray
    expected_quality: FloatArray
    expected_cost_usd: FloatArray
    logging_policy: FloatArray | None = None
    level: float = 0.95
    max_weight: float | None = None
    unit: NDArray[np.intp] | None = None

    def __post_init__(self) -> None:
        shape = (len(self.quality), len(self.tiers))
        for name in ("quality", "cost_usd", "propensity", "expected_quality", "expected_cost_usd", "logging_policy"):
            table = getattr(self, name)
            if table is not None and table.shape != shape:
                raise InputError(
                    f"{name} has shape {table.shape}; needed {shape}: one row a prompt, one column a tier."
                )

    def value(self, name: str, choice: NDArray[np.intp]) -> PolicyValue:
        """What a policy would have had, or why the log can't say.

        Parameters
        ----------
        name : str
            What to call the policy.
        choice : array [n] of int
            Its tier for each prompt.

        Notes
        -----
        Weighted estimates of a quality and their intervals may leave [0, 1], those of a cost fall below 0. The intervals are cut there
        (:meth:`Estimate.within`), which no coverage is lost by; the values are left as they are, since only those are unbiased.
        """
        pi = self._one_hot(choice)
        behaviour = None if self.logging_policy is None else _wider(self.logging_policy, 0.0)
        log = self._facing(choice)
        overlap = check_overlap(log[0], pi, logging_policy=behaviour, names=self.tiers)
        if not overlap.answerable:
            return PolicyValue(name, overlap, None, None)
        quality, cost_usd = (
            Estimates(
                doubly_robust=doubly_robust(logged, pi, expected, max_weight=self.max_weight, level=self.level).within(
                    *ends
                ),
                snips=snips(logged, pi, max_weight=self.max_weight, level=self.level).within(*ends),
                ips=ips(logged, pi, max_weight=self.max_weight, level=self.level).within(*ends),
                direct=direct(logged, pi, expected, level=self.level).within(*ends),
            )
            for logged, expected, ends in zip(log, self._expected(), (_QUALITY, _COST), strict=True)
        )
        return PolicyValue(name, overlap, quality, cost_usd)

    def gain(self, choice: NDArray[np.intp], name: str, against: NDArray[np.intp]) -> Gain:
        """One policy less another, which is called `name`: doubly robust, paired by prompt.

        Only for policies that the log can answer for.
        """
        pairs = zip(self._influences(choice), self._influences(against), strict=True)
        quality, cost_usd = (paired_difference(ours, theirs, level=self.level) for ours, theirs in pairs)
        return Gain(name, quality.within(-1.0, 1.0), cost_usd)

    def _influences(self, choice: NDArray[np.intp]) -> list[Influence]:
        pi = self._one_hot(choice)
        return [
            influence(logged, pi, expected, max_weight=self.max_weight)
            for logged, expected in zip(self._facing(choice), self._expected(), strict=True)
        ]

    def _facing(self, choice: NDArray[np.intp]) -> tuple[Logged, Logged]:
        """The log as a policy sees it, with qualities and with costs: its own tier's answers, else another's, else none.

        What another tier's answer cost says nothing about rare costs of the policy's own, so there it is none.
        """
        rows, tiers = np.arange(len(choice)), len(self.tiers)
        tried = ~np.isnan(self.quality)
        another = np.where(tried.any(axis=1), tried.argmax(axis=1), tiers)
        found = []
        for table, other in ((self.quality, another), (self.cost_usd, tiers)):
            action = np.where(tried[rows, choice], choice, other)
            chance = _wider(self.propensity, 1.0)[rows, action]
            found.append(Logged(action, _wider(table, 0.0)[rows, action], chance, self.unit))
        return found[0], found[1]

    def _expected(self) -> tuple[FloatArray, FloatArray]:
        return _wider(self.expected_quality, 0.0), _wider(self.expected_cost_usd, 0.0)

    def _one_hot(self, choice: NDArray[np.intp]) -> FloatArray:
        return np.eye(len(self.tiers) + 1)[choice]


def judge_policies(
    evidence: Evidence, choice: NDArray[np.intp], *, setting: str, notes: tuple[str, ...] = ()
) -> OffPolicyEvaluation:
    """Judge a router's choices, each tier alone, and the router against the best of those.

    Parameters
    ----------
    evidence : Evidence
    choice : array [n] of int
        The router's tier for each prompt.
    setting : str
        What made it choose so.
    notes : tuple of str
        What the figures rest on.

    Returns
    -------
    OffPolicyEvaluation
        Without figures for the router where the log can answer for some single tier only; its `refusal` says why.

    Raises
    ------
    TrafficError
        The log can answer neither for the router nor for any single tier; the message says why.
    """
    n, tiers = len(choice), len(evidence.tiers)
    router = evidence.value(ROUTER, choice)
    constants = tuple(
        evidence.value(f"always {name}", np.full(n, t, dtype=np.intp)) for t, name in enumerate(evidence.tiers)
    )
    known = {t: c.quality.doubly_robust.value for t, c in enumerate(constants) if c.quality is not None}
    gain = None
    if known and router.quality is not None:
        best = max(known, key=known.__getitem__)
        gain = evidence.gain(choice, constants[best].name, np.full(n, best, dtype=np.intp))
    found = OffPolicyEvaluation(
        tiers=evidence.tiers,
        setting=setting,
        share=tuple((np.bincount(choice, minlength=tiers) / n).tolist()),
        n_prompts=n,
        level=evidence.level,
        propensities="logged" if evidence.logging_policy is None else "estimated",
        router=router,
        constants=constants,
        gain=gain,
        notes=notes,
    )
    return found if known else found.require_router()


def _wider(table: FloatArray, value: float) -> FloatArray:
    """One tier more, for models outside the ladder; no policy uses it."""
    return np.column_stack([table, np.full(len(table), value)])
