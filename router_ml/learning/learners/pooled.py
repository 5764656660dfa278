"""What tiers share and what is each one's own, half and half: for logs with one tier a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from router_ml.learning.inputs import Inputs
from router_ml.learning.learners.stack import StackLearner
from router_ml.learning.targets import Targets

__all__ = ["PooledLearner"]


class PooledLearner(StackLearner):
    """The mean of `ngram`, which learns each tier from its own answers, and `ordinal`, which learns one difficulty from all of them.

    Where each prompt was answered by one tier nothing tells well which of the two is better, or by how much, so neither is chosen.

    Parameters
    ----------
    base_params : mapping, optional
        Settings of each; :meth:`tune` chooses them.
    random_state : int
    """

    def __init__(self, base_params: Mapping[str, Mapping[str, Any]] | None = None, random_state: int = 0) -> None:
        super().__init__(("ngram", "ordinal"), base_params, None, random_state)

    def tune(self, X: Inputs, targets: Targets, folds: NDArray[np.intp]) -> Self:
        """Tune each of the two."""
        parts = {name: part.tune(X, targets, folds) for name, part in self.make_parts().items()}
        tuned: Self = clone(self).set_params(base_params={n: p.get_params() for n, p in parts.items()})  # type: ignore[attr-defined]
        return tuned
