"""The journal and the budget: what is known after whatever happened."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_ml.errors import InputError
from router_ml.replay.answers import Answer
from router_ml.replay.budget import Budget
from router_ml.replay.journal import Batch, Journal, prompt_hash
from router_ml.replay.writer import Writer

HASH = prompt_hash("p")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal.open(path, {"m": "1"}) as opened:
        yield opened


def answer(journal: Journal, key: str, usd: float, *, forget: bool = False) -> None:
    journal.answer(
        key,
        Answer("Hi", 1, 2, "stop"),
        charged_usd=usd,
        cost_usd=usd,
        latency_ms=3.0,
        created_at=4.0,
        forget_unsure=forget,
    )


def test_an_answer_is_kept(journal: Journal) -> None:
    journal.start("k", HASH, "m", 5.0)
    answer(journal, "k", 2.0)

    assert journal.known("k").state == "answered"
    assert journal.spent_usd() == 2.0
    assert list(journal.answered(["m"])) == [[(HASH, "m", "Hi", 1, 2, 2.0, 3.0, 4.0)]]


def test_what_was_under_way_counts_as_charged_when_opened_again(path: Path) -> None:
    with Journal.open(path, {}) as journal:
        journal.start("k", HASH, "m", 5.0)

    with Journal.open(path, {}) as journal:
        assert journal.known("k") == type(journal.known("k"))("open", 5.0, None)
        assert (journal.spent_usd(), journal.unsure()) == (5.0, (1, 5.0))


def test_lost_attempts_add_up(journal: Journal) -> None:
    for _ in range(2):
        journal.start("k", HASH, "m", 5.0)
        journal.fail("k", "lost", unsure=True)
    journal.start("k", HASH, "m", 5.0)
    answer(journal, "k", 2.0)

    assert journal.spent_usd() == 12.0


def test_where_the_server_charges_once_lost_attempts_are_in_the_charge(journal: Journal) -> None:
    journal.start("k", HASH, "m", 5.0)
    journal.fail("k", "lost", unsure=True)
    journal.start("k", HASH, "m", 0.0)
    answer(journal, "k", 2.0, forget=True)

    assert journal.spent_usd() == 2.0


def test_a_refused_attempt_costs_nothing(journal: Journal) -> None:
    journal.start("k", HASH, "m", 5.0)
    journal.fail("k", "HTTP 400", unsure=False, refused=True)

    assert (journal.known("k").state, journal.spent_usd()) == ("refused", 0.0)
    assert journal.reasons("refused") == (("HTTP 400", 1),)


def test_a_batch_under_way_stays_set_aside(path: Path) -> None:
    with Journal.open(path, {}) as journal, journal.transaction():
        journal.add_batch(Batch("b", "m", None))
        journal.start("k", HASH, "m", 5.0, batch="b")

    with Journal.open(path, {}) as journal:
        assert (journal.spent_usd(), journal.unsure(), journal.held_in("b", "k")) == (5.0, (0, 0.0), 5.0)
        journal.end_batch("b", unsure=False, reason="none")
        assert (journal.spent_usd(), journal.batches(), journal.known("k").batch) == (0.0, [], None)


def test_two_processes_cant_share_it(path: Path, journal: Journal) -> None:
    with pytest.raises(InputError, match="another replay has it open"):
        Journal.open(path, {})


def test_other_settings_need_another_journal(path: Path) -> None:
    Journal.open(path, {"m": "1"}).__exit__()

    with pytest.raises(InputError, match="begun with other settings for 'm'"):
        Journal.open(path, {"m": "2"})


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to look like one" * 100, b"SQLite format 3\0" + b"x" * 200]
)
def test_another_file_isnt_taken_for_a_journal(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(InputError, match="can't be used"):
        Journal.open(path, {})

    assert path.read_bytes() == content


def test_a_database_of_something_else_is_left_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE vectors (key BLOB)")
    db.close()
    before = path.read_bytes()

    with pytest.raises(InputError, match="something else"):
        Journal.open(path, {})

    assert path.read_bytes() == before


def test_keys_are_of_this_journal(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "a", {}) as a, Journal.open(tmp_path / "b", {}) as b:
        assert a.key("m", "p") == a.key("m", "p")
        assert len({a.key("m", "p"), a.key("m", "q"), a.key("n", "p"), b.key("m", "p")}) == 4


def test_a_look_up_doesnt_search_the_table(journal: Journal) -> None:
    plan = journal._db.execute("EXPLAIN QUERY PLAN SELECT state FROM calls WHERE key = 'k'").fetchall()

    assert "USING INDEX" in str(plan)


def test_writes_that_come_together_are_committed_together(journal: Journal) -> None:
    begun: list[str] = []
    journal._db.set_trace_callback(lambda sql: begun.append(sql) if sql.startswith("BEGIN") else None)

    async def write() -> None:
        writer = Writer(journal)
        await asyncio.gather(*(writer.do(lambda i=i: journal.start(str(i), HASH, "m", 1.0)) for i in range(100)))
        writer.close()

    asyncio.run(write())

    assert journal.spent_usd() == 100.0
    assert len(begun) <= 2


def test_a_failed_commit_reaches_all_that_shared_it(journal: Journal) -> None:
    async def write() -> list[object]:
        writer = Writer(journal)
        broken = writer.do(lambda: journal._db.execute("INSERT INTO nowhere VALUES (1)"))
        fine = writer.do(lambda: journal.start("k", HASH, "m", 1.0))
        results = await asyncio.gather(broken, fine, return_exceptions=True)
        again = await writer.do(lambda: journal.known("k").state)
        writer.close()
        return [*results, again]

    broken, fine, again = asyncio.run(write())

    assert isinstance(broken, sqlite3.Error)
    assert isinstance(fine, sqlite3.Error)
    assert (again, journal.spent_usd()) == ("open", 0.0)


@pytest.mark.parametrize("max_usd", [0, -1.0, float("nan"), float("inf")])
def test_a_budget_is_a_sum_of_money(max_usd: float) -> None:
    with pytest.raises(InputError):
        Budget(max_usd)


@given(st.floats(0.1, 100), st.lists(st.tuples(st.floats(0.001, 10), st.floats(0, 1)), max_size=40), st.integers(1, 8))
def test_concurrent_calls_never_exceed_the_budget(
    max_usd: float, calls: list[tuple[float, float]], n_workers: int
) -> None:
    budget, most = Budget(max_usd), 0.0

    async def run() -> None:
        queue = [(str(i), worst, share) for i, (worst, share) in enumerate(calls)]

        async def work() -> None:
            nonlocal most
            while queue:
                key, worst, share = queue.pop()
                if not await budget.hold(key, worst):
                    return
                most = max(most, budget.spent_usd + budget.held_usd)
                await asyncio.sleep(0)
                budget.settle(key, worst * share)

        await asyncio.gather(*(work() for _ in range(n_workers)))

    asyncio.run(run())

    assert most <= max_usd * (1 + 1e-9)


def test_a_call_waits_for_others_to_settle() -> None:
    async def run() -> tuple[bool, bool]:
        budget = Budget(10)
        await budget.hold("a", 8)
        waiting = asyncio.create_task(budget.hold("b", 5))
        await asyncio.sleep(0)
        early = waiting.done()
        budget.settle("a", 3)
        return early, await waiting

    assert asyncio.run(run()) == (False, True)
