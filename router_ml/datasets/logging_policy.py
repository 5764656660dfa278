"""The policy that a simulated log was written under: known, random, and dependent on the prompt's text alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# No tier is drawn less often than this, so importance weights stay below 20.
FLOOR = 0.05

_TYPICAL_WORDS = 45.0
# Per tier, cheapest first: how its score moves with the logarithm of the length and with the presence of code.
_BY_LENGTH = np.array([-0.7, 0.1, 0.6])
_BY_CODE = np.array([-0.3, 0.0, 0.5])


def logging_propensities(prompts: Sequence[str]) -> NDArray[np.float64]:
    """The chance that the logging policy gives each prompt to each tier: longer ones and code go to dearer tiers.

    Parameters
    ----------
    prompts : sequence of str, length n

    Returns
    -------
    ndarray of shape (n, T)
        ``FLOOR + (1 - T * FLOOR) * softmax(score)``; every row sums to one.

    Notes
    -----
    The score sees nothing but the text. Given the prompt, the tier is independent of the qualities, which is what
    inverse-propensity estimates assume. The plain mean of the logged rows is biased all the same, as longer prompts
    are harder.
    """
    length = np.log([max(len(prompt.split()), 1) / _TYPICAL_WORDS for prompt in prompts])
    has_code = np.array(["```" in prompt for prompt in prompts], dtype=np.float64)
    score = np.exp(length[:, None] * _BY_LENGTH + has_code[:, None] * _BY_CODE)
    share = score / score.sum(axis=1, keepdims=True)
    propensities: NDArray[np.float64] = FLOOR + (1.0 - FLOOR * share.shape[1]) * share
    return propensities


def draw_tiers(rng: np.random.Generator, propensities: NDArray[np.float64]) -> NDArray[np.int64]:
    """One tier per row of `propensities` [n, T], shape (n,)."""
    below = rng.random(len(propensities))[:, None] >= np.cumsum(propensities, axis=1)[:, :-1]
    tiers: NDArray[np.int64] = below.sum(axis=1).astype(np.int64)
    return tiers
