"""MLflow: traces that its autologging of the openai client made, from a SQLite store, and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from router_ml.errors import TrafficError
from router_ml.importers import import_traffic

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a prime."}]
LONG = "word " * 1000


@pytest.fixture(scope="module")
def store(openai_client: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a store with two experiments: an agent's trace of one call (rated), one of two calls, a failed and a long one; and one more."""
    before = mlflow.get_tracking_uri()
    uri = f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.openai.autolog()

    @mlflow.trace
    def agent(*prompts: str) -> str | None:
        mlflow.update_current_trace(metadata={"mlflow.trace.session": "s-1"})
        for prompt in prompts:
            ask([MESSAGES[0], {"role": "user", "content": prompt}])
        return mlflow.get_active_trace_id()

    def ask(messages: Any) -> None:
        openai_client.chat.completions.create(model="gpt-4.1-nano", messages=messages)

    mlflow.set_experiment("first")
    rated, several = agent("Name a prime."), agent("a", "b")
    with pytest.raises(Exception, match="400"):
        ask([{"role": "user", "content": "Fail."}])
    ask([{"role": "user", "content": LONG}])
    mlflow.set_experiment("second")
    ask([{"role": "user", "content": "Hi"}])
    mlflow.flush_trace_async_logging()
    mlflow.log_feedback(trace_id=rated, name="score", value=0.25)
    mlflow.log_feedback(trace_id=rated, name="score", value=0.75)
    mlflow.log_feedback(trace_id=rated, name="other", value=False)
    mlflow.log_expectation(trace_id=rated, name="score", value=0.5)
    mlflow.log_feedback(trace_id=several, name="score", value=0.5)
    span = next(s for s in mlflow.get_trace(several).data.spans if s.span_type == "CHAT_MODEL")
    mlflow.log_feedback(trace_id=several, name="score", value=1.0, span_id=span.span_id)
    yield uri
    mlflow.openai.autolog(disable=True)
    mlflow.set_tracking_uri(before)
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # MLflow sets it; it means nothing to another store


def test_traces_of_autologging(store: str, imported: Any) -> None:
    table = imported("mlflow", f"{store}#first", quality_from="score")

    row = table.row(0, named=True)
    expected = {
        "prompt": "system: Be brief.\n\nuser: Name a prime.",
        "model": "gpt-4.1-nano-2025-04-14",
        "response": "Two.",
        "quality": 0.75,
        "input_tokens": 8,
        "output_tokens": 2,
        "session_id": "s-1",
    }
    assert {name: row[name] for name in expected} == expected
    assert row["latency_ms"] > 0
    assert row["created_at"].year > 2024
    assert dict(imported.result.skipped) == {"the call failed": 1}


def test_feedback_of_a_trace_with_several_calls_is_that_of_the_span_it_names(store: str, imported: Any) -> None:
    table = imported("mlflow", f"{store}#first", quality_from="score")

    assert sorted(table["quality"][1:3], key=str) == [1.0, None]


def test_prompt_is_whole_though_previews_are_cut(store: str, imported: Any) -> None:
    assert imported("mlflow", f"{store}#first")["prompt"][-1] == LONG


def test_all_experiments_are_read_unless_one_is_named(store: str, imported: Any) -> None:
    assert imported("mlflow", store).height == 5
    assert imported("mlflow", f"{store}#second")["prompt"].to_list() == ["Hi"]


def test_model_asked_for(store: str, imported: Any) -> None:
    assert set(imported("mlflow", store, model_from="request")["model"]) == {"gpt-4.1-nano"}


def test_failed_call_is_kept_on_demand(store: str, imported: Any) -> None:
    table = imported("mlflow", store, keep_failed=True)

    assert table.filter(table["quality"] == 0)["prompt"].to_list() == ["Fail."]


def test_traces_as_json(store: str, imported: Any) -> None:
    traces = mlflow.MlflowClient(store).search_traces(locations=["1"])

    by_uri = imported("mlflow", f"{store}#first", quality_from="score")
    lines = imported("mlflow", "\n".join(t.to_json() for t in traces).encode(), quality_from="score")
    document = imported("mlflow", json.dumps({"traces": [t.to_dict() for t in traces]}).encode(), quality_from="score")

    assert lines.sort("created_at").equals(by_uri)
    assert document.sort("created_at").equals(by_uri)


def test_more_traces_than_are_held_at_once(store: str, imported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router_ml.importers.mlflow._AT_ONCE", 2)

    assert imported("mlflow", store).height == 5


def test_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="there is no file"):
        import_traffic("mlflow", [f"sqlite:///{tmp_path}/none.db"], tmp_path / "t.parquet")

    assert not list(tmp_path.iterdir())


def test_unknown_experiment_names_those_that_are_there(store: str, tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="has no experiment 'third'; it has Default, first, second"):
        import_traffic("mlflow", [f"{store}#third"], tmp_path / "t.parquet")


def test_server_that_does_not_answer_is_an_error_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    with pytest.raises(TrafficError, match="can't be read as an MLflow store") as caught:
        import_traffic("mlflow", ["http://user:secret@127.0.0.1:9"], tmp_path / "t.parquet")

    assert "secret" not in str(caught.value)


def test_frameworks_span_around_the_clients_is_no_second_call(imported: Any) -> None:
    def span(name: str, parent: str | None, answer: str) -> dict[str, Any]:
        attributes = {
            "mlflow.spanType": '"CHAT_MODEL"',
            "mlflow.spanInputs": json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}),
            "mlflow.spanOutputs": json.dumps({"choices": [{"message": {"content": answer}}]}),
        }
        return {"span_id": name, "parent_span_id": parent, "attributes": attributes}

    trace = {"info": {}, "data": {"spans": [span("a", None, "outer"), span("b", "a", "inner")]}}

    assert imported("mlflow", [trace])["response"].to_list() == ["inner"]
