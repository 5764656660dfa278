"""Statistics: figures that can be counted by hand."""

from __future__ import annotations

import polars as pl
import pytest

from router_ml.traffic.cleaning.statistics import answered_by, coverage, languages, lengths, models, slices
from router_ml.traffic.schema import SCHEMA

QUESTIONS = {
    "en": [
        "How do I sort a list of dictionaries by a key?",
        "Write me a short poem about autumn leaves and old friends.",
    ],
    "de": ["Wie sortiere ich eine Liste nach einem Schlüssel?", "Was ist die Hauptstadt von Frankreich?"],
    "fr": ["Comment trier une liste de dictionnaires par clé ?", "Quelle est la capitale de la France ?"],
    "es": ["¿Cómo ordeno una lista de diccionarios por clave?", "Escríbeme un poema corto sobre el otoño."],
    "ru": ["Как отсортировать список словарей по ключу?"],
    "zh": ["如何按键对字典列表进行排序?"],
    "ja": ["辞書のリストをキーで並べ替えるにはどうすればよいですか?"],
    "ar": ["ما هي عاصمة فرنسا؟"],
}


def table(*rows: dict[str, object]) -> pl.DataFrame:
    full = [{"prompt_id": str(i), "prompt": "p", "model": "m", **row} for i, row in enumerate(rows)]
    return pl.DataFrame(full, schema=SCHEMA)


def test_languages_are_told_apart_and_counted() -> None:
    found = languages(table(*({"prompt": text} for texts in QUESTIONS.values() for text in texts)))

    assert dict(found.select("language", "prompts").rows()) == {name: len(texts) for name, texts in QUESTIONS.items()}
    assert found["share"].sum() == pytest.approx(1)


def test_numbers_and_markup_are_no_language() -> None:
    assert languages(table({"prompt": "12 34 56 78 90 +-*/ 1.5e-7"}))["language"].to_list() in (["zxx"], ["und"])


def test_a_prompt_asked_of_many_models_counts_once() -> None:
    rows = [{"prompt_id": "a", "prompt": QUESTIONS["de"][0], "model": m} for m in "xyz"]

    assert languages(table(*rows)).row(0) == ("de", 1, 1.0)


def test_sample_is_bounded_and_the_same_each_time() -> None:
    traffic = table(*({"prompt": text} for texts in QUESTIONS.values() for text in texts))
    first, second = languages(traffic, sample=5), languages(traffic.reverse().lazy(), sample=5)

    assert first["prompts"].sum() == 5
    assert first.equals(second)


def test_lengths_are_quantiles_over_rows() -> None:
    traffic = table(*({"prompt": "x" * n, "output_tokens": n} for n in range(1, 102)))
    found = {row["length"]: row for row in lengths(traffic).iter_rows(named=True)}

    assert [found["prompt chars"][q] for q in ("min", "p5", "median", "p95", "max")] == [1, 6, 51, 96, 101]
    assert found["output tokens"]["p99"] == 100
    assert found["response chars"]["median"] is None


def test_coverage_is_the_share_of_rows_with_a_value() -> None:
    found = dict(coverage(table({"quality": 0.5}, {"propensity": 1.0}, {"quality": 0.0}, {})).rows())

    assert (found["quality"], found["propensity"], found["response"]) == (0.5, 0.25, 0.0)


def test_models_come_with_their_means_the_most_frequent_first() -> None:
    traffic = table({"model": "a", "quality": 1.0}, {"model": "b", "cost_usd": 0.1}, {"model": "b", "cost_usd": 0.3})

    assert models(traffic).rows() == [("b", 2, 2 / 3, None, 0.2, None), ("a", 1, 1 / 3, 1.0, None, None)]


def test_prompts_are_counted_by_the_models_that_answered() -> None:
    traffic = table(*({"prompt_id": p, "model": m} for p, m in ("ax", "ay", "bx", "cx")))

    assert answered_by(traffic).rows() == [(1, 2, 2 / 3), (2, 1, 1 / 3)]


def test_slices_hold_rows_prompts_and_quality() -> None:
    traffic = table({"source": "s", "quality": 1.0}, {"source": "s", "quality": 0.0}, {})

    assert slices(traffic, "source").rows() == [("s", 2, 2 / 3, 2, 0.5), (None, 1, 1 / 3, 1, None)]
