"""The published recipes and the latency comparison, on small synthetic data."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor

from benchmarks import latency_comparison, litellm_heuristic
from benchmarks.recipes import (
    RECIPES,
    Choice,
    Estimate,
    Fold,
    Result,
    avengers_pro,
    carrot_knn,
    cross_validated_k,
    guarded_knn,
    heuristic_v2,
    llmrouter_svm,
    logistic,
    on_ladder,
    routellm_mf,
    routereval_knn,
    to_sweep,
)
from router_ml.errors import InputError
from router_ml.evaluation import frontier_metrics

COST = np.array([0.001, 0.002, 0.01])


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def two_topics(n: int, *, random_state: int, noise: float = 0.1) -> Fold:
    """On topic 0 all tiers answer well, on topic 1 only the dearest does."""
    rng = np.random.default_rng(random_state)
    topic = np.arange(n) % 2
    embeddings = unit(np.eye(8)[topic] + noise * rng.standard_normal((n, 8)))
    quality = np.where(topic[:, None] == 0, [0.9, 0.9, 0.9], [0.1, 0.3, 0.9])
    quality = (rng.random((n, 3)) < quality).astype(float)
    return Fold(embeddings, quality, COST * rng.uniform(0.8, 1.2, (n, 1)))


@pytest.fixture(scope="module")
def train() -> Fold:
    return two_topics(60, random_state=0)


@pytest.fixture(scope="module")
def test() -> Fold:
    return two_topics(40, random_state=1)


@pytest.fixture(scope="module")
def fake_litellm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python whose litellm is certain that longer prompts need dearer tiers."""
    folder = tmp_path_factory.mktemp("litellm")
    script = folder / "python"
    script.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        f"sys.path.insert(0, {str(Path(litellm_heuristic.__file__).parent)!r})\n"
        "import litellm_heuristic as script\n"
        "timed = '--time' in sys.argv\n"
        "for line in sys.stdin:\n"
        "    request = json.loads(line)\n"
        "    if timed:\n"
        "        warm_up = request.get('warm_up')\n"
        "        times = script.time_calls(len, request['prompts'], 10) if warm_up is None else \\\n"
        "            script.time_once(len, request['prompts'], warm_up)\n"
        "        answer = {**times, 'litellm': 'fake'}\n"
        "    else:\n"
        "        answer = {'p': [0.9 if len(request) < n else 0.2 for n in (5, 10, 15)] + [0.95], 'tier': 0}\n"
        "    print(json.dumps(answer), flush=True)\n"
    )
    script.chmod(0o755)
    return str(script)


@pytest.fixture(scope="module")
def result(train: Fold, test: Fold) -> Callable[[str], Result]:
    """What a recipe of the table gives on the test prompts; run once each."""
    return functools.cache(lambda name: RECIPES[name](train, test.embeddings))


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_gives_a_finite_table_or_a_tier(name: str, result: Callable[[str], Result]) -> None:
    found = result(name)
    if isinstance(found, Estimate):
        assert found.quality.shape == found.cost_usd.shape == (40, 3)
        assert np.isfinite(found.quality).all()
        assert np.isfinite(found.cost_usd).all()
    sweep = to_sweep(found)
    assert sweep.choices.shape[1] == 40
    assert set(np.unique(sweep.choices)) <= {0, 1, 2}
    assert (len(sweep.knob) > 1) == RECIPES[name].swept


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.swept])
def test_each_swept_recipe_finds_the_topics(name: str, result: Callable[[str], Result], test: Fold) -> None:
    assert frontier_metrics(to_sweep(result(name)), test.quality, test.cost_usd).gap_closed > 0


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if not recipe.swept])
def test_each_recipe_without_a_knob_sends_the_easy_topic_to_the_cheapest(
    name: str, result: Callable[[str], Result]
) -> None:
    found = result(name)
    assert isinstance(found, Choice)
    assert (found.tier[::2] == 0).mean() >= 0.75


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.random])
def test_the_seed_decides(name: str, result: Callable[[str], Result], train: Fold, test: Fold) -> None:
    again = to_sweep(RECIPES[name](train, test.embeddings))
    np.testing.assert_array_equal(to_sweep(result(name)).choices, again.choices)


