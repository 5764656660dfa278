"""How a cascade goes on from one answer to the next: how cautious it is, and which tiers it asks first for what their answers tell.

What an answer may tell of answers to come can't be learned prompt by prompt from some thousand logged ones: estimates of it are picked
for being high, and are too high. So a few plans are played as they are, on all prompts, and judged by what really came of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_ml.core.acceptance import MAX_SEEN
from router_ml.core.probes import Probes
from router_ml.errors import InputError
from router_ml.evaluation.cascade import simulate_cascade
from router_ml.evaluation.frontier import hull, points
from router_ml.evaluation.knobs import default_lams
from router_ml.evaluation.metrics import aiq, cost_range

__all__ = ["Escalation", "choose_escalation", "choose_probes"]

_CAUTIONS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
"""Below 1 the start is thriftier than the escalation: it may be, as another tier can still be asked."""
_N_LAMS = 60
_WINDOW = 2
"""Settings of the knob on either side that are looked at together: what is best changes slowly with it."""
_MOST_TIERS = 4
"""Tiers below the dearest, from the cheapest on, that may be probes."""
_MIN_PROMPTS = 50


class Escalation(NamedTuple):
    """The factor on the price of another call (`router_ml.evaluation.cascade.simulate_cascade`), and the tiers that go first."""

    caution: float = 1.0
    probes: Probes = Probes()


def choose_escalation(
    quality: NDArray[np.float64],
    cost: NDArray[np.float64],
    after: Mapping[tuple[int, ...], NDArray[np.float64]],
    Q: NDArray[np.float64],
    C: NDArray[np.float64],
) -> Escalation:
    """Of eight cautions, each with its probes, the one of the largest AIQ averaged with its neighbours'.

    Parameters are those of :func:`choose_probes`. Where all tiers cost the same there is nothing to choose.
    """
    try:
        low, high = cost_range(C)
    except InputError:
        return Escalation()
    lams = _settings(quality, cost)
    found = [Escalation(caution, choose_probes(quality, cost, after, Q, C, caution=caution)) for caution in _CAUTIONS]
    played = [simulate_cascade(quality, cost, after, Q, C, lams=lams, caution=c, probes=p) for c, p in found]
    # One AIQ is noisy, and changes slowly with the caution: its neighbours tell, too.
    heights = np.pad([aiq(hull(*points(p, Q, C)), low, high) for p in played], 1, mode="edge")
    return found[int(np.argmax(np.convolve(heights, [0.25, 0.5, 0.25], mode="valid")))]


def choose_probes(
    quality: NDArray[np.float64],
    cost: NDArray[np.float64],
    after: Mapping[tuple[int, ...], NDArray[np.float64]],
    Q: NDArray[np.float64],
    C: NDArray[np.float64],
    *,
    caution: float,
) -> Probes:
    """Of each setting of the knob, and each tier at which the router would begin: the tiers that are better asked first.

    Probes are taken where the quality that they gained, less `lam` times the cost that they added, was above zero by more than one
    standard error over the prompts that the router would begin with that tier.

    Parameters
    ----------
    quality, cost, after
        Expected, out of fold; as for :func:`router_ml.evaluation.cascade.simulate_cascade`.
    Q, C : array [n, T]
        Observed.
    caution : float

    References
    ----------
    Direct search in a small class of policies: A. Swaminathan, T. Joachims (2015), "Counterfactual risk minimization",
    arXiv:1502.02362, for why a small class, and a penalty on the variance.
    """
    n_tiers = Q.shape[1]
    probed = range(min(n_tiers - 1, _MOST_TIERS))
    plans = [plan for size in range(1, MAX_SEEN + 1) for plan in combinations(probed, size)]
    lams = _settings(quality, cost)

    def worth(probes: Probes) -> NDArray[np.float64]:
        played = simulate_cascade(quality, cost, after, Q, C, lams=lams, caution=caution, probes=probes)
        # What is played last is the cheapest tier alone.
        return np.asarray(played.quality[:-1] - lams[:, None] * played.cost_usd[:-1])

    plain = worth(Probes())
    gains = [worth(Probes((0.0,), ((plan,) * n_tiers,))) - plain for plan in plans]
    starts = np.stack([(quality - lam * cost).argmax(axis=1) for lam in lams])
    rows = [tuple(_best(plans, gains, starts == start, i) for start in range(n_tiers)) for i in range(len(lams))]
    changes = [i for i, row in enumerate(rows) if i == 0 or row != rows[i - 1]]
    return Probes(tuple(float(lams[i]) for i in changes), tuple(rows[i] for i in changes))


def _settings(quality: NDArray[np.float64], cost: NDArray[np.float64]) -> NDArray[np.float64]:
    lams = default_lams(quality, cost)
    return lams[np.unique(np.linspace(0, len(lams) - 1, _N_LAMS).round().astype(np.intp))]


def _best(
    plans: list[tuple[int, ...]], gains: list[NDArray[np.float64]], begins: NDArray[np.bool_], at: int
) -> tuple[int, ...]:
    """The plan that gained the most on prompts that begin there, at this setting and its neighbours; none where that is within the noise."""
    near = slice(max(at - _WINDOW, 0), at + _WINDOW + 1)
    times = begins[near].sum(axis=0)
    some = times > 0
    if some.sum() < _MIN_PROMPTS:
        return ()
    best: tuple[int, ...] = ()
    most = 0.0
    for plan, gain in zip(plans, gains, strict=True):
        own = np.where(begins[near], gain[near], 0.0).sum(axis=0)[some] / times[some]
        above = float(own.mean() - own.std(ddof=1) / np.sqrt(len(own)))
        if above > most:
            best, most = plan, above
    return best
