"""Commands that bring logs in: ingest, replay, judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from router_ml.cli import main
from router_ml.traffic.sample import TIERS_PATH, simulate
from router_ml.traffic.schema import SCHEMA


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Logged requests and responses, one with an e-mail address, one broken."""
    lines = [
        json.dumps(
            {
                "request": {"model": "m", "messages": [{"role": "user", "content": text}]},
                "response": {"model": "m", "choices": [{"message": {"role": "assistant", "content": "Yes."}}]},
            }
        )
        for text in [f"Is {i} a number?" for i in range(30)] + ["Write to jane.doe@example.com about it."]
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join([*lines, "{broken"]), encoding="utf-8")
    return path


def test_ingest_writes_the_table_and_prints_the_card(pairs: Path, tmp_path: Path) -> None:
    done = run("-q", "ingest", "openai-stored", pairs, "--out", tmp_path / "t.parquet", "--card", tmp_path / "card.md")
    assert done.exit_code == 0, done.output
    assert "rows kept" in done.stdout
    assert pl.read_parquet(tmp_path / "t.parquet").columns == list(SCHEMA)
    assert (tmp_path / "card.md").read_text(encoding="utf-8").startswith("# Data card")
    assert (tmp_path / "t.rejects.csv").exists()


def test_redacted_text_is_never_written(pairs: Path, tmp_path: Path) -> None:
    done = run("-q", "ingest", "openai-stored", pairs, "--out", tmp_path / "t.parquet", "--redact", "--json")
    assert json.loads(done.stdout)["card"]["redactions"] == [{"kind": "email", "n": 1}] or "email" in done.stdout
    table = pl.read_parquet(tmp_path / "t.parquet")
    assert not table["prompt"].str.contains("jane.doe").any()
    assert table["prompt"].str.contains("<EMAIL>").any()


def test_the_card_is_logged_where_that_is_asked_for(pairs: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    # A process of its own: MLflow keeps the store and the experiment of other tests in this one.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_EXPERIMENT")}
    command = [sys.executable, "-m", "router_ml.cli", "-q", "ingest", "openai-stored", str(pairs), "--track"]
    subprocess.run(
        [*command, "--out", str(tmp_path / "t.parquet")],
        cwd=tmp_path,
        env={**kept, "MLFLOW_TRACKING_URI": store},
        check=True,
        capture_output=True,
        timeout=120,
    )

    client = MlflowClient(store)
    (logged,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert logged.data.metrics["data/rows_kept"] == 31
    assert logged.data.params["format"] == "openai-stored"


def test_an_unknown_format_names_those_there_are(pairs: Path, tmp_path: Path) -> None:
    done = run("ingest", "carrier-pigeon", pairs, "--out", tmp_path / "t.parquet")
    assert done.exit_code == 1
    assert "openai-batch" in done.stderr
    assert not (tmp_path / "t.parquet").exists()


def test_replay_needs_a_budget(tmp_path: Path) -> None:
    simulate(10, random_state=0).write_parquet(tmp_path / "t.parquet")
    done = run("replay", tmp_path / "t.parquet", "--tiers", TIERS_PATH, "--out", tmp_path / "o.parquet")
    assert done.exit_code == 2
    assert "--max-usd" in done.stderr


def test_a_dry_run_of_replay_says_what_it_would_cost(tmp_path: Path) -> None:
    simulate(40, random_state=0, logged=True).write_parquet(tmp_path / "t.parquet")
    done = run(
        *("-q", "replay", tmp_path / "t.parquet", "--tiers", TIERS_PATH, "--dry-run", "--json"),
        *("--out", tmp_path / "o.parquet"),
    )
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["tiers"]) == 3
    assert not (tmp_path / "o.parquet").exists()


def test_judge_fills_in_quality(tmp_path: Path) -> None:
    traffic = simulate(20, random_state=0).with_columns(quality=pl.lit(None, pl.Float64), response=pl.lit("Yes."))
    traffic.write_parquet(tmp_path / "t.parquet")
    references = traffic.select("prompt_id").unique().with_columns(answer=pl.lit("yes"))
    references.write_parquet(tmp_path / "answers.parquet")
    (tmp_path / "judge.yaml").write_text(
        "references: answers.parquet\nrules:\n  - {grader: normalised, reference: answer}\n", encoding="utf-8"
    )
    done = run(
        *("-q", "judge", tmp_path / "t.parquet", "--judge", tmp_path / "judge.yaml"),
        *("--out", tmp_path / "judged.parquet", "--grades", tmp_path / "grades.parquet"),
    )
    assert done.exit_code == 0, done.output
    assert pl.read_parquet(tmp_path / "judged.parquet")["quality"].mean() == 1
    assert pl.read_parquet(tmp_path / "grades.parquet").height == traffic.height