def test_all_but_carrot_expect_the_mean_cost(result: Callable[[str], Result], train: Fold) -> None:
    for name in RECIPES:
        found = result(name)
        if isinstance(found, Estimate) and name != "CARROT kNN":
            np.testing.assert_allclose(found.cost_usd, np.tile(train.cost_usd.mean(axis=0), (40, 1)))


def test_k_is_that_of_scikit_learns_grid_search() -> None:
    fold = two_topics(200, random_state=2)
    ks = [2, 4, 8, 16, 32, 64, 128]
    search = GridSearchCV(
        KNeighborsRegressor(metric="cosine"), {"n_neighbors": ks}, scoring="neg_mean_squared_error", cv=5
    )
    assert (
        cross_validated_k(fold.embeddings, fold.quality)
        == search.fit(fold.embeddings, fold.quality).best_params_["n_neighbors"]
    )


def test_carrot_picks_k_for_quality_and_for_cost_apart() -> None:
    rng = np.random.default_rng(0)
    embeddings = unit(rng.standard_normal((100, 2)))
    quality = (rng.random((100, 2)) < 0.5).astype(float)  # noise: the more neighbours the better
    cost = np.column_stack([2 + embeddings[:, 0], 3 + embeddings[:, 1]])  # smooth: the nearest tell it
    found = carrot_knn(Fold(embeddings, quality, cost), embeddings)
    assert np.abs(found.cost_usd - cost).max() < 0.2
    assert np.abs(found.quality - quality.mean(axis=0)).max() < 0.25


def test_routereval_averages_the_five_nearest() -> None:
    angle = np.deg2rad(np.arange(0, 90, 9.0))
    quality = np.column_stack([np.arange(10) / 10, np.ones(10)])
    train = Fold(np.column_stack([np.cos(angle), np.sin(angle)]), quality, np.ones((10, 2)))
    np.testing.assert_allclose(routereval_knn(train, train.embeddings[:1]).quality, [[0.2, 1.0]])


def test_avengers_pro_weights_the_three_nearest_clusters() -> None:
    centres = unit(np.array([[1, 0.0], [1, 0.5], [1, 1.5], [0, 1.0]]))
    quality = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.3, 0.8]])
    train = Fold(np.repeat(centres, 10, axis=0), np.repeat(quality, 10, axis=0), np.ones((40, 2)))
    distance = np.linalg.norm(centres - centres[0], axis=1)[:3]
    weight = np.exp(-9 * distance) / np.exp(-9 * distance).sum()
    found = avengers_pro(train, 5 * centres[:1], n_clusters=4).quality  # of any length: it is normalised
    np.testing.assert_allclose(found, [weight @ quality[:3]], atol=1e-6)


def test_avengers_pro_is_scikit_learns_k_means_with_25_clusters(train: Fold) -> None:
    clusters = KMeans(25, n_init=10, random_state=42).fit(train.embeddings)
    at = clusters.predict(train.embeddings[:1])[0]
    found = avengers_pro(train, train.embeddings[:1], nearest=1).quality
    np.testing.assert_allclose(found[0], train.quality[clusters.labels_ == at].mean(axis=0))


