"""judge.yaml and the way from traffic to judged traffic."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.errors import InputError, RouterError, TrafficError
from router_ml.judge import JudgeConfig, agree_with_labels, judge_traffic
from router_ml.traffic.schema import SCHEMA
from router_ml.traffic.validate import load_traffic


def traffic(*rows: dict[str, Any]) -> pl.DataFrame:
    defaults = {"prompt": "q", "model": "small", "response": "4"}
    extra = {"reference": pl.String()} if any("reference" in r for r in rows) else {}
    return pl.DataFrame(
        [{"prompt_id": f"p{i}", **defaults, **r} for i, r in enumerate(rows)], schema={**SCHEMA, **extra}
    )


def config(*rules: dict[str, Any], **options: Any) -> JudgeConfig:
    return JudgeConfig.from_dict({"rules": list(rules), **options})


def qualities(table: pl.DataFrame, *rules: dict[str, Any], **options: Any) -> list[float | None]:
    return judge_traffic(table, config(*rules, **options)).traffic["quality"].to_list()


EXACT = {"grader": "exact"}


def test_first_rule_that_matches_grades_a_row() -> None:
    table = traffic(
        {"category": "math", "response": "It is 4.0", "reference": "4"},
        {"category": "text", "response": "It is 4", "reference": "4"},
        {"category": None, "response": "4", "reference": "4"},
    )
    rules = [{"grader": "numeric", "when": {"category": ["math", "physics"]}}, EXACT]
    assert qualities(table, *rules) == [1, 0, 1]


def test_conditions_of_a_rule_have_to_hold_together() -> None:
    table = traffic(
        {"source": "a", "category": "x", "reference": "4"}, {"source": "a", "category": "y", "reference": "4"}
    )
    assert qualities(table, {**EXACT, "when": {"source": "a", "category": "x"}}) == [1, None]


def test_rows_that_have_a_quality_keep_it_unless_told() -> None:
    table = traffic({"quality": 0.3, "reference": "4"}, {"reference": "4"})
    assert qualities(table, EXACT) == [0.3, 1]
    assert qualities(table, EXACT, overwrite=True) == [1, 1]


def test_row_without_text_or_reference_has_no_quality_and_says_why() -> None:
    result = judge_traffic(
        traffic({"response": None, "reference": "4"}, {"reference": None}, {"reference": "4"}), config(EXACT)
    )
    assert result.traffic["quality"].to_list() == [None, None, 1]
    assert (result.n_unmatched, result.rules[0].unjudged) == (1, {"no reference": 1})


def test_row_that_cannot_be_judged_any_more_has_none() -> None:
    assert qualities(traffic({"quality": 0.3, "reference": None}), EXACT, overwrite=True) == [None]


def test_longer_answers_than_allowed_are_not_judged() -> None:
    table = traffic({"response": "4" * 11, "reference": "4"})
    assert judge_traffic(table, config(EXACT, max_chars=10)).rules[0].unjudged == {"longer than 10 characters": 1}


def test_answer_of_100_mb_is_passed_over() -> None:
    table = traffic({"response": "x" * 100_000_000, "reference": "4"}, {"reference": "4"})
    assert qualities(table, {"grader": "normalised"}) == [None, 1]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_references_come_from_a_file_beside_the_yaml(tmp_path: Path, suffix: str) -> None:
    references = pl.DataFrame({"prompt_id": ["p0", "p1"], "answer": ["4", "5"]})
    write = {"parquet": references.write_parquet, "csv": references.write_csv, "jsonl": references.write_ndjson}
    write[suffix](tmp_path / f"answers.{suffix}")
    (tmp_path / "judge.yaml").write_text(
        f"references: answers.{suffix}\nrules:\n- {{grader: exact, reference: answer}}\n"
    )
    result = judge_traffic(traffic({}, {}, {}), tmp_path / "judge.yaml")
    assert result.traffic["quality"].to_list() == [1, 0, None]


def test_traffic_may_come_from_files(tmp_path: Path) -> None:
    table = traffic({"reference": "4"}, {"reference": "5"})
    table.write_parquet(tmp_path / "traffic.parquet")
    judge = config(EXACT, references=str(tmp_path / "traffic.parquet"))
    assert judge_traffic(tmp_path / "traffic.parquet", judge).traffic["quality"].to_list() == [1, 0]


def test_judged_traffic_is_a_valid_traffic_table(tmp_path: Path) -> None:
    result = judge_traffic(traffic({"reference": "4"}, {"reference": "5"}), config(EXACT))
    result.traffic.write_parquet(tmp_path / "judged.parquet")
    assert load_traffic([tmp_path / "judged.parquet"]).traffic.equals(result.traffic)


def test_different_references_of_one_prompt_are_an_error() -> None:
    table = traffic({"prompt_id": "a", "reference": "4"}, {"prompt_id": "a", "model": "large", "reference": "5"})
    with pytest.raises(TrafficError, match="different references for the prompt 'a'"):
        judge_traffic(table, config(EXACT))


def test_reference_that_is_no_text_is_an_error() -> None:
    table = traffic({"reference": "4"}).with_columns(reference=pl.lit(["4"]))
    with pytest.raises(TrafficError, match=r"lists or structures in the column\(s\) \['reference'\]"):
        judge_traffic(table, config(EXACT))


def test_missing_reference_column_is_an_error() -> None:
    with pytest.raises(TrafficError, match=r"lacks the column\(s\) \['reference'\]"):
        judge_traffic(traffic({}), config(EXACT))


def test_missing_traffic_column_is_an_error() -> None:
    with pytest.raises(TrafficError, match="response"):
        judge_traffic(traffic({}).drop("response"), config(EXACT))


def test_similarity_uses_the_given_encoder() -> None:
    def embed(texts: Any) -> np.ndarray:
        return np.array([[t.count("a"), t.count("b")] for t in texts], dtype=np.float32)

    table = traffic({"response": "ab", "reference": "ba"}, {"response": "a", "reference": "b"})
    result = judge_traffic(table, config({"grader": "similarity"}), embed=embed)
    assert result.traffic["quality"].to_list() == pytest.approx([1, 0], abs=1e-6)


def test_means_that_are_lacking_are_named_before_anything_is_judged() -> None:
    with pytest.raises(InputError, match="embed="):
        judge_traffic(traffic({"reference": "4"}), config({"grader": "similarity"}))


def test_rule_that_no_row_needs_asks_for_nothing() -> None:
    table = traffic({"reference": "4"})
    assert qualities(table, EXACT, {"grader": "similarity"}, {"grader": "python_tests", "reference": "tests"}) == [1]


def test_progress_ends_with_all_rows() -> None:
    seen: list[tuple[int, int, float]] = []
    table = traffic(*({"reference": "4"} for _ in range(2100)))
    judge_traffic(table, config(EXACT), on_progress=lambda *told: seen.append(told))
    assert seen == [(1024, 2100, 0.0), (2048, 2100, 0.0), (2100, 2100, 0.0)]


def test_code_in_traffic_runs_only_where_allowed() -> None:
    table = traffic({"response": "```python\ndef f():\n    return 1\n```", "reference": "assert f() == 1"})
    assert qualities(table, {"grader": "python_tests"}, allow_code_execution=True) == [1]
    with pytest.raises(InputError, match="allow_code_execution: true"):
        judge_traffic(table, config({"grader": "python_tests"}))


# --- with an LLM judge


def rubric(server: Any, kind: str = "llm_rubric", **options: Any) -> dict[str, Any]:
    prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0, "max_output_tokens": 100, "max_retries": 0}
    return {"grader": kind, "settings": {"model": "judge", "base_url": server.base_url, **prices, **options}}


def test_llm_judge_fills_quality_and_keeps_its_votes_spread(server: Any) -> None:
    server.script = lambda request, n: json.dumps({"reasoning": "so", "score": [1, 5][n % 2]})
    result = judge_traffic(traffic({}), config(rubric(server, votes=2, concurrency=1), max_usd=1.0))
    (row,) = result.grades.to_dicts()
    assert (row["quality"], row["n_votes"], row["vote_sd"]) == (0.5, 2, pytest.approx(0.7071, abs=1e-4))
    assert result.spent_usd == pytest.approx(2 * 140e-6)


def test_budget_leaves_the_rest_unjudged_and_a_second_run_goes_on(server: Any, tmp_path: Path) -> None:
    table = traffic(*({"prompt": f"question {i}"} for i in range(30)))
    judge, cache = config(rubric(server), max_usd=0.005), tmp_path / "votes.sqlite"
    first = judge_traffic(table, judge, cache=cache)
    assert first.spent_usd <= 0.005
    assert 0 < first.rules[0].n_judged < 30
    assert set(first.rules[0].unjudged) == {"the budget is used up"}
    second = judge_traffic(table, judge, cache=cache, max_usd=1.0)
    assert second.rules[0].n_judged == 30
    assert server.n_billed == 30


def test_pairwise_compares_with_the_top_tiers_answer_to_the_same_prompt(server: Any) -> None:
    def script(request: dict[str, Any], n: int) -> str:
        text = request["messages"][1]["content"]
        return json.dumps(
            {"reasoning": "so", "better": "first" if text.index("good") < text.index("bad") else "second"}
        )

    server.script = script
    table = traffic(
        {"prompt_id": "a", "response": "bad"},
        {"prompt_id": "a", "model": "large", "response": "good"},
        {"prompt_id": "b", "response": "good"},
        {"prompt_id": "b", "model": "large", "response": "bad"},
        {"prompt_id": "c", "response": "good"},
    )
    result = judge_traffic(table, config(rubric(server, "llm_pairwise"), max_usd=1.0), top_model="large")
    assert result.traffic["quality"].to_list() == [0, 0.5, 1, 0.5, None]
    assert result.rules[0].position is not None
    assert (result.rules[0].position.flips.value, result.rules[0].position.flips.n) == (0.0, 2)
    assert "verdicts that turn with the order: 0.000" in result.summary()
    json.dumps(result.to_dict())


def test_pairwise_needs_to_know_the_top_tier(server: Any) -> None:
    with pytest.raises(InputError, match="name its model as 'against'"):
        judge_traffic(traffic({}), config(rubric(server, "llm_pairwise"), max_usd=1.0))
    with pytest.raises(TrafficError, match="no answer of 'huge'"):
        judge_traffic(traffic({}), config(rubric(server, "llm_pairwise", against="huge"), max_usd=1.0))


# --- judge.yaml

GOOD = """
references: answers.csv
max_usd: 2.5
rules:
  - {name: sums, grader: numeric, when: {source: [gsm8k]}, reference: answer, settings: {rel_tol: 0.01}}
  - {grader: llm_rubric, settings: {model: gpt-4.1-mini, votes: 3, temperature: 1}}
