"""Published router recipes, each written anew with the settings of its source, to stand beside our router.

A recipe maps the embeddings of prompts (all-MiniLM-L6-v2, L2-normalised, unless said otherwise) to what it expects of
each tier, or to one tier. They are controls for the reports, not part of the library: see `RECIPES` for all that start
from embeddings, and `heuristic_v2` for the one that starts from the prompts.

What they expect of a tier's cost: CARROT predicts it for each prompt by a kNN of its own; for all others it is the
tier's mean cost in training, the same for each prompt (RouterBench's list price and Avengers-Pro's average do the same).
"""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import litellm_heuristic
from router_ml.errors import InputError
from router_ml.evaluation import Sweep, best_single, sweep_bar, sweep_value
from router_ml.evaluation.frontier import Routed
from router_ml.evaluation.knobs import default_lams

FloatArray = NDArray[np.float64]
Embeddings = NDArray[np.floating[Any]]

RANDOM_STATE = 42
"""Avengers-Pro's and RouteLLM's own seed."""


@dataclass(frozen=True, slots=True)
class Fold:
    """The prompts to learn from: each was answered by each tier, so that there is no NaN.

    Attributes
    ----------
    embeddings : array [n, d]
    quality : array [n, T]
        In [0, 1]; tiers in ladder order.
    cost_usd : array [n, T]
    """

    embeddings: Embeddings
    quality: FloatArray
    cost_usd: FloatArray

    def mean_cost(self, n: int) -> FloatArray:
        """Each tier's mean cost, for each of n prompts; shape [n, T]."""
        return np.tile(self.cost_usd.mean(axis=0), (n, 1))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a recipe expects of each tier, [n, T] each; the frontier is the sweep of ``argmax(quality - lam * cost_usd)``.

    `chosen` names the learner, where a search chose it.
    """

    quality: FloatArray
    cost_usd: FloatArray
    chosen: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """The tier that a recipe without a knob takes; shape [n]."""

    tier: NDArray[np.intp]


Result = Estimate | Choice | Routed


@dataclass(frozen=True, slots=True)
class Recipe:
    """One line of `RECIPES`.

    Attributes
    ----------
    source : str
        The public repository, or "control".
    function : callable
        Of the training fold and the test prompts' embeddings.
    swept : bool
        Whether it has a knob: then it gives a frontier, else one point.
    random : bool
        Whether it takes `random_state`.
    """

    source: str
    function: Callable[..., Result]
    swept: bool = True
    random: bool = False

    def __call__(self, train: Fold, embeddings: Embeddings, *, random_state: int = RANDOM_STATE) -> Result:
        """Fit on the training fold and predict the test prompts."""
        return self.function(train, embeddings, **({"random_state": random_state} if self.random else {}))


def to_sweep(result: Result) -> Routed:
    """The settings to evaluate: of an estimate the value policy at each lam; of a choice that one, with knob 0."""
    if isinstance(result, Estimate):
        return sweep_value(result.quality, result.cost_usd)
    if isinstance(result, Choice):
        return Sweep(np.zeros(1), result.tier[None])
    return result


# --- nearest neighbours


def carrot_knn(train: Fold, embeddings: Embeddings) -> Estimate:
    """CARROT: kNN regression of quality and of cost, cosine, k from 2, 4, ... 512 by cross-validation for each."""
    table = np.hstack([train.quality, train.cost_usd])
    n_tiers = train.quality.shape[1]
    ks = [cross_validated_k(train.embeddings, part) for part in (train.quality, train.cost_usd)]
    means = running_means(_neighbours(train.embeddings, embeddings, max(ks)), table)
    return Estimate(means[:, ks[0] - 1, :n_tiers], means[:, ks[1] - 1, n_tiers:])


def routerbench_knn(train: Fold, embeddings: Embeddings) -> Estimate:
    """RouterBench: mean quality of the 40 nearest, cosine."""
    return _knn(train, embeddings, k=40)


def routereval_knn(train: Fold, embeddings: Embeddings) -> Estimate:
    """RouterEval: mean quality of the 5 nearest, cosine."""
    return _knn(train, embeddings, k=5)


def guarded_knn(train: Fold, embeddings: Embeddings, *, k: int = 50, n_se: float = 0.5) -> Sweep:
    """Control: the best constant tier, but where the k nearest gain more than `n_se` standard errors by another.

    Parameters
    ----------
    train : Fold
    embeddings : array [n, d]
    k : int
        Neighbours, by cosine; all prompts where there are fewer.
    n_se : float
        Standard errors of the neighbours' mean gain that it has to exceed.

    Returns
    -------
    Sweep
        Over lam. At each, the constant tier is the best by mean quality - lam x mean cost in training, and of the tiers
        that pass the guard the one of the largest gain is taken. Costs are the tiers' means, so that a gain's standard
        error is that of the difference in quality.
    """
    k = min(k, len(train.embeddings))
    near = train.quality[_neighbours(train.embeddings, embeddings, k)]
    cost = train.cost_usd.mean(axis=0)
    gains = near[..., None, :] - near[..., :, None]  # [n, k, constant tier, other tier]
    gain, error = gains.mean(axis=1), gains.std(axis=1, ddof=min(1, k - 1)) / np.sqrt(k)
    lams = default_lams(near.mean(axis=1), train.mean_cost(len(near)))
    choices = np.empty((len(lams), len(near)), dtype=np.intp)
    for s, lam in enumerate(lams):
        constant = int((train.quality.mean(axis=0) - lam * cost).argmax())
        worth = gain[:, constant] - lam * (cost - cost[constant])
        passed = worth > n_se * error[:, constant]
        passed[:, constant] = False
        choices[s] = np.where(passed.any(axis=1), np.where(passed, worth, -np.inf).argmax(axis=1), constant)
    return Sweep(lams, choices)


def _knn(train: Fold, embeddings: Embeddings, *, k: int) -> Estimate:
    near = _neighbours(train.embeddings, embeddings, min(k, len(train.embeddings)))
    return Estimate(train.quality[near].mean(axis=1), train.mean_cost(len(embeddings)))


def cross_validated_k(embeddings: Embeddings, table: FloatArray, *, n_folds: int = 5) -> int:
    """The k of 2, 4, ... 512 with the least squared error over all columns of `table` [n, m]; ties: the least k.

    Folds are stretches of rows in the order given, scikit-learn's default, which the source keeps: where the rows are
    sorted by topic, it finds the k that serves topics unseen in training, and a shuffle may give quite another.
    Each fold's neighbours are looked up once, for all k.
    """
    from sklearn.model_selection import KFold

    folds = list(KFold(n_folds).split(embeddings))
    ks = np.array([k for k in 2 ** np.arange(1, 10) if k <= min(len(fit) for fit, _ in folds)])
    error = np.zeros(len(ks))
    for fit, held_out in folds:
        means = running_means(_neighbours(embeddings[fit], embeddings[held_out], int(ks[-1])), table[fit])
        error += ((means[:, ks - 1] - table[held_out, None]) ** 2).sum(axis=(0, 2))
    return int(ks[error.argmin()])


def running_means(neighbours: NDArray[np.intp], table: FloatArray) -> FloatArray:
    """Means of the rows of `table` [n, m] over the first 1, 2, ... K of each prompt's neighbours [q, K]: [q, K, m]."""
    counts = np.arange(1, neighbours.shape[1] + 1)
    means: FloatArray = table[neighbours].cumsum(axis=1) / counts[:, None]
    return means


