"""A learner that is shown the features of one of several encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from router_ml.graph.builder import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.learners.base import Learner
from router_ml.learning.targets import Scores, Targets

__all__ = ["OneEncoderLearner"]


class OneEncoderLearner(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Any learner, on the embedding of one encoder (and the words, and the length).

    Parameters
    ----------
    learner : str
        Its name.
    encoder : int
        Which encoder, from 0.
    params : mapping, optional
        Its settings; :meth:`tune` chooses them.
    random_state : int
    """

    def __init__(
        self,
        learner: str = "logistic",
        encoder: int = 0,
        params: Mapping[str, Any] | None = None,
        random_state: int = 0,
    ) -> None:
        self.learner = learner
        self.encoder = encoder
        self.params = params
        self.random_state = random_state

    def make_parts(self) -> dict[str, Learner]:
        """The learner, unfitted."""
        from router_ml.learning.learners.registry import make_learner

        return {"learner": make_learner(self.learner, **{"random_state": self.random_state, **(self.params or {})})}

    def tune(self, X: Inputs, targets: Targets, folds: NDArray[np.intp]) -> Self:
        """Tune the learner."""
        part: Any = self.make_parts()["learner"].tune(X.of_encoder(self.encoder), targets, folds)
        tuned: Self = clone(self).set_params(params=part.get_params())
        return tuned

    def fit(self, X: Inputs, targets: Targets) -> Self:
        """Fit the learner."""
        seen = X.of_encoder(self.encoder)
        self.parts_ = {name: part.fit(seen, targets) for name, part in self.make_parts().items()}
        return self

    def predict(self, X: Inputs) -> Scores:
        """Scores for n prompts."""
        return self.parts_["learner"].predict(X.of_encoder(self.encoder))

    def to_graph(self, graph: Graph, x: InputNames) -> str:
        """The learner's graph."""
        return self.parts_["learner"].to_graph(graph, x.of_encoder(self.encoder))
