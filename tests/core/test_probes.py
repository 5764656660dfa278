"""Probes: which tiers go first, at which price of quality."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router_ml.core.probes import Probes

PROBES = Probes((1.0, 10.0), (((), (0, 1), (0, 1)), ((), (), (1,))))

rows = st.lists(st.lists(st.integers(0, 2), max_size=3, unique=True).map(sorted).map(tuple), min_size=3, max_size=3)
ANY = st.lists(st.tuples(st.floats(0, 1e6), rows.map(tuple)), max_size=4, unique_by=lambda r: r[0]).map(
    lambda found: Probes(tuple(lam for lam, _ in sorted(found)), tuple(row for _, row in sorted(found)))
)


def test_a_row_counts_from_its_lam_up_to_the_next() -> None:
    assert [PROBES.of(lam, 2) for lam in (0.0, 0.99, 1.0, 9.99, 10.0, 1e9)] == [(), (), (0, 1), (0, 1), (1,), (1,)]


def test_they_follow_one_another_until_all_were_asked() -> None:
    assert [PROBES.following(1.0, 2, seen, range(3)) for seen in ((), (0,), (1,), (0, 1))] == [0, 1, 0, None]


def test_where_another_tier_answered_there_is_none_to_follow() -> None:
    assert PROBES.following(1.0, 2, (2,), range(3)) is None
    assert PROBES.following(1.0, 2, (0, 2), range(3)) is None


def test_one_that_may_not_be_asked_is_passed_over() -> None:
    assert PROBES.following(1.0, 2, (), (1, 2)) == 1
    assert PROBES.following(1.0, 2, (1,), (1, 2)) is None


def test_without_rows_there_are_none() -> None:
    assert Probes().following(5.0, 0, (), range(3)) is None


@given(ANY)
def test_json_holds_all_of_it(probes: Probes) -> None:
    assert Probes.from_json(probes.to_json()) == probes


@given(ANY, st.floats(0, 1e7), st.integers(0, 2))
def test_asking_what_follows_asks_all_of_them_once(probes: Probes, lam: float, start: int) -> None:
    seen: list[int] = []
    while (tier := probes.following(lam, start, seen, range(3))) is not None:
        seen.append(tier)
    assert tuple(seen) == probes.of(lam, start)
