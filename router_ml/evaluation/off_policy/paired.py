"""Two policies on the same log."""

from __future__ import annotations

import numpy as np

from router_ml.errors import InputError
from router_ml.evaluation.off_policy.doubly_robust import Influence
from router_ml.evaluation.off_policy.intervals import Estimate, estimate_mean
from router_ml.evaluation.off_policy.logged import Weights

__all__ = ["paired_difference"]


def paired_difference(first: Influence, second: Influence, *, level: float = 0.95) -> Estimate:
    """How much more reward the first policy would have had than the second, on the same prompts.

    Parameters
    ----------
    first, second : Influence
        Of two policies on one log, by the same reward model, rows in the same order.
    level : float
        Of the interval, in (0, 1).

    Returns
    -------
    Estimate
        Its `effective_n` is the smaller of the two.

    Raises
    ------
    InputError
        Different numbers of rows.

    Notes
    -----
    Rows on which the policies agree cancel, weights and all, so that the interval is narrower than the two estimates'
    own intervals suggest, and next to nothing for policies that hardly differ. What `estimate_mean` allows for rare rows
    and for clipping is taken over the rows on which they differ, for both policies.

    Examples
    --------
    >>> from router_ml.evaluation.off_policy import Logged, influence
    >>> logged, model = Logged([0, 1, 1], [1.0, 1.0, 0.0], [0.5] * 3), [[0.5, 0.5]] * 3
    >>> ours, other = ([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [[0.0, 1.0]] * 3)
    >>> found = paired_difference(influence(logged, ours, model), influence(logged, other, model))
    >>> round(found.value, 3)  # the first row alone: 0.5 + 2 x 0.5 against 0.5, over 3
    0.333
    """
    if first.values.shape != second.values.shape:
        raise InputError(
            f"The policies were judged on {first.values.size} and {second.values.size} rows; needed the same log for both."
        )
    differ = first.values != second.values
    weights = Weights(
        np.concatenate([np.where(differ, first.weights.weight, 0.0), np.where(differ, second.weights.weight, 0.0)]),
        min(first.weights.effective_n, second.weights.effective_n),
        first.weights.clipped_mass + second.weights.clipped_mass,
    )
    leftover = np.concatenate([np.where(differ, first.residual, 0.0), np.where(differ, -second.residual, 0.0)])
    return estimate_mean(first.values - second.values, level=level, weights=weights, leftover=leftover, unit=first.unit)