@pytest.mark.parametrize(("gain", "chosen"), [(0.02, 0), (0.2, 1)])
def test_guarded_knn_stays_with_the_best_tier_where_the_gain_is_within_half_a_standard_error(
    gain: float, chosen: int
) -> None:
    # 50 neighbours of the query, on which tier 1 gains `gain` +- 0.5 (standard error 0.07); 100 others, on which it loses.
    spread = np.tile([0.5, -0.5], 25)
    quality = np.vstack([np.column_stack([np.full(50, 0.4), 0.4 + gain + spread]), np.tile([0.5, 0.2], (100, 1))])
    near, far = np.eye(2)
    train = Fold(np.vstack([np.tile(near, (50, 1)), np.tile(far, (100, 1))]), quality, np.tile([1.0, 2.0], (150, 1)))
    sweep = guarded_knn(train, near[None])
    assert sweep.knob[0] == 0
    assert sweep.choices[0].tolist() == [chosen]


def test_mf_never_picks_a_middle_tier(train: Fold, test: Fold) -> None:
    assert set(np.unique(to_sweep(routellm_mf(train, test.embeddings, n_epochs=5)).choices)) == {0, 2}


def test_mf_without_a_better_tier_stays_with_the_cheapest(train: Fold, test: Fold) -> None:
    alike = Fold(train.embeddings, np.full((60, 3), 0.5), train.cost_usd)
    assert not to_sweep(routellm_mf(alike, test.embeddings)).choices.any()


def test_mf_leaves_torchs_own_seed_alone(train: Fold, test: Fold) -> None:
    import torch

    before = torch.get_rng_state()
    routellm_mf(train, test.embeddings, n_epochs=1)
    assert torch.equal(before, torch.get_rng_state())


def test_logistic_counts_a_fraction_as_weights(train: Fold) -> None:
    halves = Fold(train.embeddings, np.full((60, 3), 0.25), train.cost_usd)
    np.testing.assert_allclose(logistic(halves, train.embeddings).quality, 0.25, atol=1e-3)


def test_logistic_takes_a_tier_that_is_always_right(train: Fold) -> None:
    right = Fold(train.embeddings, np.ones((60, 3)), train.cost_usd)
    assert (logistic(right, train.embeddings).quality == 1).all()


def test_llmrouter_gives_ties_to_the_cheapest(train: Fold) -> None:
    alike = Fold(train.embeddings, np.ones((60, 3)), train.cost_usd)
    assert not llmrouter_svm(alike, train.embeddings).tier.any()


def test_heuristic_v2_takes_the_first_tier_that_reaches_the_threshold(fake_litellm: str) -> None:
    sweep = heuristic_v2(["a", "seven..", "twelve......"], 3, python=fake_litellm)
    between = sweep.choices[(sweep.knob > 0.2) & (sweep.knob <= 0.9)]
    assert between.tolist() == [[0, 1, 2]] * len(between)
    assert len(between) > 0


def test_heuristic_v2s_last_tier_is_the_ladders_last() -> None:
    np.testing.assert_array_equal(on_ladder(np.array([[0.1, 0.2, 0.3, 0.4]]), 3), [[0.1, 0.2, 1.0]])


def test_heuristic_v2_has_four_tiers() -> None:
    with pytest.raises(InputError, match="5 tiers"):
        on_ladder(np.ones((1, 4)), 5)


def test_heuristic_v2_without_litellm_says_so() -> None:
    with pytest.raises(InputError, match="litellm"):
        heuristic_v2(["a"], 3, python=sys.executable)


def test_quantiles_are_numpys() -> None:
    values = [1.0, 2.0, 4.0, 8.0, 9.0]
    assert [litellm_heuristic.quantile(values, q) for q in (0, 0.3, 0.99, 1)] == pytest.approx(
        np.quantile(values, (0, 0.3, 0.99, 1)).tolist()
    )


TEXT = [f"w{i}" for i in range(40_000)]
"""A text in which no word comes twice."""


@pytest.mark.parametrize(
    "words", [TEXT, latency_comparison.common_words(0), TEXT[:300]], ids=["text", "common", "short"]
)
@pytest.mark.parametrize("n_words", latency_comparison.LENGTHS)
def test_prompts_are_distinct_and_of_the_length(n_words: int, words: list[str]) -> None:
    for prompts in latency_comparison.build_prompts(words, n_words, calls=100, random_state=0):
        assert len(set(prompts.timed)) == len(prompts.timed) >= 20
        assert {len(p.split()) for p in prompts.timed} == {n_words}


