"""Novelty: how unlike the training traffic a prompt is.

What a novel prompt means for the decision is in ``router_ml.core.policy.Rule``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from router_ml.core.features import N_PAIRS, pair_ids
from router_ml.graph.builder import Graph
from router_ml.learning.inputs import InputNames

__all__ = ["EXPECTED_SHARE", "Novelty"]

EXPECTED_SHARE = 0.03
"""Of traffic like the training traffic, at most so much is expected to be above the threshold."""
_ROUNDING = 1e-6
"""How far the threshold lies above the novelty that it was taken from, so that the same prompt, seen again, isn't decided by rounding."""
_PRIOR = 0.5
"""Added to each count of prompts: a pair that was never seen counts as seen in half of one."""
_MIN_MEAN = 0.01
"""Mean surprisal where all prompts are alike is taken to be this: of a hundredth of the pairs."""


@dataclass(frozen=True, slots=True)
class Novelty:
    """Mean surprisal of a prompt's pairs of neighbouring tokens: minus the logarithm of the share of training prompts with that pair.

    Scaled to a mean of 1 on prompts of the training traffic that it wasn't fitted to. A prompt without tokens has a novelty
    of 0: there is nothing to tell by (an encoder that embeds over the network gives none, so it says 0 of all).

    Attributes
    ----------
    surprisal : array [N_PAIRS]
        Of each pair; >= 0.
    threshold : float
        At most 3 % of traffic like the training traffic is above it.

    Notes
    -----
    The threshold is the novelty of rank ``ceil(0.97 (n + 1))`` among n prompts, each measured without its own fold: were the
    measure the same in all folds, a new exchangeable prompt would be above it with a probability of at most 3 %. With all
    prompts to count in, new ones surprise a little less than held-out ones did, which errs to the same side. Where the rank
    is beyond n (n < 33) it is the largest novelty that there can be, so that nothing is above it.

    References
    ----------
    Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World (2005), conformal prediction, for the rank.
    """

    surprisal: NDArray[np.float64]
    threshold: float

    @classmethod
    def crossfit(
        cls, tokens: Sequence[NDArray[np.integer]], folds: NDArray[np.intp]
    ) -> tuple[Self, NDArray[np.float64]]:
        """Fit to the token ids of n prompts; gives also the novelty [n] of each, measured without its fold.

        Parameters
        ----------
        tokens : sequence of n arrays of int
        folds : array [n] of int
            Prompts that are nearly the same, or of one session, have to be in the same fold.
        """
        _, fold = np.unique(folds, return_inverse=True)
        pairs = [pair_ids(t) for t in tokens]
        seen = np.zeros((fold.max() + 1, N_PAIRS))
        for k, ids in zip(fold, pairs, strict=True):
            seen[k, np.unique(ids)] += 1
        total, sizes = seen.sum(axis=0), np.bincount(fold)
        tables = [_surprisal(total - s, len(pairs) - n) for s, n in zip(seen, sizes, strict=True)]
        held_out = np.array([_mean(tables[k], ids) for k, ids in zip(fold, pairs, strict=True)])
        scale = 1 / max(float(held_out.mean()), _MIN_MEAN)
        threshold = _threshold(held_out) * scale * (1 + _ROUNDING)
        return cls(_surprisal(total, len(pairs)) * scale, threshold), held_out * scale

    def predict(self, tokens: Sequence[NDArray[np.integer]]) -> NDArray[np.float64]:
        """Novelty of n prompts by their token ids; shape [n], >= 0."""
        return np.array([_mean(self.surprisal, pair_ids(t)) for t in tokens])

    def to_graph(self, graph: Graph, x: InputNames) -> str:
        """The same in a graph; gives the name of the output [n]."""
        mean = graph.mean_of_words(self.surprisal[:, None], x.input_ids, x.token_weights)
        return graph.node("Squeeze", mean, graph.constant(np.array([1], dtype=np.int64)))


def _surprisal(n_seen: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """As a share of the surprisal of what was never seen, in [0, 1]: so it hardly depends on how many prompts there were."""
    most = np.log((n + _PRIOR) / _PRIOR)
    share: NDArray[np.float64] = np.log((n + _PRIOR) / (n_seen + _PRIOR)) / max(most, 1e-9)
    return share


def _mean(surprisal: NDArray[np.float64], pairs: NDArray[np.int64]) -> float:
    return float(surprisal[pairs].mean()) if len(pairs) else 0.0


def _threshold(held_out: NDArray[np.float64]) -> float:
    rank = int(np.ceil((1 - EXPECTED_SHARE) * (len(held_out) + 1)))
    return float(np.sort(held_out)[rank - 1]) if rank <= len(held_out) else 1.0
