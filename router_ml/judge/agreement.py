"""How far a judge agrees with people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from router_ml.errors import InputError, TrafficError
from router_ml.judge.shares import Share, share

__all__ = ["Agreement", "Estimate", "agree_with_labels", "agreement", "cohen_kappa", "labelled_answers"]

_KEYS = ("prompt_id", "model")

_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
_MAX_LEVELS = 11
_EPS = 1e-9

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % percentile-bootstrap interval; NaN where it isn't defined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Agreement:
    """A judge's agreement with people on the same answers.

    Attributes
    ----------
    n, n_prompts : int
        Answers compared, and the prompts that they answer.
    bar : float
    kappa : Estimate
        Cohen's, on whether an answer meets the bar.
    weighted_kappa : Estimate
        Cohen's with quadratic weights, on the levels.
    spearman, kendall : Estimate
        Rank correlations (Kendall's tau-b) of the qualities.
    accuracy : Share
        Answers on which judge and people agree about the bar.
    wrongly_met, wrongly_failed : Share
        Of the answers that people put below the bar, those that the judge puts above it; and the other way round.
    table : DataFrame
        The confusion table over levels: ``human``, ``judge``, ``n``, and ``share`` of the human level's answers with
        its interval ``low``, ``high``.

    Notes
    -----
    Intervals of estimates: percentile bootstrap over prompts, as answers to one prompt aren't independent. Intervals of
    shares: Wilson's, which takes answers for independent, and so are somewhat narrow where prompts have several.
    """

    n: int
    n_prompts: int
    bar: float
    kappa: Estimate
    weighted_kappa: Estimate
    spearman: Estimate
    kendall: Estimate
    accuracy: Share
    wrongly_met: Share
    wrongly_failed: Share
    table: pl.DataFrame

    def summary(self) -> str:
        """The figures, one a line."""
        return "\n".join(
            [
                f"{self.n:,} answers to {self.n_prompts:,} prompts, judged by people too (95 % intervals)",
                f"Cohen's kappa at the bar {self.bar:g}: {self.kappa}; quadratic weights, on levels: {self.weighted_kappa}",
                f"rank correlation: Spearman {self.spearman}, Kendall {self.kendall}",
                f"same side of the bar: {self.accuracy}; wrongly met: {self.wrongly_met}; wrongly failed: {self.wrongly_failed}",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        figures = {f: getattr(self, f) for f in self.__dataclass_fields__ if f != "table"}
        plain = {k: asdict(v) if isinstance(v, Estimate | Share) else v for k, v in figures.items()}
        return {**plain, "table": self.table.to_dicts()}


def cohen_kappa(table: FloatArray, weights: Literal["equal", "linear", "quadratic"] = "equal") -> FloatArray:
    """Cohen's kappa of confusion tables.

    Parameters
    ----------
    table : array [..., K, K]
        Counts, one rater's level by the other's, levels in order.
    weights : {"equal", "linear", "quadratic"}
        How much worse far levels are than near ones.

    Returns
    -------
    array [...]
        At most 1; 0: no better than chance; NaN where both raters know one level only.

    References
    ----------
    Cohen: Weighted kappa (Psychological Bulletin 1968).
    """
    k = table.shape[-1]
    distance = np.abs(np.subtract.outer(np.arange(k), np.arange(k))).astype(np.float64)
    cost = {"equal": (distance > 0).astype(np.float64), "linear": distance, "quadratic": distance**2}[weights]
    n = table.sum(axis=(-2, -1))
    by_chance = table.sum(axis=-1)[..., :, None] * table.sum(axis=-2)[..., None, :]
    expected = (cost * by_chance).sum(axis=(-2, -1))
    seen = (cost * table).sum(axis=(-2, -1)) * n
    return np.asarray(1 - np.divide(seen, expected, out=np.full_like(expected, np.nan), where=expected > 0))


def agreement(
    judge: ArrayLike,
    human: ArrayLike,
    *,
    bar: float,
    prompts: Sequence[str] | None = None,
    levels: Sequence[float] | None = None,
    n_resamples: int = 1000,
    random_state: int = 0,
) -> Agreement:
    """Compare a judge's qualities with people's.

    Parameters
    ----------
    judge, human : array [n]
        Qualities in [0, 1] of the same answers, without NaN.
    bar : float
        Quality that an answer has to reach, in (0, 1].
    prompts : sequence of n str, optional
        The answers' prompts, which the bootstrap draws; without it each answer is its own.
    levels : sequence of float, optional
        Levels of the confusion table and the weighted kappa; qualities go to the nearest (ties: the lower). Without it
        those that people used, or steps of 0.25 where they used more than eleven.
    n_resamples : int
    random_state : int

    Raises
    ------
    InputError
        If the arrays differ in length, hold fewer than two answers, or hold what isn't a quality.
    """
    judge, human = (np.asarray(a, dtype=np.float64) for a in (judge, human))
    _check(judge, human, bar)
    names = np.arange(len(judge)) if prompts is None else np.unique(np.asarray(prompts), return_inverse=True)[1]
    if len(names) != len(judge):
        raise InputError(f"There are {len(names)} prompts for {len(judge)} answers; give one for each.")
    at = _levels(human) if levels is None else np.unique(np.asarray(levels, dtype=np.float64))
    judge_level, human_level = _nearest(judge, at), _nearest(human, at)
    meets, should = judge >= bar - _EPS, human >= bar - _EPS

    def figures(rows: NDArray[np.intp]) -> tuple[float, float, float, float]:
        binary = _table(should[rows].astype(np.intp), meets[rows].astype(np.intp), 2)
        graded = _table(human_level[rows], judge_level[rows], len(at))
        return (
            float(cohen_kappa(binary)),
            float(cohen_kappa(graded, "quadratic")),
            *_rank_correlations(judge[rows], human[rows]),
        )

    drawn = np.array([figures(rows) for rows in _resamples(names, n_resamples, random_state)])
    whole = figures(np.arange(len(judge)))
    kappa, weighted_kappa, spearman, kendall = (_estimate(v, c) for v, c in zip(whole, drawn.T, strict=True))
    return Agreement(
        n=len(judge),
        n_prompts=int(names.max()) + 1,
        bar=bar,
        kappa=kappa,
        weighted_kappa=weighted_kappa,
        spearman=spearman,
        kendall=kendall,
        accuracy=share(int((meets == should).sum()), len(judge)),
        wrongly_met=share(int((meets & ~should).sum()), int((~should).sum())),
        wrongly_failed=share(int((~meets & should).sum()), int(should.sum())),
        table=_confusion(human_level, judge_level, at),
    )


def agree_with_labels(judged: pl.DataFrame, labels: pl.DataFrame, *, bar: float, **options: Any) -> Agreement:
    """Compare judged traffic with a labelled sample of it.

    Parameters
    ----------
    judged : DataFrame
        ``prompt_id``, ``model``, ``quality``; rows without a quality are left out.
    labels : DataFrame
        The same columns; `quality` is people's. Several labels of one answer count as their mean.
    bar, **options
        As :func:`agreement` takes them.

    Raises
    ------
    TrafficError
        As :func:`labelled_answers` does.
    """
    both = labelled_answers(judged, labels)
    return agreement(both["quality"], both["human"], bar=bar, prompts=both["prompt_id"].to_list(), **options)


def labelled_answers(judged: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """The answers that both have a quality of, sorted: ``prompt_id``, ``model``, ``quality`` (the judge's), ``human`` (people's mean).

    Parameters
    ----------
    judged, labels : DataFrame
        As for :func:`agree_with_labels`.

    Raises
    ------
    TrafficError
        If a column is missing, a label is no number, or fewer than two answers stand in both.
    """
    for what, frame in (("judged traffic", judged), ("labels", labels)):
        missing = [c for c in [*_KEYS, "quality"] if c not in frame.columns]
        if missing:
            raise TrafficError(f"The {what} lack(s) the column(s) {missing}; they have {frame.columns}.")
    try:
        typed = labels.select(pl.col(_KEYS).cast(pl.String), human=pl.col("quality").cast(pl.Float64))
    except pl.exceptions.PolarsError as exc:
        raise TrafficError(f"The labels aren't ids and numbers in [0, 1]: {exc!s:.300}") from exc
    human = typed.group_by(_KEYS).agg(pl.col("human").mean())
    both = judged.select(*_KEYS, "quality").join(human, on=_KEYS, how="inner").drop_nulls().sort(_KEYS)
    if both.height < 2:
        raise TrafficError(
            f"{both.height} answers have both a judge's quality and a label; label at least two (some hundred, for narrow intervals) of the judged ones, by prompt_id and model."
        )
    return both


def _check(judge: FloatArray, human: FloatArray, bar: float) -> None:
    if judge.shape != human.shape or judge.ndim != 1 or len(judge) < 2:
        raise InputError(
            f"Judge and people gave {judge.shape} and {human.shape} qualities; give both for the same two answers or more."
        )
    for who, values in (("judge's", judge), ("people's", human)):
        if not ((values >= 0) & (values <= 1)).all():
            raise InputError(
                f"The {who} qualities run from {values.min()} to {values.max()}; they need to be in [0, 1]."
            )
    if not 0 < bar <= 1:
        raise InputError(f"The bar is {bar!r}; it needs to be a quality in (0, 1].")


def _levels(human: FloatArray) -> FloatArray:
    used = np.unique(human)
    return used if 2 <= len(used) <= _MAX_LEVELS else np.array(_LEVELS)


def _nearest(values: FloatArray, levels: FloatArray) -> NDArray[np.intp]:
    return np.asarray(np.abs(values[:, None] - levels).argmin(axis=1))


def _table(human: NDArray[np.intp], judge: NDArray[np.intp], k: int) -> FloatArray:
    return np.bincount(human * k + judge, minlength=k * k).reshape(k, k).astype(np.float64)


def _rank_correlations(judge: FloatArray, human: FloatArray) -> tuple[float, float]:
    from scipy.stats import kendalltau, rankdata

    if np.ptp(judge) == 0 or np.ptp(human) == 0:
        return np.nan, np.nan
    spearman = np.corrcoef(rankdata(judge), rankdata(human))[0, 1]
    return float(spearman), float(kendalltau(judge, human).statistic)


def _resamples(names: NDArray[np.intp], n_resamples: int, random_state: int) -> list[NDArray[np.intp]]:
    """Rows of prompts drawn with replacement."""
    rng = np.random.default_rng(random_state)
    order = np.argsort(names, kind="stable")
    rows = np.split(order, np.flatnonzero(np.diff(names[order])) + 1)
    return [np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))]) for _ in range(n_resamples)]


def _estimate(value: float, resampled: FloatArray) -> Estimate:
    known = resampled[~np.isnan(resampled)]
    if not len(known):
        return Estimate(value, np.nan, np.nan)
    low, high = np.quantile(known, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def _confusion(human: NDArray[np.intp], judge: NDArray[np.intp], levels: FloatArray) -> pl.DataFrame:
    table = _table(human, judge, len(levels)).astype(int)
    rows = []
    for i, j in np.ndindex(table.shape):
        cell = share(int(table[i, j]), int(table[i].sum()))
        rows.append((levels[i], levels[j], cell.count, cell.value, cell.low, cell.high))
    return pl.DataFrame(rows, schema=["human", "judge", "n", "share", "low", "high"], orient="row")