@pytest.mark.parametrize("n_words", latency_comparison.LENGTHS)
def test_the_words_of_new_prompts_come_nowhere_before(n_words: int) -> None:
    new, seen = latency_comparison.build_prompts(TEXT, n_words, calls=100, random_state=0)
    assert (new.new_words, seen.new_words) == (1.0, 0.0)


def test_common_words_are_known() -> None:
    words = latency_comparison.common_words(0)
    assert latency_comparison.build_prompts(words, 50, calls=100, random_state=0)[0].new_words == 0


def test_new_words_are_counted_once() -> None:
    assert latency_comparison.Prompts(2, ["a b", "b c"], ["a"]).new_words == 0.5


def test_ratios_are_taken_within_a_round() -> None:
    ours = iter([{"p50_us": 1.0, "p99_us": 3.0}, {"p50_us": 4.0, "p99_us": 3.0}, {"p50_us": 2.0, "p99_us": 3.0}])
    theirs = iter([{"p50_us": 1.0, "p99_us": 6.0}, {"p50_us": 2.0, "p99_us": 6.0}, {"p50_us": 4.0, "p99_us": 6.0}])
    prompts = [latency_comparison.Prompts(12, ["a"])]
    (row,) = latency_comparison.compare(lambda _: next(ours), lambda _: next(theirs), prompts, rounds=3)
    assert row.p50_ratio == latency_comparison.Ratio(1.0, 0.5, 2.0)
    assert row.p99_ratio == latency_comparison.Ratio(0.5, 0.5, 0.5)
    assert row.ours == latency_comparison.Latency(2.0, 3.0)


def test_the_other_side_stays_alive_between_blocks(fake_litellm: str, artifact: Path) -> None:
    prompts = latency_comparison.build_prompts(TEXT, 12, calls=30, random_state=0)
    ours = latency_comparison.our_timer(artifact, 5)
    with latency_comparison.their_timer(fake_litellm, 5) as theirs:
        rows = latency_comparison.compare(ours, theirs, prompts, rounds=2)
    assert [(row.words, row.kind, row.n_prompts) for row in rows] == [(12, "new", 30), (12, "seen", 24)]
    assert all(0 < side.p50_us <= side.p99_us for row in rows for side in (row.ours, row.theirs))
    assert len(latency_comparison.to_text(rows).splitlines()) == 3


def test_each_new_prompt_is_asked_once_after_the_warm_up() -> None:
    asked: list[str] = []
    litellm_heuristic.time_once(asked.append, ["a", "b"], ["c"])
    assert asked == ["c", "a", "b"]


def test_prompts_come_from_a_traffic_table_or_a_text(sample_path: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("two words")
    assert latency_comparison.read_words(tmp_path / "prompts.txt") == ["two", "words"]
    assert len(latency_comparison.read_words(sample_path)) > 1_000


@pytest.mark.parametrize("name", ["bad.parquet", "bad.txt", "absent.parquet", "absent.txt"])
def test_a_file_without_prompts_is_named(name: str, tmp_path: Path) -> None:
    if name.startswith("bad"):
        (tmp_path / name).write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=name):
        latency_comparison.read_words(tmp_path / name)


def test_a_text_of_one_word_is_refused() -> None:
    with pytest.raises(InputError, match="1 words long"):
        latency_comparison.build_prompts(["a"], 12, calls=5, random_state=0)


def test_an_environment_without_litellm_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(InputError, match="litellm"),
        latency_comparison.their_timer(sys.executable, 5) as theirs,
    ):
        theirs(latency_comparison.Prompts(1, ["a"]))
    assert "No module named 'litellm'" in capfd.readouterr().err