def _neighbours(embeddings: Embeddings, queries: Embeddings, k: int) -> NDArray[np.intp]:
    """Rows of the k nearest by cosine, nearest first; shape [q, k]."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k, metric="cosine").fit(embeddings)
    found: NDArray[np.intp] = search.kneighbors(queries, return_distance=False)
    return found


# --- clusters, and one model per tier


def avengers_pro(
    train: Fold, embeddings: Embeddings, *, n_clusters: int = 25, nearest: int = 3, random_state: int = RANDOM_STATE
) -> Estimate:
    """Avengers-Pro: mean quality in the 3 nearest of 25 k-means clusters, weighted softmax(-9 x distance)."""
    from scipy.special import softmax
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import normalize

    points = normalize(train.embeddings)
    clusters = KMeans(min(n_clusters, len(points)), n_init=10, random_state=random_state).fit(points)
    members = np.eye(clusters.n_clusters)[clusters.labels_]
    quality = members.T @ train.quality / members.sum(axis=0)[:, None]
    distance = clusters.transform(normalize(embeddings)).astype(np.float64)
    near = distance.argsort(axis=1, kind="stable")[:, :nearest]
    weight = softmax(-9 * np.take_along_axis(distance, near, axis=1), axis=1)
    return Estimate(np.einsum("nk,nkt->nt", weight, quality[near]), train.mean_cost(len(embeddings)))


def routerbench_mlp(train: Fold, embeddings: Embeddings, *, random_state: int = RANDOM_STATE) -> Estimate:
    """RouterBench: one ``MLPRegressor((100,))`` of quality per tier, learning rate 1e-3, 200 iterations."""
    from sklearn.neural_network import MLPRegressor

    def fit(quality: FloatArray) -> FloatArray:
        model = MLPRegressor(
            hidden_layer_sizes=(100,), learning_rate_init=1e-3, max_iter=200, random_state=random_state
        )
        with _cut_short():
            predicted: FloatArray = model.fit(train.embeddings, quality).predict(embeddings)
        return predicted

    return Estimate(np.column_stack([fit(q) for q in train.quality.T]), train.mean_cost(len(embeddings)))


def logistic(train: Fold, embeddings: Embeddings) -> Estimate:
    """Control: one ``LogisticRegression(C=1)`` per tier; its probability is the expected quality.

    A quality q between 0 and 1 counts as a success of weight q and a failure of weight 1 - q.
    """
    from sklearn.linear_model import LogisticRegression

    n = len(train.embeddings)
    twice, success = np.vstack([train.embeddings, train.embeddings]), np.repeat([1, 0], n)

    def fit(quality: FloatArray) -> FloatArray:
        weight = np.concatenate([quality, 1 - quality])
        kept = weight > 0
        if len(np.unique(success[kept])) == 1:  # all right or all wrong: there is nothing to fit
            return np.full(len(embeddings), quality[0])
        model = LogisticRegression(C=1.0, max_iter=1000)
        model.fit(twice[kept], success[kept], sample_weight=weight[kept])
        p: FloatArray = model.predict_proba(embeddings)[:, 1]
        return p

    return Estimate(np.column_stack([fit(q) for q in train.quality.T]), train.mean_cost(len(embeddings)))


# --- LLMRouter: classifiers of the best tier


def llmrouter_knn(train: Fold, embeddings: Embeddings) -> Choice:
    """LLMRouter: ``KNeighborsClassifier(5)`` of the tier with the best answer."""
    from sklearn.neighbors import KNeighborsClassifier

    return _best_tier(train, embeddings, KNeighborsClassifier(5))


def llmrouter_mlp(train: Fold, embeddings: Embeddings, *, random_state: int = RANDOM_STATE) -> Choice:
    """LLMRouter: ``MLPClassifier((128, 64))`` of the tier with the best answer, alpha 1e-4, 500 iterations."""
    from sklearn.neural_network import MLPClassifier

    return _best_tier(
        train,
        embeddings,
        MLPClassifier(hidden_layer_sizes=(128, 64), alpha=1e-4, max_iter=500, random_state=random_state),
    )


def llmrouter_svm(train: Fold, embeddings: Embeddings) -> Choice:
    """LLMRouter: ``SVC(kernel="rbf", C=1)`` of the tier with the best answer."""
    from sklearn.svm import SVC

    return _best_tier(train, embeddings, SVC(kernel="rbf", C=1.0))


def _best_tier(train: Fold, embeddings: Embeddings, classifier: Any) -> Choice:
    best = train.quality.argmax(axis=1)  # the first of several: the cheapest
    if len(np.unique(best)) == 1:  # SVC refuses a single class
        return Choice(np.full(len(embeddings), best[0]))
    with _cut_short():
        classifier.fit(train.embeddings, best)
    return Choice(np.asarray(classifier.predict(embeddings), dtype=np.intp))


@contextmanager
def _cut_short() -> Iterator[None]:
    """Without scikit-learn's warning at the last iteration: how many there are is the recipe's."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


