"""The graders that need neither a server nor a process: worked examples, and what hostile answers do to them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.errors import InputError
from router_ml.judge import GRADERS, Item, Means, build_grader
from router_ml.judge.graders import json_schema, pattern
from router_ml.judge.graders.choice import choice
from router_ml.judge.graders.match import normalise
from router_ml.judge.graders.numeric import last_number

few = settings(max_examples=25)
SINGLE = ["exact", "normalised", "regex", "numeric", "multiple_choice", "json_schema"]


def grade(kind: str, response: str, reference: str | None = None, **options: object) -> float | None:
    (given_,) = build_grader(kind, options).grade_all([Item("q", "m", response, reference)], Means())
    return given_.quality


def test_exact_match_leaves_only_white_space_aside() -> None:
    assert [grade("exact", r, "Paris") for r in ("Paris", " Paris\n", "paris", "Paris.")] == [1, 1, 0, 0]


def test_normalised_match_leaves_case_punctuation_and_articles_aside() -> None:
    assert [grade("normalised", r, "The Eiffel Tower") for r in ("eiffel tower!", "An EIFFEL\ntower", "tower")] == [
        1,
        1,
        0,
    ]


def test_match_takes_any_of_several_references() -> None:
    assert [grade("exact", r, '["yes", "y"]', several=True) for r in ("y", "yes", "no")] == [1, 1, 0]


def test_normalised_containment_asks_for_whole_words() -> None:
    assert [grade("normalised", r, "art", contains=True) for r in ("It is art.", "It starts.")] == [1, 0]


def test_reference_of_which_nothing_is_left_is_not_judged() -> None:
    assert grade("normalised", "anything", "...", contains=True) is None


@few
@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once or not once.isascii()


@pytest.mark.parametrize(
    ("response", "options", "quality"),
    [
        ("order 123 shipped", {"pattern": r"order \d+"}, 1),
        ("order shipped", {"pattern": r"order \d+"}, 0),
        ("order 123 shipped", {"pattern": r"order \d+", "full": True}, 0),
        ("I cannot help", {"pattern": r"(?i)i cannot", "absent": True}, 0),
    ],
)
def test_regex(response: str, options: dict[str, object], quality: float) -> None:
    assert grade("regex", response, **options) == quality


def test_regex_may_be_each_prompts_reference() -> None:
    assert [grade("regex", "abc", r) for r in ("^a", "^b", "(", None)] == [1, 0, None, None]


def test_pattern_that_backtracks_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pattern, "TIMEOUT_S", 0.05)
    assert grade("regex", "a" * 60 + "!", pattern=r"^(a|aa|a?a)+$") is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The total is 1,234,567.5 dollars.", 1234567.5),
        ("x = -3", -3),
        ("between 5 and 10.", 10),
        ("1e-3", 0.001),
        (r"about $2.3 \times 10^{-5}$ C", 2.3e-5),
        ("2.5 × 10^3", 2500),
        ("−7", -7),
        (".5", 0.5),
        ("$42", 42),
        ("1,2,3", 3),
        ("no number", None),
        ("1e9999", None),
        ("v1.2.3beta", None),
    ],
)
def test_last_number(text: str, number: float | None) -> None:
    assert last_number(text) == (None if number is None else pytest.approx(number))


@few
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_is_read_back(number: float) -> None:
    assert last_number(f"It is {number!r}") == number


def test_numeric_tolerances_are_absolute_or_relative() -> None:
    assert [
        grade("numeric", "101", "100", **t) for t in ({}, {"abs_tol": 1.0}, {"rel_tol": 0.01}, {"rel_tol": 0.001})
    ] == [0, 1, 1, 0]


def test_numeric_pattern_says_where_the_number_stands() -> None:
    answer = "#### 42\nThat took 3 steps."
    assert [grade("numeric", answer, "42"), grade("numeric", answer, "42", pattern=r"####\s*(.+)")] == [0, 1]


def test_reference_without_a_number_is_not_judged() -> None:
    assert grade("numeric", "42", "n/a") is None


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("C", "C"),
        ("(c)", "C"),
        ("**B**", "B"),
        ("The answer is (D).", "D"),
        ("the answer is: **D**", "D"),
        ("Answer: E", "E"),
        ("Final Answer: \\boxed{F}", "F"),
        (r"Thus $\boxed{\text{G}}$", "G"),
        ("The correct option is B, not A.", "B"),
        ("Option C is correct because A is wrong.", "C"),
        ("I would choose D.", "D"),
        ("A. because of that", "A"),
        ("B) 42", "B"),
        ("A seems right. But no: the answer is (B)", "B"),
        ("First, the answer is A. Wait, the answer is C.", "C"),
        ("So we get $0.3$, which is (J)", "J"),
        ("The answer is therefore option H", "H"),
        ("The best choice would be C", "C"),
        ("So it can only be\nC", "C"),
        ("Let C be the capacity.\nThen it is 5.", None),
        ("A man goes home.", None),
        ("I don't know.", None),
        ("", None),
        ("the answer is unclear", None),
        ("The answer is a matter of taste", None),
    ],
)
def test_choice_phrasings(answer: str, letter: str | None) -> None:
    assert choice(answer) == letter


def test_letters_outside_of_the_options_are_no_choice() -> None:
    assert choice("The answer is E", "ABCD") is None


def test_answer_without_a_choice_counts_as_set() -> None:
    assert [grade("multiple_choice", "?", "A"), grade("multiple_choice", "?", "A", missing=None)] == [0, None]


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("answer", "quality"),
    [
        ('{"name": "Ada", "age": 36}', 1),
        ('Here:\n```json\n{"name": "Ada"}\n```\nDone.', 1),
        ('{"name": "ada"}', 0),
        ('{"age": 36}', 0),
        ('{"name": "Ada", "age": NaN}', 0),
        ("Ada", 0),
        ("[" * 100_000, 0),
        ('{"name": "Ada", "age": ' + "9" * 10_000 + "}", 0),
    ],
)
def test_json_schema(answer: str, quality: float) -> None:
    assert grade("json_schema", answer, schema=SCHEMA) == quality


def test_json_schema_may_be_each_prompts_reference() -> None:
    assert [grade("json_schema", "3", r) for r in ('{"type": "integer"}', '{"type": "string"}', "nonsense")] == [
        1,
        0,
        None,
    ]


def test_json_schema_fetches_no_other_document() -> None:
    assert grade("json_schema", "3", schema={"$ref": "http://127.0.0.1:1/schema.json"}) is None


def test_json_schema_of_a_pattern_without_end_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_schema, "TIMEOUT_S", 0.05)
    schema = {"type": "string", "pattern": r"^(a|aa|a?a)+$"}
    assert grade("json_schema", json.dumps("a" * 60 + "!"), schema=schema) is None


def test_schema_that_is_none_is_an_error_from_the_start() -> None:
    with pytest.raises(InputError, match="JSON schema"):
        build_grader("json_schema", {"schema": {"type": "no such type"}})


def vectors(texts: object) -> np.ndarray:
    angles = {"same": 0.0, "near": math.acos(0.8), "far": math.pi / 2, "against": math.pi}
    return np.array([[0, 0] if t == "nothing" else [math.cos(angles[t]), math.sin(angles[t])] for t in texts])


def similarity(response: str, **options: float) -> float | None:
    items = [Item("q", "m", response, "same")]
    (given_,) = build_grader("similarity", options).grade_all(items, Means(embed=vectors))
    return given_.quality


def test_similarity_is_the_cosine_clipped() -> None:
    assert [similarity(r) for r in ("same", "near", "far", "against")] == pytest.approx([1, 0.8, 0, 0])


def test_similarity_stretches_the_given_range() -> None:
    assert similarity("near", low=0.6, high=0.9) == pytest.approx(2 / 3)


def test_text_without_an_embedding_is_not_judged() -> None:
    assert similarity("nothing") is None


def test_similarity_asks_for_an_encoder() -> None:
    with pytest.raises(InputError, match="embed="):
        build_grader("similarity", {}).check(Means())


@pytest.mark.parametrize("kind", SINGLE)
@few
@given(response=st.text(), reference=st.text())
def test_any_texts_get_a_quality_or_none_and_no_error(kind: str, response: str, reference: str) -> None:
    quality = grade(kind, response, reference)
    assert quality is None or 0 <= quality <= 1


@pytest.mark.parametrize("kind", SINGLE)
@pytest.mark.parametrize(
    "unit", [" ", "1", "1,", "((", "answer is ", "the answer is (", "```\n", "a", "\\boxed{", '{"a":', "[1,", "$", "*"]
)
def test_long_repetitive_answers_are_graded(kind: str, unit: str) -> None:
    options = {"schema": {}} if kind == "json_schema" else {}
    quality = grade(kind, unit * (200_000 // len(unit)), "A 1", **options)
    assert quality is None or quality in (0.0, 1.0)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("numeric", {"abs_tol": -1}, "abs_tol: got -1, input should be greater than or equal to 0"),
        ("numeric", {"abs_tol": "1"}, "abs_tol: got '1', input should be a valid number"),
        ("exact", {"fuzzy": True}, "fuzzy isn't known. It takes: several, contains"),
        ("regex", {"pattern": "("}, "isn't a regular expression"),
        ("similarity", {"low": 0.5, "high": 0.5}, "low needs to be less"),
        ("llm_rubric", {}, "model is missing"),
        ("llm_rubric", {"model": "m", "votes": 0}, "votes: got 0"),
        ("python_tests", {"limits": {"wall_s": 0}}, "limits.wall_s: got 0"),
        ("python_tests", {"limits": {"cpu": 1}}, "limits.cpu isn't known"),
        ("astrology", {}, "There is no grader 'astrology'; choose from exact"),
    ],
)
def test_wrong_settings_say_what_is_wrong(kind: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        build_grader(kind, options)


def test_each_grader_is_found_by_its_kind() -> None:
    assert all(GRADERS[kind].kind == kind for kind in GRADERS)


def test_the_common_phrasings_work_with_every_letter() -> None:
    phrasings = ("The answer is ({}).", "Answer: {}", "{}", "({})", "**{}**")
    assert all(choice(p.format(letter)) == letter for p in phrasings for letter in "ABCDEFGHIJ")
