"""MLflow: traces that its client sent to a tracking server, read over HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import polars as pl
import pytest
from click.testing import CliRunner

from router_ml.cli import main

pytestmark = pytest.mark.slow

START_S = 180
"""A server that isn't up by then never will be; it takes some ten seconds."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a tracking server of its own: a SQLite store, artifacts through the server."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "kept")]
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    env |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        # A session of its own, so that its workers end with it.
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process, folder / "log")
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    last = time.monotonic() + START_S
    while time.monotonic() < last and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=10):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"The tracking server isn't up: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def traced(server: str, openai_client: Any) -> Iterator[str]:
    """Its address, once it holds two experiments: three calls of a model, rated but for the last, and one more."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server)
    mlflow.openai.autolog()
    try:
        mlflow.set_experiment("first")
        for prompt, score in (("word " * 1000, 0.25), ("b", 1), ("c", None)):
            trace = _ask(openai_client, prompt)
            if score is not None:
                mlflow.log_feedback(trace_id=trace, name="score", value=score)
        mlflow.set_experiment("second")
        _ask(openai_client, "d")
        yield server
    finally:
        mlflow.openai.autolog(disable=True)
        mlflow.set_tracking_uri(before)
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # MLflow sets it; it means nothing to another store


def _ask(client: Any, prompt: str) -> str:
    client.chat.completions.create(model="gpt-4.1-nano", messages=[{"role": "user", "content": prompt}])
    trace = mlflow.get_last_active_trace_id()
    assert trace is not None
    mlflow.flush_trace_async_logging()
    return trace


def ingested(uri: str, out: Path) -> pl.DataFrame:
    done = CliRunner().invoke(main, ["-q", "ingest", "mlflow", uri, "--quality-from", "score", "--out", str(out)])
    assert done.exit_code == 0, done.output
    return pl.read_parquet(out)


def test_traces_of_a_server_have_their_whole_texts_and_assessments(traced: str, tmp_path: Path) -> None:
    table = ingested(f"{traced}#first", tmp_path / "t.parquet")

    assert table["prompt"].to_list() == ["word " * 1000, "b", "c"]
    assert table["quality"].to_list() == [0.25, 1.0, None]
    assert table.select("model", "response", "input_tokens", "output_tokens").unique().rows() == [
        ("gpt-4.1-nano-2025-04-14", "Two.", 8, 2)
    ]


def test_all_experiments_of_a_server_are_read_page_by_page(
    traced: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router_ml.importers.mlflow._AT_ONCE", 2)

    assert sorted(ingested(traced, tmp_path / "t.parquet")["prompt"].str.head(1)) == ["b", "c", "d", "w"]
