"""A multi-layer perceptron with one trunk for all tiers, trained in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from router_ml.graph.builder import Graph
from router_ml.learning.inputs import InputNames, Inputs
from router_ml.learning.targets import Scores, Targets
from router_ml.learning.threads import single_threaded

if TYPE_CHECKING:
    import torch

__all__ = ["MLPLearner"]


class MLPLearner(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """One hidden layer shared by the tiers, and three linear heads a tier: what one tier's answers say of a prompt helps the others.

    The loss is the sum of cross-entropies of `meets` and `quality` and the Poisson loss of the token counts, over the cells
    that were tried. AdamW; training stops when the loss on a held-out part hasn't fallen for `patience` epochs, and the best
    epoch's weights stay.

    Parameters
    ----------
    hidden : int
        Units of the hidden layer.
    dropout, lr, weight_decay : float
    batch_size, max_epochs, patience : int
    validation_share : float
        Share of the prompts that early stopping watches, in (0, 1).
    random_state : int
        Seeds the weights, the batches and the held-out part.
    on_epoch : callable, optional
        Called with the epoch and a dict of its losses.
    """

    def __init__(
        self,
        hidden: int = 128,
        dropout: float = 0.3,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        batch_size: int = 128,
        max_epochs: int = 60,
        patience: int = 5,
        validation_share: float = 0.1,
        random_state: int = 0,
        on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation_share = validation_share
        self.random_state = random_state
        self.on_epoch = on_epoch

    def tune(self, X: Inputs, targets: Targets, folds: NDArray[np.intp]) -> Self:  # noqa: ARG002
        """An unfitted copy: early stopping chooses the one thing that is chosen, the number of epochs."""
        copy: Self = clone(self)
        return copy

    def fit(self, X: Inputs, targets: Targets) -> Self:
        """Train; the result depends on `random_state` and the data alone."""
        import torch

        features = X.features
        mean, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
        scale = np.where(scale > 1e-6, scale, 1e6)
        n_logged = (~np.isnan(targets.output_tokens)).sum(axis=0)
        mean_tokens = np.maximum(np.nansum(targets.output_tokens, axis=0) / np.maximum(n_logged, 1), 1.0)
        with single_threaded(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            layers = torch.nn.Sequential(
                torch.nn.Linear(features.shape[1], self.hidden),
                torch.nn.GELU(),
                torch.nn.Dropout(self.dropout),
                torch.nn.Linear(self.hidden, 3 * targets.n_tiers),
            )
            cells = np.hstack([targets.meets, targets.quality, targets.output_tokens / mean_tokens])
            weight = np.where(np.isnan(cells), 0, np.tile(targets.weight, 3))
            tables = ((features - mean) / scale).astype(np.float32), np.nan_to_num(cells), weight
            best = self._train(layers, *map(torch.from_numpy, tables))
        first, last = (best["0.weight"].T, best["0.bias"]), (best["3.weight"].T, best["3.bias"])
        self.hidden_coef_ = first[0] / scale[:, None]
        self.hidden_intercept_ = first[1] - mean @ self.hidden_coef_
        self.coef_ = last[0]
        self.intercept_ = last[1] + np.concatenate([np.zeros(2 * targets.n_tiers), np.log(mean_tokens)])
        return self

    def _train(
        self, layers: torch.nn.Sequential, Z: torch.Tensor, cells: torch.Tensor, weight: torch.Tensor
    ) -> dict[str, NDArray[np.float64]]:
        import torch

        order = torch.randperm(len(Z))
        n_held = max(1, int(self.validation_share * len(Z)))
        held, train = order[:n_held], order[n_held:]
        optimizer = torch.optim.AdamW(layers.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        best, best_loss, waited = _weights(layers), np.inf, 0
        for epoch in range(self.max_epochs):
            layers.train()
            losses = []
            for batch in train[torch.randperm(len(train))].split(self.batch_size):
                optimizer.zero_grad()
                loss = _loss(layers(Z[batch]), cells[batch], weight[batch])
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            layers.eval()
            with torch.no_grad():
                held_loss = float(_loss(layers(Z[held]), cells[held], weight[held]))
            if self.on_epoch is not None:
                self.on_epoch(epoch, {"train_loss": float(np.mean(losses)), "validation_loss": held_loss})
            if held_loss < best_loss:
                best, best_loss, waited = _weights(layers), held_loss, 0
                continue
            waited += 1
            if waited >= self.patience:
                break
        return best

    def predict(self, X: Inputs) -> Scores:
        """Scores for n prompts."""
        from scipy.special import erf

        inner = X.features.astype(np.float64) @ self.hidden_coef_ + self.hidden_intercept_
        active = 0.5 * inner * (1 + erf(inner / np.sqrt(2)))
        return Scores(*np.split(active @ self.coef_ + self.intercept_, 3, axis=1))

    def to_graph(self, graph: Graph, x: InputNames) -> str:
        """Two products and a GELU."""
        active = graph.node("Gelu", graph.linear(x.features, self.hidden_coef_, self.hidden_intercept_))
        return graph.linear(active, self.coef_, self.intercept_)


def _loss(scores: torch.Tensor, cells: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    import torch

    target = cells.to(scores.dtype)
    n_probabilities = 2 * scores.shape[1] // 3
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        scores[:, :n_probabilities], target[:, :n_probabilities], reduction="none"
    )
    poisson = torch.nn.functional.poisson_nll_loss(
        scores[:, n_probabilities:], target[:, n_probabilities:], reduction="none"
    )
    return (torch.cat([cross_entropy, poisson], dim=1) * weight).sum() / weight.sum().clamp(min=1)


def _weights(layers: torch.nn.Sequential) -> dict[str, NDArray[np.float64]]:
    return {name: tensor.detach().numpy().astype(np.float64) for name, tensor in layers.state_dict().items()}
