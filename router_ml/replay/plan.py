"""Which prompts are asked, and in which order."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml.core.router import Router
from router_ml.core.text import render
from router_ml.errors import InputError, TrafficError
from router_ml.ladder import Ladder
from router_ml.replay.messages import lacks_parts
from router_ml.traffic.prices import dated_names

__all__ = ["Choice", "Plan", "clusters", "interleave", "make_plan"]

logger = logging.getLogger(__name__)

Choice = Literal["all", "random", "informative"]

_FEATURES = 2**14
_MAX_CLUSTERS = 128


@dataclass(frozen=True, slots=True)
class Plan:
    """The prompts to ask, first things first.

    Attributes
    ----------
    prompts : DataFrame
        Columns ``prompt_id``, ``prompt``, ``input_tokens`` (mean of those logged, or null), one row a distinct text.
    missing : array [n, T] of bool
        The tiers, in ladder order, that never answered it.
    n_left_out : int
        Prompts that lack a tier, but can't be asked again, since of an image, a sound or a file the table holds the name only.
    """

    prompts: pl.DataFrame
    missing: NDArray[np.bool_]
    n_left_out: int

    @property
    def n_calls(self) -> int:
        """Calls in all."""
        return int(self.missing.sum())


def make_plan(
    traffic: pl.DataFrame,
    ladder: Ladder,
    *,
    choose: Choice = "all",
    n_prompts: int | None = None,
    router: Router | None = None,
    random_state: int = 0,
) -> Plan:
    """Find the prompts that a tier never answered, and put them in order.

    Parameters
    ----------
    traffic : DataFrame
        A validated traffic table. A row without response and quality counts as no answer. Equal texts are one prompt, which goes by
        its first `prompt_id`.
    ladder : Ladder
        The tiers to ask.
    choose : {"all", "random", "informative"}
        In the table's order; in random order; or the most informative first: in turn from clusters of like prompts, of each cluster
        those first of which the router is least sure and which are most novel to it.
    n_prompts : int, optional
        So many at most. A plan for fewer prompts is the head of a plan for more.
    router : Router, optional
        For "informative"; without one its order within a cluster is random.
    random_state : int
    """
    if choose not in get_args(Choice):
        raise InputError(f"Prompts to choose are {choose!r}; needed one of {', '.join(get_args(Choice))}.")
    if n_prompts is not None and n_prompts < 1:
        raise InputError(f"n_prompts is {n_prompts!r}; it needs to be a whole number >= 1.")
    prompts, missing = _lacking(traffic, ladder)
    usable = np.array([not lacks_parts(p) for p in prompts["prompt"]], dtype=bool)
    n_left_out = int((~usable).sum())
    prompts, missing = prompts.filter(pl.Series(usable)), missing[usable]
    rng = np.random.default_rng(random_state)
    order = np.arange(prompts.height)
    if choose != "all":
        order = rng.permutation(order)
    if choose == "informative" and len(order) > 1:
        texts = [render(p).text for p in prompts["prompt"]]
        scores = np.zeros(len(texts)) if router is None else _information(router, ladder, texts, missing)
        groups = clusters(texts, random_state=random_state)
        # The permutation breaks ties.
        order = order[interleave(groups[order], scores[order])]
    order = order[:n_prompts]
    return Plan(prompts[order], missing[order], n_left_out)


def interleave(groups: NDArray[np.intp], scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """An order that takes one of each group in turn, of each the highest score left; shape [n].

    Examples
    --------
    >>> interleave(np.array([0, 0, 0, 1]), np.array([0.1, 0.9, 0.5, 0.2])).tolist()
    [1, 3, 2, 0]
    """
    by_group = np.lexsort((-scores, groups))
    starts = np.searchsorted(groups[by_group], groups[by_group])
    turn = np.empty(len(groups), dtype=np.intp)
    turn[by_group] = np.arange(len(groups)) - starts
    return np.lexsort((-scores, turn))


def clusters(texts: list[str], *, random_state: int) -> NDArray[np.intp]:
    """Cluster texts by their words: hashed TF-IDF and mini-batch k-means, the root of n clusters up to 128; shape [n].

    References
    ----------
    Sculley: Web-scale k-means clustering (WWW 2010); scikit-learn's ``MiniBatchKMeans``.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    n_clusters = min(_MAX_CLUSTERS, max(1, round(len(texts) ** 0.5)))
    counts = HashingVectorizer(n_features=_FEATURES, alternate_sign=False, norm=None, dtype=np.float32).transform(texts)
    features = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    means = MiniBatchKMeans(n_clusters, n_init=1, batch_size=1024, random_state=random_state)
    labels: NDArray[np.intp] = means.fit_predict(features).astype(np.intp)
    return labels


def _lacking(traffic: pl.DataFrame, ladder: Ladder) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    _warn_of_other_names(traffic, ladder)
    answered = pl.col("response").is_not_null() | pl.col("quality").is_not_null()
    has = [((pl.col("model") == m) & answered).any().alias(f"has_{i}") for i, m in enumerate(ladder.models)]
    table = (
        traffic.group_by("prompt", maintain_order=True)
        .agg(pl.col("prompt_id").first(), pl.col("input_tokens").mean(), *has)
        .filter(~pl.all_horizontal(f"has_{i}" for i in range(len(ladder))))
    )
    if table.is_empty():
        raise TrafficError("Each prompt was answered by each of the ladder's tiers; there is nothing to replay.")
    missing = ~table.select(f"has_{i}" for i in range(len(ladder))).to_numpy()
    return table.select("prompt_id", "prompt", "input_tokens"), missing


def _warn_of_other_names(traffic: pl.DataFrame, ladder: Ladder) -> None:
    """Warn where answers that the log holds would be paid for again, since the ladder calls their model otherwise."""
    seen = traffic["model"].unique().sort().to_list()
    absent = [m for m in ladder.models if m not in seen]
    hint = dated_names(absent, seen)
    if len(absent) == len(ladder):
        logger.warning(
            "None of the %s logged rows belongs to a tier, so each tier is asked for each prompt; the log's models are %s. %s",
            f"{traffic.height:,}",
            ", ".join(seen),
            hint or "Give the ladder these names if they are its tiers.",
        )
    elif hint:
        logger.warning("No logged row belongs to %s. %s", ", ".join(absent), hint)


def _information(router: Router, ladder: Ladder, texts: list[str], missing: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How much an answer may teach: the mean of two ranks in [0, 1], of the router's doubt about the missing tiers and of novelty."""
    prediction = router.predict(texts)
    columns = [router.ladder.models.index(m) if m in router.ladder.models else -1 for m in ladder.models]
    known = np.array([c >= 0 for c in columns])
    if not known.any():
        raise InputError(
            f"The router knows none of {list(ladder.models)}; its models are {list(router.ladder.models)}."
        )
    p = prediction.p_meets[:, [c for c in columns if c >= 0]].astype(np.float64)
    asked = missing[:, known]
    doubt = (p * (1 - p) * asked).sum(axis=1) / np.maximum(asked.sum(axis=1), 1)
    return (_rank(doubt) + _rank(prediction.novelty)) / 2


def _rank(values: NDArray[np.floating]) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    ranks: NDArray[np.float64] = rankdata(values) / len(values)
    return ranks
