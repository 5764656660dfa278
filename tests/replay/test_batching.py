"""Replay through a Batch API on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from router_ml.errors import InputError
from router_ml.ladder import Ladder
from router_ml.replay import Endpoint, ReplayOptions, Retries, replay
from router_ml.replay.journal import Batch, Journal

QUICK = Retries(attempts=50, first_s=0.001, most_s=0.01)


@pytest.fixture
def run(server: Any, traffic: pl.DataFrame, ladder: Ladder, tmp_path: Path) -> Callable[..., Any]:
    def run(*, max_usd: float | None = None, retries: Retries = QUICK) -> Any:
        return replay(
            traffic,
            ladder,
            [Endpoint(base_url=server.base_url, max_tokens=64)] * 2,
            journal=tmp_path / "journal.sqlite",
            options=ReplayOptions(batch=True, poll_s=0.01, max_usd=max_usd, retries=retries),
        )

    return run


def test_a_batch_a_tier_brings_all_answers(run: Any, server: Any, traffic: pl.DataFrame) -> None:
    server.polls_until_done = 3

    table, report = run()

    new = table.filter(pl.col("model") == "full-model")
    assert new["response"].to_list() == [
        server.answer_to("full-model", [{"role": "user", "content": p}]) for p in traffic["prompt"]
    ]
    assert new["latency_ms"].null_count() == 12
    assert (report.n_answered, len(server.batches)) == (24, 2)


def test_half_the_price_is_spent_and_the_table_has_the_whole(run: Any, server: Any, ladder: Ladder) -> None:
    table, report = run()

    assert report.spent_usd == pytest.approx(server.billed_usd(ladder))
    assert report.spent_usd == pytest.approx(table.filter(pl.col("model") != "old-model")["cost_usd"].sum() / 2)


def test_the_budget_holds_over_rounds(run: Any, server: Any, ladder: Ladder) -> None:
    _, report = run(max_usd=0.6)

    assert len(server.batches) > 2
    assert 0.4 < server.billed_usd(ladder) <= 0.6
    assert "budget" in report.stopped


def test_what_expired_goes_into_the_next_batch(run: Any, server: Any) -> None:
    server.expire = True

    _, report = run()

    assert report.n_answered == len(server.bought) == 24
    assert len(server.batches) == 3


def test_refused_lines_are_refused(run: Any, server: Any) -> None:
    server.refuse = {"number 3:": (400, {"error": {"message": "no"}})}

    _, report = run()

    assert (report.n_answered, report.n_refused, report.refusals) == (22, 2, (("HTTP 400: no", 2),))


def test_files_that_break_on_the_way_are_fetched_again(run: Any, server: Any) -> None:
    server.faults, server.fault_rate = ("half-closed", "malformed", "500", "429"), 0.4

    _, report = run()

    assert report.n_answered == len(server.bought) == 24


def test_a_batch_made_before_the_kill_is_taken_over(run: Any, server: Any, tmp_path: Path) -> None:
    run()
    with Journal.open(tmp_path / "journal.sqlite", {}) as journal, journal.transaction():
        # As a kill between the server's making of the batch and our note of its id would leave it.
        remote = next(iter(server.batches.values()))
        journal.add_batch(Batch(remote["metadata"]["router_ml"], "mini-model", None))
        lines = [json.loads(line) for line in server.files[remote["input_file_id"]].splitlines()]
        for line in lines:
            journal._db.execute(
                "UPDATE calls SET state = 'open', response = NULL, charged_usd = 0, held_usd = 1, batch = ? WHERE key = ?",
                (remote["metadata"]["router_ml"], line["custom_id"]),
            )

    _, report = run()

    assert (report.n_answered, report.n_open, len(server.batches), len(server.bought)) == (12, 0, 2, 24)


def test_a_batch_that_the_server_refuses_is_an_error(run: Any, server: Any) -> None:
    def refuse(batch: dict[str, Any]) -> None:
        batch["status"] = "failed"
        batch["errors"] = {"data": [{"code": "bad_model", "message": "no such model"}]}

    server._run_batch = refuse

    with pytest.raises(InputError, match=r"failed\. bad_model: no such model"):
        run()


def test_a_server_without_batches_is_an_error(run: Any, server: Any) -> None:
    server._act = lambda *_: (404, b'{"error": {"message": "no batches here"}}')

    with pytest.raises(InputError, match="didn't upload: HTTP 404: no batches here"):
        run()