# --- RouteLLM


def routellm_mf(
    train: Fold, embeddings: Embeddings, *, n_epochs: int = 100, random_state: int = RANDOM_STATE
) -> Estimate:
    """RouteLLM's matrix factorisation: the probability that the best tier beats the cheapest.

    Parameters
    ----------
    train : Fold
    embeddings : array [n, d]
    n_epochs : int
    random_state : int

    Returns
    -------
    Estimate
        Of the best tier by mean quality that probability, of the cheapest 0, so that a lam is a threshold on it; of all
        others -1 at a cost above the cheapest, so that no lam ever picks them.

    Notes
    -----
    The score of model m on prompt x is w . (v_m / |v_m| * W (x + noise)), dim 128; the loss is that of the winner's score
    against the loser's, Adam (lr 3e-4, weight decay 1e-5), batch 64, noise 0.1. Prompts on which both tiers are equally
    good are left out, as in the source, which knows no ties.

    References
    ----------
    I. Ong et al. (2024), "RouteLLM: Learning to Route LLMs with Preference Data", arXiv:2406.18665, section 4.
    """
    cost_usd = train.mean_cost(len(embeddings))
    weak, strong = int(cost_usd[0].argmin()), best_single(train.quality, train.cost_usd)
    quality = np.full(cost_usd.shape, -1.0)
    quality[:, weak] = 0.0
    gain = train.quality[:, strong] - train.quality[:, weak]
    decided = gain != 0
    if decided.any():  # else the best is the cheapest, or as good everywhere
        quality[:, strong] = _fit_mf(
            train.embeddings[decided], gain[decided] > 0, embeddings, n_epochs=n_epochs, random_state=random_state
        )
    return Estimate(quality, cost_usd)