"""


def test_yaml_is_read(tmp_path: Path) -> None:
    (tmp_path / "judge.yaml").write_text(GOOD)
    judge = JudgeConfig.from_yaml(tmp_path / "judge.yaml")
    assert judge.references == str(tmp_path / "answers.csv")
    assert ([r.label for r in judge.rules], judge.max_usd, judge.rules[0].when) == (
        ["sums", "llm_rubric"],
        2.5,
        {"source": ("gsm8k",)},
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs to be a mapping"),
        ("rules: []", "rules: got"),
        ("rules: [{}]", r"rules\.0\.grader is missing"),
        ("rules: [{grader: exact}]\nbudget: 3", "budget isn't known. It takes: rules, references, max_usd"),
        ("rules: [{grader: exakt}]", "Rule 'exakt': There is no grader 'exakt'"),
        ("rules: [{grader: exact, when: {slice: a}}]", r"rules\.0\.when\.slice"),
        ("rules: [{grader: exact, when: {source: 3}}]", r"rules\.0\.when\.source"),
        ("rules: [{grader: exact, settings: {fuzzy: 1}}]", "Rule 'exact': .*fuzzy isn't known"),
        ("rules: [{grader: exact}, {grader: exact}]", "Two rules of the judge are called 'exact'"),
        ("rules: [{grader: exact}]\nmax_usd: -1", "max_usd: got -1"),
        ("rules: [{grader: exact}]\nmax_usd: .nan", "max_usd"),
        ("rules: [{grader: exact}]\nallow_code_execution: 1", "allow_code_execution: got 1"),
        ("rules: [", "can't be read"),
        ("rules: &a [*a]", "can't be read"),
        ("rules: [{grader: exact}]\n? [a, b]\n: 1", "can't be read"),
        ("!!python/object/apply:os.system [true]", "can't be read"),
    ],
)
def test_wrong_yaml_names_the_file_and_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "judge.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"judge.yaml.*{message}"):
        JudgeConfig.from_yaml(path)


def test_yaml_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        JudgeConfig.from_yaml(tmp_path / "judge.yaml")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["rules", "grader", "settings", "when", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["rules", "references", "max_usd", "overwrite", "x"]), plain, max_size=4))
def test_any_document_is_read_or_is_our_error(document: dict[str, Any]) -> None:
    with suppress(RouterError):
        JudgeConfig.from_dict(yaml.safe_load(yaml.safe_dump(document)))


# --- real traffic


@pytest.mark.parametrize("name", ["mmlu-pro-test", "routerbench-test"])
def test_multiple_choice_finds_the_given_quality_of_real_answers(shared_data: Path, name: str) -> None:
    """The tables hold no key, so it is read off them: the letter on which an answer of quality 1 settled."""
    from router_ml.judge.graders.choice import choice

    path = shared_data / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"{path} isn't there.")
    table = pl.read_parquet(path).filter(pl.col("category") != "mbpp")
    table = table.with_columns(got=pl.Series([choice(r) for r in table["response"]], dtype=pl.String))
    # One model's right answers give the key, the other models' answers are judged by it.
    teacher = table.group_by("model").agg(pl.col("quality").mean()).sort("quality")["model"][-1]
    key = table.filter((pl.col("model") == teacher) & (pl.col("quality") == 1)).select("prompt_id", reference="got")
    others = table.filter(pl.col("model") != teacher).join(key.drop_nulls(), on="prompt_id")
    result = judge_traffic(others, config({"grader": "multiple_choice"}, overwrite=True))
    found = agree_with_labels(result.traffic, others, bar=1.0, n_resamples=20)
    sys.stdout.write(f"{name}: {found.summary()}\n")
    assert found.accuracy.value > 0.9
