"""Answers: what is counted on them, and what follows."""

from __future__ import annotations

import numpy as np

from router_ml.core.acceptance import (
    N_FORM,
    N_SHARED,
    answer_features,
    answer_text,
    seen_states,
)
from router_ml.core.cascade import next_step

ANYONE = np.ones(3, dtype=bool)
PROMPT = "Which?\nA. the red house\nB. the blue river\nAnswer:"


def test_states_are_sets_of_up_to_three_tiers():
    assert seen_states(2) == ((0,), (1,), (0, 1))
    assert len(seen_states(5)) == 5 + 10 + 10


def test_answers_not_seen_have_no_features():
    features = answer_features("p", [None, "yes", None])
    assert len(features) == 3 * N_FORM + 3 * N_SHARED
    assert not features[:N_FORM].any()
    assert not features[2 * N_FORM :].any()


def test_agreement_is_of_words_whatever_their_case_and_marks():
    same, other = (answer_features("p", ["The answer: 4", text])[-N_SHARED:] for text in ("the answer 4.", "the sum 5"))
    assert same.tolist() == [1, 1, 1]
    assert other.tolist() == [0, 0, np.float32(0.2)]


def test_the_chosen_option_is_looked_for_in_the_reasoning():
    told, not_told = (
        answer_features(PROMPT, [f"{reason} So the answer is (B)."])[6:N_FORM]
        for reason in ("It is the blue river.", "It is the red house.")
    )
    assert told.tolist()[:2] == not_told.tolist()[:2] == [1, 1]
    assert told[2] > told[3]
    assert not_told[2] < not_told[3]


def test_any_string_is_an_answer():
    for text in ("", "\0", "\ud800", "a" * 30_000, "\n" * 9000 + "A", "日" * 9000):
        assert np.isfinite(answer_features(text, [answer_text(text)] * 2)).all()
    assert len(answer_text("a" * 30_000)) == 8193


def test_an_answer_is_cut_by_bytes_as_a_prompt_is() -> None:
    # 6,144 and 2,048 bytes: of 3 bytes each, 2,048 characters and 682 (a cut one is left out).
    assert answer_text("日" * 9000) == "日" * 2048 + "\n" + "日" * 682
    assert answer_text("日" * 2730) == "日" * 2730


def test_the_next_tier_is_the_one_worth_most_if_that_is_more_than_is_at_hand():
    quality, worth = np.array([0.4, 0.6, 0.9]), np.array([0.3, 0.5, 0.45])
    assert next_step(quality, worth, [0], ANYONE) == (0, 1)
    assert next_step(quality, worth, [0, 1], ANYONE) == (1, None)


def test_a_tier_that_may_not_be_asked_is_not():
    assert next_step(np.array([0.4, 0.9]), np.array([0.4, 0.9]), [0], np.array([True, False])) == (0, None)


def test_equal_answers_at_hand_go_to_the_cheaper():
    assert next_step(np.array([0.5, 0.5, 0.1]), np.zeros(3), [1, 0], ANYONE) == (0, None)