def _fit_mf(
    embeddings: Embeddings, strong_wins: NDArray[np.bool_], queries: Embeddings, *, n_epochs: int, random_state: int
) -> FloatArray:
    """The probability that the strong of two models wins; shape [q]."""
    import torch
    from torch.nn.functional import normalize, softplus

    dim, batch, noise = 128, 64, 0.1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        models = torch.nn.Embedding(2, dim)
        project = torch.nn.Linear(embeddings.shape[1], dim, bias=False)
        score = torch.nn.Linear(dim, 1, bias=False)
        parameters = [p for part in (models, project, score) for p in part.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=3e-4, weight_decay=1e-5)

        def margin(x: torch.Tensor) -> torch.Tensor:
            """The strong model's score (row 1) minus the weak's."""
            v = normalize(models.weight, dim=1)
            found: torch.Tensor = score((v[1] - v[0]) * project(x)).squeeze(1)
            return found

        X = torch.as_tensor(np.asarray(embeddings, dtype=np.float32))
        sign = torch.as_tensor(np.where(strong_wins, 1.0, -1.0).astype(np.float32))
        for _ in range(n_epochs):
            for rows in torch.randperm(len(X)).split(batch):
                noisy = X[rows] + noise * torch.randn(len(rows), X.shape[1])
                loss = softplus(-sign[rows] * margin(noisy)).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            p = torch.sigmoid(margin(torch.as_tensor(np.asarray(queries, dtype=np.float32))))
    return np.asarray(p.numpy(), dtype=np.float64)


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "CARROT kNN": Recipe("somerstep/CARROT", carrot_knn),
        "RouterBench kNN": Recipe("withmartian/routerbench", routerbench_knn),
        "RouterBench MLP": Recipe("withmartian/routerbench", routerbench_mlp, random=True),
        "RouterEval kNN": Recipe("MilkThink-Lab/RouterEval", routereval_knn),
        "Avengers-Pro": Recipe("ZhangYiqun018/AvengersPro", avengers_pro, random=True),
        "RouteLLM MF": Recipe("lm-sys/RouteLLM", routellm_mf, random=True),
        "LLMRouter kNN": Recipe("ulab-uiuc/LLMRouter", llmrouter_knn, swept=False),
        "LLMRouter MLP": Recipe("ulab-uiuc/LLMRouter", llmrouter_mlp, swept=False, random=True),
        "LLMRouter SVM": Recipe("ulab-uiuc/LLMRouter", llmrouter_svm, swept=False),
        "guarded kNN": Recipe("control", guarded_knn),
        "logistic": Recipe("control", logistic),
    }
)
"""All recipes that start from embeddings, by name."""


# --- LiteLLM


def heuristic_v2(prompts: Sequence[str], n_tiers: int, *, python: str) -> Sweep:
    """LiteLLM's heuristic_v2: the first tier whose probability reaches the threshold, at each threshold.

    Parameters
    ----------
    prompts : sequence of n str
    n_tiers : int
        Tiers of the ladder, at most LiteLLM's 4.
    python : str
        The Python of an environment that holds litellm (>= 1.109).

    Raises
    ------
    InputError
        That Python fails.
    """
    command = [python, "-I", litellm_heuristic.__file__]
    lines = "".join(json.dumps(prompt) + "\n" for prompt in prompts)
    try:
        done = subprocess.run(command, input=lines, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        why = getattr(exc, "stderr", "") or exc
        raise InputError(f"{python} can't run heuristic_v2 ({why}); needed an environment with litellm.") from exc
    p = np.array([json.loads(line)["p"] for line in done.stdout.splitlines()])
    return sweep_bar(on_ladder(p, n_tiers))


def on_ladder(p: FloatArray, n_tiers: int) -> FloatArray:
    """LiteLLM's four probabilities [n, 4] for a ladder of T tiers: the first T - 1, and 1 for the last.

    LiteLLM takes its last tier where none reaches the threshold. With fewer tiers, the last stands for all that its
    configuration would map to it.

    Raises
    ------
    InputError
        More tiers than LiteLLM has, or fewer than 2.
    """
    if not 2 <= n_tiers <= p.shape[1]:
        raise InputError(f"the ladder has {n_tiers} tiers; heuristic_v2 needs 2 to {p.shape[1]}. Choose among them.")
    return np.column_stack([p[:, : n_tiers - 1], np.ones(len(p))])
