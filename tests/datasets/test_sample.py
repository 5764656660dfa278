"""The simulated traffic keeps what its docstrings promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from polars.testing import assert_frame_equal
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

from router_ml.datasets import TIERS_PATH, sample_ladder, simulate
from router_ml.datasets.documents import write_document
from router_ml.datasets.families import FAMILIES, Family
from router_ml.datasets.logging_policy import FLOOR, logging_propensities
from router_ml.datasets.writing import Request, count, fill, in_user_style, with_typos
from router_ml.errors import InputError
from router_ml.evaluation.frontier import sweep_value
from router_ml.evaluation.metrics import frontier_metrics
from router_ml.traffic.schema import SCHEMA

N_PROMPTS = 5_000
N_TRAIN = 3_500
MODELS = ("gpt-4.1-nano", "gpt-4.1-mini", "gpt-4.1")


@pytest.fixture(scope="module")
def full() -> pl.DataFrame:
    return simulate(N_PROMPTS, random_state=0)


@pytest.fixture(scope="module")
def prompts(full: pl.DataFrame) -> list[str]:
    return full["prompt"].to_list()[:: len(MODELS)]


@pytest.fixture(scope="module")
def quality(full: pl.DataFrame) -> NDArray[np.float64]:
    return full["quality"].to_numpy().reshape(N_PROMPTS, len(MODELS))


@pytest.fixture(scope="module")
def logged() -> pl.DataFrame:
    return simulate(N_PROMPTS, random_state=0, logged=True)


@pytest.fixture(scope="module")
def features(prompts: list[str]) -> tuple[csr_matrix, csr_matrix]:
    """TF-IDF and the logarithm of the length, for the first prompts and for those held out."""
    words = TfidfVectorizer(sublinear_tf=True, min_df=3, max_features=4_000).fit(prompts[:N_TRAIN])
    length = np.log([[len(prompt)] for prompt in prompts])
    both = csr_matrix(hstack([words.transform(prompts), length - length[:N_TRAIN].mean()]))
    return both[:N_TRAIN], both[N_TRAIN:]


@pytest.mark.parametrize("is_log", [False, True])
def test_columns_and_types_are_those_of_the_traffic_table(is_log: bool) -> None:
    assert simulate(3, random_state=1, logged=is_log).schema == SCHEMA


def test_there_is_one_row_per_prompt_and_tier(full: pl.DataFrame) -> None:
    assert full.height == N_PROMPTS * len(MODELS)
    assert full.select("prompt_id", "model").n_unique() == full.height
    assert full["model"].to_list()[:3] == list(MODELS)


def test_every_row_says_that_it_is_simulated(full: pl.DataFrame) -> None:
    assert full["source"].unique().to_list() == ["simulated"]
    assert full["prompt_id"].str.starts_with("sim-").all()
    assert full["response"].str.starts_with("[simulated answer of ").all()


@pytest.mark.parametrize("is_log", [False, True])
def test_same_arguments_give_the_same_frame(is_log: bool) -> None:
    first, second = (simulate(80, random_state=7, logged=is_log) for _ in range(2))
    assert_frame_equal(first, second)


def test_another_process_gives_the_same_frame() -> None:
    script = "from router_ml.datasets import simulate; print(simulate(40, random_state=3).write_json())"
    env = os.environ | {"PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == simulate(40, random_state=3).write_json()


def test_another_seed_gives_other_prompts() -> None:
    first, second = (set(simulate(200, random_state=seed)["prompt"]) for seed in (0, 1))
    assert len(first & second) <= 4


def test_a_prompt_id_stands_for_one_prompt_whatever_the_number_of_prompts() -> None:
    both = pl.concat([simulate(n, random_state=0) for n in (20, 30)]).select("prompt_id", "prompt").unique()
    assert both["prompt_id"].is_unique().all()


def test_prompts_hardly_repeat_but_for_everyday_ones(full: pl.DataFrame) -> None:
    prompts = full.unique("prompt_id").filter(pl.col("category") != "everyday")["prompt"]
    assert prompts.n_unique() >= 0.98 * len(prompts)


def test_no_slot_is_left_open(prompts: list[str]) -> None:
    assert [prompt for prompt in prompts if re.search(r"\{\w+\}", prompt)] == []


def test_prompts_run_from_a_few_words_to_about_six_hundred(prompts: list[str]) -> None:
    words = np.array([len(prompt.split()) for prompt in prompts])
    assert words.min() >= 1
    assert 450 <= words.max() <= 700
    assert 25 <= np.median(words) <= 80


def test_all_families_come(full: pl.DataFrame) -> None:
    assert set(full["category"].unique()) == {family.name for family in FAMILIES}
    assert len(FAMILIES) >= 14


def test_mean_qualities_rise_with_the_price(quality: NDArray[np.float64]) -> None:
    nano, mini, top = quality.mean(axis=0)
    assert 0.56 <= nano <= 0.64
    assert 0.73 <= mini <= 0.80
    assert 0.84 <= top <= 0.90


def test_the_dearest_tier_is_not_the_best_on_each_family(full: pl.DataFrame) -> None:
    means = (
        full.group_by("category", "model")
        .agg(pl.col("quality").mean())
        .pivot("model", index="category", values="quality")
    )
    n_beaten = means.filter(pl.col("gpt-4.1-mini") >= pl.col("gpt-4.1")).height
    assert 2 <= n_beaten <= len(FAMILIES) // 2


def test_quality_is_right_or_wrong_for_checkable_families_and_in_quarters_for_others(full: pl.DataFrame) -> None:
    checkable = pl.col("category").is_in([family.name for family in FAMILIES if family.checkable])
    right_or_wrong = full.filter(checkable)["quality"]
    assert set(right_or_wrong.unique()) == {0.0, 0.5, 1.0}
    assert (right_or_wrong == 0.5).mean() < 0.05
    assert set(full.filter(~checkable)["quality"].unique()) == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_the_dearest_tier_sometimes_fails_where_a_cheaper_one_succeeds(quality: NDArray[np.float64]) -> None:
    overtaken = (quality[:, 2] < 0.5) & (quality[:, :2].max(axis=1) >= 0.5)
    assert 0.025 <= overtaken.mean() <= 0.06


def test_the_oracle_is_clearly_above_the_best_tier(quality: NDArray[np.float64]) -> None:
    assert quality.max(axis=1).mean() >= quality.mean(axis=0).max() + 0.025


def test_difficulty_shows_in_the_text(features: tuple[csr_matrix, csr_matrix], quality: NDArray[np.float64]) -> None:
    train, held_out = features
    succeeds = quality[:, 0] >= 0.5
    model = LogisticRegression(max_iter=1_000).fit(train, succeeds[:N_TRAIN])
    assert 0.65 <= roc_auc_score(succeeds[N_TRAIN:], model.predict_proba(held_out)[:, 1]) <= 0.95


def test_a_simple_router_closes_part_of_the_gap_to_the_oracle(
    full: pl.DataFrame, features: tuple[csr_matrix, csr_matrix], quality: NDArray[np.float64]
) -> None:
    train, held_out = features
    cost = full["cost_usd"].to_numpy().reshape(quality.shape)
    expected_quality = Ridge(alpha=3.0).fit(train, quality[:N_TRAIN]).predict(held_out)
    expected_cost = np.exp(Ridge(alpha=3.0).fit(train, np.log(cost[:N_TRAIN])).predict(held_out))
    reached = frontier_metrics(sweep_value(expected_quality, expected_cost), quality[N_TRAIN:], cost[N_TRAIN:])
    assert 0.2 <= reached.gap_closed <= 0.65


def test_cost_is_price_times_tokens(full: pl.DataFrame) -> None:
    usd_per_mtok = {"gpt-4.1-nano": (0.10, 0.40), "gpt-4.1-mini": (0.40, 1.60), "gpt-4.1": (2.00, 8.00)}
    for row in full.head(300).iter_rows(named=True):
        per_input, per_output = usd_per_mtok[row["model"]]
        usd = (row["input_tokens"] * per_input + row["output_tokens"] * per_output) / 1e6
        assert row["cost_usd"] == pytest.approx(usd, abs=1e-9)


def test_an_input_token_is_about_four_characters(full: pl.DataFrame) -> None:
    long = full.filter(pl.col("prompt").str.len_chars() > 400)
    ratio = long["prompt"].str.len_chars() / long["input_tokens"]
    assert ratio.mean() == pytest.approx(4.0, rel=0.02)


def test_dearer_tiers_take_longer(full: pl.DataFrame) -> None:
    means = full.group_by("model", maintain_order=True).agg(pl.col("latency_ms").mean())["latency_ms"].to_list()
    assert 300 < means[0] < means[1] < means[2] < 10_000


def test_the_ladder_is_the_bundled_file() -> None:
    ladder = sample_ladder()
    assert ladder.names == ("nano", "mini", "full")
    assert ladder.models == MODELS
    assert (TIERS_PATH.parent.name, TIERS_PATH.name) == ("datasets", "tiers.yaml")
    assert all(tier.context_window == 1_047_576 and "json_schema" in tier.supports for tier in ladder)


def test_about_three_in_ten_prompts_belong_to_a_session_of_two_to_five(full: pl.DataFrame) -> None:
    one_per_prompt = full.filter(pl.col("model") == MODELS[0])
    in_session = one_per_prompt.drop_nulls("session_id")
    sizes = in_session.group_by("session_id").len()["len"]
    assert in_session.height / one_per_prompt.height == pytest.approx(0.30, abs=0.04)
    assert set(sizes.unique()) == {2, 3, 4, 5}


def test_times_rise_within_a_session(full: pl.DataFrame) -> None:
    in_session = full.filter(pl.col("model") == MODELS[0]).drop_nulls("session_id")
    gaps = in_session.select(pl.col("created_at").diff().over("session_id").dt.total_seconds()).to_series().drop_nulls()
    assert gaps.len() > 500
    assert gaps.min() >= 19
    assert gaps.max() <= 421


def test_times_are_spread_over_october_2026(full: pl.DataFrame) -> None:
    days = full["created_at"].dt.date()
    assert full["created_at"].dt.strftime("%Y-%m").unique().to_list() == ["2026-10"]
    assert days.n_unique() >= 30


def test_the_full_table_has_no_propensities(full: pl.DataFrame) -> None:
    assert full["propensity"].null_count() == full.height


def test_the_log_is_one_row_per_prompt_of_the_full_table(full: pl.DataFrame, logged: pl.DataFrame) -> None:
    assert logged["prompt_id"].is_unique().all()
    assert logged.height == N_PROMPTS
    same = full.join(logged.select("prompt_id", "model"), on=["prompt_id", "model"], maintain_order="left")
    assert_frame_equal(same.drop("propensity"), logged.drop("propensity"))


def test_inverse_propensities_recover_the_mean_quality_of_each_tier(
    logged: pl.DataFrame, quality: NDArray[np.float64]
) -> None:
    for tier, model in enumerate(MODELS):
        weight = (logged["model"] == model).to_numpy() / logged["propensity"].to_numpy()
        terms = weight * (logged["quality"].to_numpy() - 0.5)
        standard_error = terms.std() / np.sqrt(N_PROMPTS)
        assert abs(terms.mean() + 0.5 - quality[:, tier].mean()) <= 4 * standard_error
        assert standard_error < 0.03


def test_plain_means_of_the_log_flatter_the_cheap_tier(logged: pl.DataFrame, quality: NDArray[np.float64]) -> None:
    shown = logged.filter(pl.col("model") == MODELS[0])["quality"].to_numpy()
    assert shown.mean() - quality[:, 0].mean() > 3 * shown.std() / np.sqrt(len(shown))


def test_every_tier_keeps_its_floor_and_chances_sum_to_one(prompts: list[str]) -> None:
    propensities = logging_propensities(prompts)
    assert propensities.min() >= FLOOR
    assert propensities.sum(axis=1) == pytest.approx(1.0)


def test_longer_prompts_and_code_go_to_dearer_tiers() -> None:
    short, long, code = logging_propensities(["word " * 10, "word " * 400, "word " * 8 + "``` ```"])
    assert short[0] > long[0]
    assert short[2] < long[2]
    assert short[2] < code[2]


@pytest.mark.parametrize(("n_prompts", "random_state"), [(0, 0), (-3, 0), (5, -1)])
def test_numbers_below_their_range_are_refused(n_prompts: int, random_state: int) -> None:
    with pytest.raises(InputError, match="needed is at least"):
        simulate(n_prompts, random_state=random_state)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.name != "everyday"], ids=lambda family: family.name)
def test_harder_requests_are_longer(family: Family) -> None:
    rng = np.random.default_rng(0)
    easy, hard = ([family.compose(rng, difficulty) for _ in range(60)] for difficulty in (0.05, 0.95))
    mean_length = [np.mean([len(request.ask) + len(request.material) for request in side]) for side in (easy, hard)]
    assert mean_length[1] > 1.15 * mean_length[0]


def test_a_count_grows_with_difficulty_and_stays_in_its_range() -> None:
    rng = np.random.default_rng(0)
    easy, hard = ([count(rng, difficulty, 1, 9) for _ in range(200)] for difficulty in (0.1, 0.9))
    assert np.mean(easy) + 4 < np.mean(hard)
    assert set(easy + hard) <= set(range(1, 10))


def test_an_unknown_slot_is_an_error() -> None:
    with pytest.raises(KeyError):
        fill(np.random.default_rng(0), "a {nonsense} slot")


def test_a_typo_swaps_letters_and_keeps_them_all() -> None:
    text = "please summarise this document"
    misspelt = with_typos(np.random.default_rng(0), text, n_typos=1)
    assert misspelt != text
    assert sorted(misspelt) == sorted(text)


def test_material_is_never_changed_by_the_users_style() -> None:
    rng = np.random.default_rng(0)
    assert all("MATERIAL Stays" in in_user_style(rng, Request("Summarise this.", "MATERIAL Stays")) for _ in range(200))


def test_a_document_is_as_long_as_asked_for() -> None:
    words = write_document(
        np.random.default_rng(0), ("One short sentence here.", "Another one of six words."), 40
    ).split()
    assert 40 <= len(words) < 40 + 5
