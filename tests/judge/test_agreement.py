"""Agreement with people, and the margin that a judge's noise asks for; the promises are simulated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import cohen_kappa_score

from router_ml.errors import InputError, TrafficError
from router_ml.judge import (
    agree_with_labels,
    agreement,
    margin_from_labels,
    margin_from_votes,
    position_bias,
)
from router_ml.judge.agreement import cohen_kappa
from router_ml.judge.shares import share
from router_ml.ladder import Ladder, Tier
from router_ml.traffic.labels import Bar, meets

LADDER = Ladder((Tier("small", "s"), Tier("large", "l")))
few = settings(max_examples=25, deadline=None)


def test_kappa_of_a_worked_table() -> None:
    # 20 + 15 of 50 agree (0.7); by chance 0.5 x 0.6 + 0.5 x 0.4 = 0.5 would.
    assert cohen_kappa(np.array([[20.0, 5.0], [10.0, 15.0]])) == pytest.approx(0.4)


@few
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60),
    st.sampled_from(["linear", "quadratic", None]),
)
def test_kappa_is_sklearns(pairs: list[tuple[int, int]], weights: str | None) -> None:
    a, b = np.array(pairs).T
    if len(set(a) | set(b)) < 2:
        return
    table = np.zeros((4, 4))
    np.add.at(table, (a, b), 1)
    expected = cohen_kappa_score(a, b, labels=range(4), weights=weights)
    assert cohen_kappa(table, weights or "equal") == pytest.approx(expected, nan_ok=True)


def test_kappa_is_not_defined_where_both_know_one_level() -> None:
    assert np.isnan(cohen_kappa(np.array([[5.0, 0.0], [0.0, 0.0]])))


def test_rank_correlations_are_scipys() -> None:
    rng = np.random.default_rng(0)
    human = rng.integers(0, 5, 80) / 4
    judge = np.clip(human + rng.normal(0, 0.2, 80).round(1), 0, 1)
    found = agreement(judge, human, bar=0.5, n_resamples=10)
    assert found.spearman.value == pytest.approx(spearmanr(judge, human).statistic)
    assert found.kendall.value == pytest.approx(kendalltau(judge, human).statistic)


def test_confusion_counts_by_hand() -> None:
    found = agreement([1, 1, 0, 0, 1], [1, 0, 0, 1, 1], bar=1.0, n_resamples=20)
    assert (found.accuracy.value, found.wrongly_met.count, found.wrongly_met.n, found.wrongly_failed.count) == (
        0.6,
        1,
        2,
        1,
    )
    assert found.table.select("human", "judge", "n").rows() == [
        (0.0, 0.0, 1),
        (0.0, 1.0, 1),
        (1.0, 0.0, 1),
        (1.0, 1.0, 2),
    ]


def test_perfect_agreement() -> None:
    values = np.arange(50) / 49
    found = agreement(values, values, bar=0.5, n_resamples=50)
    assert [getattr(found, f).value for f in ("kappa", "weighted_kappa", "spearman", "kendall")] == pytest.approx(
        [1] * 4
    )


def test_levels_are_peoples_where_they_are_few() -> None:
    found = agreement([0.1, 0.4, 0.9], [0, 0.5, 1], bar=0.5, n_resamples=10)
    assert found.table["human"].unique().sort().to_list() == [0, 0.5, 1]


def test_same_seed_gives_the_same_intervals() -> None:
    rng = np.random.default_rng(1)
    judge, human = rng.random(40).round(1), rng.random(40).round(1)
    one, two, other = (agreement(judge, human, bar=0.5, n_resamples=50, random_state=s) for s in (0, 0, 1))
    assert one.kappa == two.kappa != other.kappa


def test_answers_of_one_prompt_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    judge, human = (np.repeat(rng.integers(0, 2, 30), 10).astype(float) for _ in range(2))
    prompts = np.repeat(np.arange(30), 10).astype(str).tolist()
    alone, grouped = (agreement(judge, human, bar=0.5, prompts=p, n_resamples=200).kappa for p in (None, prompts))
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_kappas_interval_covers_the_truth_in_a_simulation() -> None:
    # Judge and people see the same truth, each wrong in one case of ten: kappa is 4 x 0.41 - 1 = 0.64.
    covered = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        truth = rng.random(150) < 0.5
        judge, human = (np.where(rng.random(150) < 0.1, ~truth, truth).astype(float) for _ in range(2))
        found = agreement(judge, human, bar=1.0, n_resamples=40, random_state=seed).kappa
        covered += found.low <= 0.64 <= found.high
    assert covered >= 23  # of 30; about 27 expected


def test_labels_are_joined_by_prompt_and_model() -> None:
    judged = pl.DataFrame(
        {"prompt_id": ["a", "a", "b", "c"], "model": ["s", "l", "s", "s"], "quality": [0.0, 1.0, 1.0, None]}
    )
    labels = pl.DataFrame(
        {"prompt_id": ["a", "a", "b", "b", "c"], "model": ["s", "l", "s", "s", "s"], "quality": [0, 1, 0, 1, 1]}
    )
    found = agree_with_labels(judged, labels, bar=0.5, n_resamples=10)
    assert (found.n, found.n_prompts, found.accuracy.value) == (3, 2, 1.0)


def test_labels_of_other_answers_are_an_error() -> None:
    judged = pl.DataFrame({"prompt_id": ["a"], "model": ["s"], "quality": [0.0]})
    with pytest.raises(TrafficError, match="0 answers have both"):
        agree_with_labels(judged, judged.with_columns(model=pl.lit("l")), bar=0.5)


@pytest.mark.parametrize(
    ("judge", "human", "bar"),
    [
        ([0.5], [0.5], 0.5),
        ([0, 1], [0, 1, 1], 0.5),
        ([0, 2], [0, 1], 0.5),
        ([0, np.nan], [0, 1], 0.5),
        ([0, 1], [0, 1], 0),
    ],
)
def test_unusable_qualities_are_an_error(judge: list[float], human: list[float], bar: float) -> None:
    with pytest.raises(InputError):
        agreement(judge, human, bar=bar)


@few
@given(st.integers(0, 50), st.integers(0, 50))
def test_share_lies_in_its_interval(a: int, b: int) -> None:
    found = share(min(a, b), max(a, b))
    assert found.n == 0 or 0 <= found.low <= found.value + 1e-12 <= found.high + 1e-9 <= 1 + 1e-9


def test_position_bias_of_worked_pairs() -> None:
    bias = position_bias([("first", "second"), ("first", "first"), ("tie", "tie"), ("second", "tie")])
    assert (bias.flips.count, bias.flips.n, bias.first.count, bias.first.n) == (2, 4, 3, 5)


# --- margins


def noisy(rng: np.random.Generator, n: int, sd: float) -> tuple[np.ndarray, np.ndarray]:
    """A judge's and people's qualities; their bar is 0.5."""
    human = rng.random(n)
    return np.clip(human + rng.normal(0, sd, n), 0, 1), human


def test_faultless_judge_needs_no_margin() -> None:
    values = np.random.default_rng(0).random(200)
    assert margin_from_labels(values, values, bar=0.5).width == 0


def test_noisier_judge_needs_a_wider_margin() -> None:
    widths = [
        margin_from_labels(*noisy(np.random.default_rng(0), 1000, sd), bar=0.5).width for sd in (0.05, 0.15, 0.25)
    ]
    assert widths == sorted(widths)
    assert widths[0] < widths[2]


def test_margin_keeps_wrong_labels_to_alpha_in_a_simulation() -> None:
    # The true error outside of each margin comes from a large sample; with delta 0.1, one sample in ten may miss.
    big_judge, big_human = noisy(np.random.default_rng(1), 200_000, 0.2)
    wrong = (big_judge >= 0.5) != (big_human >= 0.5)
    missed = n = 0
    for seed in range(200):
        try:
            margin = margin_from_labels(*noisy(np.random.default_rng(100 + seed), 200, 0.2), bar=0.5, alpha=0.12)
        except InputError:
            continue
        n += 1
        missed += wrong[np.abs(big_judge - 0.5) >= margin.width].mean() > 0.12
    assert n > 100
    assert missed <= 0.1 * 200


def test_useless_judge_gets_no_margin() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="No margin around the bar"):
        margin_from_labels(rng.random(500), rng.random(500), bar=0.5)


def test_few_labels_give_no_margin() -> None:
    with pytest.raises(InputError, match="Label more"):
        margin_from_labels([0.0, 1.0] * 5, [0.0, 1.0] * 5, bar=0.5)


def votes(
    rng: np.random.Generator, means: np.ndarray, n_votes: int, sd: float = 0.2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    cast = means[:, None] + rng.normal(0, sd, (len(means), n_votes))
    return cast.mean(axis=1), cast.std(axis=1, ddof=1), np.full(len(means), n_votes)


def test_margin_of_votes_is_their_standard_error_times_a_quantile() -> None:
    margin = margin_from_votes(*votes(np.random.default_rng(0), np.full(5000, 0.5), 4), bar=0.5, alpha=0.1)
    assert margin.width == pytest.approx(1.2816 * 0.2 / 2, rel=0.03)


def test_margin_of_votes_is_crossed_by_at_most_alpha_in_a_simulation() -> None:
    # Answers whose long-run mean is at the bar exactly: the hardest that are not above it.
    crossed = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        margin = margin_from_votes(*votes(rng, np.full(50, 0.6), 3), bar=0.6, alpha=0.1)
        crossed.append((votes(rng, np.full(500, 0.6), 3)[0] >= 0.6 + margin.width).mean())
    assert np.mean(crossed) == pytest.approx(0.1, abs=0.012)


def test_votes_that_all_agree_need_no_margin() -> None:
    assert margin_from_votes(np.full(20, 0.5), np.zeros(20), np.full(20, 3), bar=0.5).width == 0


def test_margin_asks_for_votes() -> None:
    with pytest.raises(InputError, match="votes: 3"):
        margin_from_votes(np.full(20, 0.5), np.full(20, np.nan), np.ones(20), bar=0.5)


def test_within_the_margin_nothing_is_said() -> None:
    quality = np.array([[0.9, 0.75], [0.5, np.nan], [0.7, 0.71]])
    met = meets(quality, LADDER, replace(Bar(0.8), margin=0.1))
    np.testing.assert_array_equal(met, [[1, np.nan], [0, np.nan], [0, np.nan]])


def test_relative_bar_widens_the_margin_and_spares_the_reference_tier() -> None:
    # 0.1 x sqrt(2) = 0.141 around the large tier's quality.
    quality = np.array([[0.7, 0.8], [0.6, 0.8], [0.95, 0.8]])
    met = meets(quality, LADDER, replace(Bar(1.0, "relative", "large"), margin=0.1))
    np.testing.assert_array_equal(met, [[np.nan, 1], [0, 1], [1, 1]])


tables = st.lists(st.tuples(*[st.one_of(st.just(np.nan), st.floats(0, 1))] * 2), min_size=1, max_size=20)


@few
@given(tables, st.sampled_from(["0.5", "0.9x"]), st.floats(0, 0.5), st.floats(0, 0.5))
def test_margin_only_takes_knowledge_away(table: list[tuple[float, float]], bar: str, one: float, two: float) -> None:
    quality = np.array(table)
    known = meets(quality, LADDER, Bar.parse(bar))
    narrow, wide = (meets(quality, LADDER, replace(Bar.parse(bar), margin=w)) for w in sorted((one, two)))
    np.testing.assert_array_equal(meets(quality, LADDER, replace(Bar.parse(bar), margin=0.0)), known)
    for met, more in ((narrow, known), (wide, narrow)):
        assert np.array_equal(met[~np.isnan(met)], more[~np.isnan(met)])
