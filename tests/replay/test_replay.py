"""Replay against a real server on loopback, with the real client."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from router_ml.errors import InputError, TrafficError
from router_ml.ladder import Ladder
from router_ml.replay import Endpoint, ReplayOptions, Retries, replay
from router_ml.replay.journal import Journal
from router_ml.traffic.schema import SCHEMA
from router_ml.traffic.validate import validate

QUICK = Retries(attempts=50, first_s=0.001, most_s=0.01)
SECRET = "sk-proj-0123456789abcdef"


@pytest.fixture
def run(server: Any, traffic: pl.DataFrame, ladder: Ladder, tmp_path: Path) -> Callable[..., Any]:
    """Replay `traffic` against `server`; endpoint fields by keyword, `options` for the rest."""

    def run(*, options: ReplayOptions | None = None, table: pl.DataFrame | None = None, **fields: Any) -> Any:
        endpoint = Endpoint(**{"base_url": server.base_url, "max_tokens": 64, **fields})
        return replay(
            traffic if table is None else table,
            ladder,
            [endpoint] * len(ladder),
            journal=tmp_path / "journal.sqlite",
            options=options or ReplayOptions(retries=QUICK),
        )

    return run


def test_each_missing_tier_answers_each_prompt(run: Any, server: Any, traffic: pl.DataFrame) -> None:
    table, report = run()

    new = table.filter(pl.col("model") == "full-model")
    assert new["prompt_id"].to_list() == traffic["prompt_id"].to_list()
    assert new["response"].to_list() == [
        server.answer_to("full-model", [{"role": "user", "content": p}]) for p in traffic["prompt"]
    ]
    assert (report.n_answered, report.n_open, report.stopped) == (24, 0, None)


def test_the_outcome_is_a_traffic_table(run: Any, traffic: pl.DataFrame) -> None:
    table, _ = run()

    assert table.schema == SCHEMA
    frame = table.lazy().with_columns(_file=pl.lit("x"), _row=pl.lit(1), _reason=pl.lit(None, pl.String))
    assert validate(frame).traffic.height == table.height == 36
    assert table.filter(pl.col("model") == "old-model").equals(traffic)


def test_new_rows_have_what_was_measured(run: Any, server: Any, ladder: Ladder) -> None:
    table, report = run()

    row = table.filter(pl.col("model") == "full-model").row(7, named=True)
    bought = next(
        b
        for b in server.bought
        if b.model == "full-model" and row["response"] == server._answers[b.key]["choices"][0]["message"]["content"]
    )
    assert (row["input_tokens"], row["output_tokens"]) == (bought.prompt_tokens, bought.completion_tokens)
    assert row["cost_usd"] == pytest.approx(bought.prompt_tokens * 1e-3 + bought.completion_tokens * 4e-3)
    assert (row["session_id"], row["source"], row["category"]) == ("s2", "here", "sums")
    assert (row["quality"], row["propensity"]) == (None, None)
    assert row["latency_ms"] > 0
    assert abs(row["created_at"] - dt.datetime.now(dt.UTC)) < dt.timedelta(hours=1)
    assert (
        report.spent_usd
        == pytest.approx(server.billed_usd(ladder))
        == pytest.approx(table.filter(pl.col("model") != "old-model")["cost_usd"].sum())
    )


def test_a_second_run_buys_nothing(run: Any, server: Any) -> None:
    first, _ = run()
    second, report = run()

    assert len(server.bought) == 24
    assert (report.n_known, report.n_answered) == (24, 0)
    assert second.equals(first)


def test_more_prompts_buy_the_new_ones_only(run: Any, server: Any) -> None:
    run(options=ReplayOptions(choose="random", n_prompts=4))
    _, report = run(options=ReplayOptions(choose="random", n_prompts=10))

    assert (report.n_known, report.n_answered, len(server.bought)) == (8, 12, 20)


def test_answers_outlive_another_choice(run: Any) -> None:
    run(options=ReplayOptions(n_prompts=8))
    table, _ = run(options=ReplayOptions(n_prompts=1))

    assert table.filter(pl.col("model") == "mini-model").height == 8


@pytest.mark.parametrize("fault", ["429", "500", "half-closed", "malformed"])
def test_what_fails_in_passing_is_tried_again(fault: str, run: Any, server: Any) -> None:
    server.faults, server.fault_rate = (fault,), 0.5

    _, report = run(idempotent=True)

    assert report.n_answered == 24
    assert set(server.buys().values()) == {1}


def test_a_server_that_hangs_is_left(run: Any, server: Any) -> None:
    server.faults, server.fault_rate = ("hang",), 0.2

    _, report = run(timeout_s=0.3, concurrency=20)

    assert report.n_answered == 24


def test_a_lost_answer_is_counted_where_the_server_may_charge_twice(run: Any, server: Any, ladder: Ladder) -> None:
    server.faults, server.fault_rate, server.dedupe = ("half-closed",), 0.3, False

    _, report = run()

    assert len(server.bought) > 24
    assert report.spent_usd >= server.billed_usd(ladder)
    assert report.n_unsure > 0
    assert "whose outcome was lost" in report.summary()


def test_nothing_is_paid_for_twice_where_lost_answers_are_left(run: Any, server: Any) -> None:
    server.faults, server.fault_rate, server.dedupe = ("half-closed", "malformed", "500"), 0.5, False
    retries = Retries(attempts=50, first_s=0.001, most_s=0.01, unsure=False)

    for _ in range(2):
        _, report = run(options=ReplayOptions(retries=retries))

    assert set(server.buys().values()) == {1}
    assert report.n_open == report.n_unsure > 0
    assert report.n_known + report.n_unsure == report.n_calls


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_budget_holds(concurrency: int, run: Any, server: Any, ladder: Ladder) -> None:
    _, report = run(options=ReplayOptions(max_usd=0.9, retries=QUICK), concurrency=concurrency)

    worst = max(len(p["messages"][0]["content"]) for p in server.bodies) * 1e-3 + 0.080 + 64 * 4e-3
    assert 0.9 - worst < server.billed_usd(ladder) <= 0.9
    assert report.spent_usd == pytest.approx(server.billed_usd(ladder))
    assert "budget" in report.stopped


def test_the_budget_is_over_all_runs(run: Any, server: Any, ladder: Ladder) -> None:
    for _ in range(3):
        run(options=ReplayOptions(max_usd=0.9, retries=QUICK))

    assert server.billed_usd(ladder) <= 0.9


def test_a_larger_budget_goes_on(run: Any, server: Any) -> None:
    run(options=ReplayOptions(max_usd=0.9, retries=QUICK))
    _, report = run(options=ReplayOptions(max_usd=100.0, retries=QUICK))

    assert report.n_open == 0
    assert set(server.buys().values()) == {1}


def test_the_slow_tier_isnt_left_behind(run: Any, server: Any) -> None:
    run(options=ReplayOptions(max_usd=0.9, retries=QUICK), concurrency=1)

    counts = [sum(b.model == m for b in server.bought) for m in ("mini-model", "full-model")]
    assert abs(counts[0] - counts[1]) <= 4


def test_a_server_that_counts_no_tokens_is_charged_at_worst(run: Any, server: Any) -> None:
    server.usage = False

    table, report = run(options=ReplayOptions(n_prompts=2, retries=QUICK))

    new = table.filter(pl.col("model") != "old-model")
    assert new["cost_usd"].null_count() == new["input_tokens"].null_count() == 4
    assert report.spent_usd > 2 * 64 * 4e-3


def test_no_more_calls_at_once_than_asked_for(run: Any, server: Any) -> None:
    server.delay_s = 0.01

    run(concurrency=3)

    assert server.most_open <= 6


@pytest.fixture
def one_missing(traffic: pl.DataFrame) -> pl.DataFrame:
    """Traffic that lacks one tier alone, so that with one call at a time the server sees them one after the other."""
    return traffic.with_columns(model=pl.lit("full-model"))


def test_retry_after_is_waited_for(run: Any, server: Any, one_missing: pl.DataFrame) -> None:
    server.faults, server.fault_rate, server.retry_after_ms = ("429",), 0.3, 50

    run(table=one_missing, concurrency=1)

    times = [at for at, _, _ in server.requests]
    pauses = [b - a for (a, b), status in zip(pairwise(times), server.statuses, strict=False) if status == 429]
    assert pauses
    assert min(pauses) >= 0.05


def test_what_remains_by_the_headers_is_kept_to(run: Any, server: Any, one_missing: pl.DataFrame) -> None:
    server.answer_headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "40ms"}

    run(table=one_missing[:5], concurrency=1)

    times = [at for at, _, _ in server.requests]
    assert min(b - a for a, b in pairwise(times)) >= 0.04


def test_a_refused_prompt_is_refused_once(run: Any, server: Any) -> None:
    server.refuse = {"number 3:": (400, {"error": {"message": "too long", "code": "context_length_exceeded"}})}

    run()
    n = len(server.requests)
    table, report = run()

    assert (n, len(server.requests)) == (24, 24)
    assert (report.refusals, report.n_open) == ((("HTTP 400: too long", 2),), 0)
    assert table.height == 34


@pytest.mark.parametrize(("status", "body"), [(401, {}), (404, {}), (429, {"error": {"code": "insufficient_quota"}})])
def test_a_tier_that_refuses_all_stops_it(status: int, body: Any, run: Any, server: Any) -> None:
    server.refuse = {"Question": (status, body)}

    with pytest.raises(InputError, match=f"refuses every call: HTTP {status}"):
        run()

    assert len(server.requests) <= 16


def test_a_server_that_is_down_stops_it_unspent(run: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    with pytest.raises(InputError, match="doesn't answer any more: no connection"):
        run(base_url=f"http://127.0.0.1:{port}/v1", options=ReplayOptions(retries=Retries(2, 0.001, 0.001)))

    with Journal.open(tmp_path / "journal.sqlite", {}) as journal:
        assert journal.spent_usd() == 0


def test_what_was_answered_before_a_stop_is_kept(run: Any, server: Any) -> None:
    server.refuse = {"number 9:": (401, {})}
    with pytest.raises(InputError):
        run()
    server.refuse = {}

    _, report = run()

    assert report.n_known > 4
    assert report.n_open == 0
    assert set(server.buys().values()) == {1}


def test_the_body_is_as_the_endpoint_says(run: Any, server: Any) -> None:
    run(options=ReplayOptions(n_prompts=1), model="theirs", temperature=0.5, extra_body={"seed": 7})

    body = server.bodies[0]
    assert {k: body[k] for k in ("model", "max_tokens", "temperature", "seed")} == {
        "model": "theirs",
        "max_tokens": 64,
        "temperature": 0.5,
        "seed": 7,
    }


def test_a_conversation_is_sent_as_one(run: Any, server: Any, traffic: pl.DataFrame) -> None:
    run(table=traffic[:1].with_columns(prompt=pl.lit("system: Be brief.\n\nuser: Hello")))

    assert [m["role"] for m in server.bodies[0]["messages"]] == ["system", "user"]


def test_each_attempt_has_the_calls_key_and_a_number_of_its_own(run: Any, server: Any) -> None:
    server.faults, server.fault_rate = ("500",), 0.5

    run(options=ReplayOptions(n_prompts=10, retries=QUICK))

    headers = [h for _, _, h in server.requests]
    assert len({h["idempotency-key"] for h in headers}) == 20
    assert len({h["x-client-request-id"] for h in headers}) == len(headers)


def test_the_key_is_sent_and_kept_nowhere(
    run: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_KEY", SECRET)
    server.content = f"You are {SECRET}, I know."
    server.refuse = {"number 3:": (400, {"error": {"message": f"bad key {SECRET}"}})}

    with caplog.at_level(logging.DEBUG):
        table, report = run(api_key_env="SOME_KEY")

    assert server.requests[0][2]["authorization"] == f"Bearer {SECRET}"
    on_disk = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert SECRET.encode() not in on_disk
    assert SECRET not in caplog.text + report.summary() + str(table.to_dicts())
    assert "[key]" in report.refusals[0][0]


def test_the_key_isnt_in_an_error(run: Any, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", SECRET)
    server.refuse = {"Question": (401, {"error": {"message": f"Incorrect key: {SECRET}"}})}

    with pytest.raises(InputError) as caught:
        run(api_key_env="SOME_KEY")

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("method", ["known", "start", "answer"])
def test_a_journal_that_cant_be_written_stops_it(method: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Journal, method, full)

    with pytest.raises(InputError, match="can't be written"):
        run()


def test_no_half_of_a_key_is_left_where_a_reason_is_cut(
    run: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", SECRET)
    server.refuse = {"Question": (400, {"error": {"message": "x" * 280 + SECRET}})}

    run(api_key_env="SOME_KEY")

    assert SECRET[:6].encode() not in b"".join(p.read_bytes() for p in tmp_path.iterdir())


def test_answers_cut_at_the_limit_are_counted(run: Any, server: Any) -> None:
    server.finish = "length"

    _, report = run(options=ReplayOptions(n_prompts=2))

    assert "Cut at max_tokens: 4 answers" in report.summary()


@pytest.mark.skipif(sys.platform == "win32", reason="no signal handlers in its event loop")
def test_an_interrupt_waits_for_the_calls_under_way(run: Any, server: Any) -> None:
    server.hold_after = 4

    def interrupt() -> None:
        while len(server.requests) <= server.hold_after:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        server.released.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    _, report = run(concurrency=2)
    thread.join()

    assert report.stopped == "it was interrupted"
    assert report.n_open > 0
    assert report.n_unsure == 0
    assert len(server.bought) == report.n_answered


def test_it_runs_within_a_running_loop(run: Any) -> None:
    async def notebook() -> Any:
        return run(options=ReplayOptions(n_prompts=2))

    assert asyncio.run(notebook())[1].n_answered == 4


def test_progress_says_what_is_spent(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(options=ReplayOptions(progress=True))

    printed = capsys.readouterr()
    assert "24/24" in printed.err
    assert "spent" in printed.err
    assert printed.out == ""


def test_another_text_under_the_same_id_doesnt_get_its_answer(run: Any, traffic: pl.DataFrame) -> None:
    run()

    table, _ = run(table=traffic.with_columns(prompt=pl.col("prompt") + " Really?"), options=ReplayOptions(n_prompts=1))

    assert table.filter(pl.col("model") == "mini-model").height == 1


def test_nothing_missing_is_said_so(run: Any) -> None:
    table, _ = run()

    with pytest.raises(TrafficError, match="nothing to replay"):
        run(table=table)


def test_endpoints_are_one_a_tier(traffic: pl.DataFrame, ladder: Ladder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 endpoints for 2 tiers"):
        replay(traffic, ladder, [Endpoint()], journal=tmp_path / "j")
