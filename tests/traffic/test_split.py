"""The split: what belongs together stays together, and a prompt's side depends on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.traffic.split import connected_groups, split_by_hash

Arrays = tuple[np.ndarray, np.ndarray]
PINNED = [0, 1, 0, 1, 0, 0, 1, 1, 1, 1, 0, 1]


def arrays(rows: list[tuple[str, str]]) -> Arrays:
    return np.array([p for p, _ in rows], dtype=np.object_), np.array([s for _, s in rows], dtype=np.str_)


def alone(n: int) -> Arrays:
    return arrays([(f"prompt {i}", "") for i in range(n)])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_share_is_near_what_was_asked_for(share: float) -> None:
    # Four standard errors of a share of 4,000 draws.
    assert split_by_hash(*alone(4000), test_share=share).mean() == pytest.approx(share, abs=4 * 0.5 / 4000**0.5)


def test_share_holds_for_sessions_of_many_prompts() -> None:
    # The smallest of five hashes is small more often than one: taken as it is, half would become 97 %.
    prompts, sessions = arrays([(f"prompt {i}", f"session {i // 5}") for i in range(5000)])

    assert split_by_hash(prompts, sessions, test_share=0.5).mean() == pytest.approx(0.5, abs=4 * 0.5 / 1000**0.5)


@pytest.mark.parametrize("share", [0, 1])
def test_share_of_nothing_or_all_is_exact(share: int) -> None:
    assert split_by_hash(*alone(50), test_share=share).mean() == share


def test_another_random_state_gives_another_split() -> None:
    first, second = (split_by_hash(*alone(200), test_share=0.5, random_state=r) for r in (0, 1))

    assert 0.3 < (first == second).mean() < 0.7


def test_side_of_a_prompt_is_pinned() -> None:
    # A changed hash would move prompts between training and test from one release to the next.
    assert split_by_hash(*alone(12), test_share=0.5).astype(int).tolist() == PINNED


def test_groups_are_joined_through_shared_texts_and_sessions() -> None:
    rows = [("a", "s"), ("b", "s"), ("b", "t"), ("c", "t"), ("d", ""), ("e", "")]

    assert connected_groups(*arrays(rows)).tolist() == [0, 0, 0, 0, 1, 2]


def test_one_very_long_prompt_does_not_make_the_others_long() -> None:
    prompts, sessions = alone(5000)
    prompts[0] = "x" * 5_000_000

    # As numpy's fixed-width strings these would take 100 GB.
    assert len(np.unique(connected_groups(prompts, sessions))) == 5000


row = st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["", "s", "t", "u"]))
some_rows = st.lists(row, min_size=1, max_size=15)


@settings(deadline=None)
@given(some_rows, st.integers(0, 5))
def test_sessions_and_equal_texts_are_never_split(rows: list[tuple[str, str]], random_state: int) -> None:
    test = split_by_hash(*arrays(rows), test_share=0.5, random_state=random_state)
    sides: dict[tuple[str, str], set[bool]] = {}
    for (prompt, session), side in zip(rows, test.tolist(), strict=True):
        sides.setdefault(("text", prompt), set()).add(side)
        if session:
            sides.setdefault(("session", session), set()).add(side)

    assert all(len(s) == 1 for s in sides.values())


@settings(deadline=None)
@given(some_rows, st.randoms(use_true_random=False))
def test_row_order_does_not_matter(rows: list[tuple[str, str]], random: object) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = split_by_hash(*arrays([rows[i] for i in order]), test_share=0.5)

    assert shuffled.tolist() == split_by_hash(*arrays(rows), test_share=0.5)[order].tolist()


@settings(deadline=None)
@given(some_rows, some_rows)
def test_unrelated_prompts_change_no_side(rows: list[tuple[str, str]], others: list[tuple[str, str]]) -> None:
    unrelated = [(f"other {p}", s and f"other {s}") for p, s in others]
    together = split_by_hash(*arrays(rows + unrelated), test_share=0.5)

    assert together[: len(rows)].tolist() == split_by_hash(*arrays(rows), test_share=0.5).tolist()
