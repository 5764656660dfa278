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
from router_ml.cli.logs import FORMATS, TABLES
from router_ml.datasets import TIERS_PATH, simulate
from router_ml.importers import IMPORTERS
from router_ml.importers.registry import ALIASES
from router_ml.judge import JudgeConfig
from router_ml.ladder import Ladder
from router_ml.replay import read_endpoints
from router_ml.traffic.schema import SCHEMA

DOCS = Path(__file__).parents[1] / "docs"


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


def test_a_log_without_quality_is_told_how_to_get_it(pairs: Path, tmp_path: Path) -> None:
    done = run("-q", "ingest", "openai-stored", pairs, "--out", tmp_path / "t.parquet")
    assert f"router-ml judge {tmp_path / 't.parquet'} --judge judge.yaml" in done.stdout


def test_redacted_text_is_never_written(pairs: Path, tmp_path: Path) -> None:
    done = run("-q", "ingest", "openai-stored", pairs, "--out", tmp_path / "t.parquet", "--redact", "--json")
    assert json.loads(done.stdout)["card"]["redactions"] == [{"kind": "email", "n": 1}] or "email" in done.stdout
    table = pl.read_parquet(tmp_path / "t.parquet")
    assert not table["prompt"].str.contains("jane.doe").any()
    assert table["prompt"].str.contains("<EMAIL>").any()


@pytest.mark.slow
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
    assert done.exit_code == 2
    assert "openai-batch" in done.stderr
    assert not (tmp_path / "t.parquet").exists()


def test_help_of_ingest_lists_the_formats() -> None:
    assert tuple(IMPORTERS) == FORMATS
    assert tuple(ALIASES) == TABLES
    told = "".join(run("ingest", "--help").stdout.split())
    assert all(name in told for name in IMPORTERS)


@pytest.mark.parametrize("command", ["ingest", "replay", "judge", "label", "embed", "fit", "sample", "export"])
def test_an_output_of_another_suffix_is_refused_before_any_work(command: str, tmp_path: Path) -> None:
    """Parquet in a file called .csv is a table that no command reads again."""
    given = {"ingest": ["table", "no.csv"], "sample": []}.get(command, ["no.parquet"])
    (tmp_path / "a.yaml").touch()
    options = {"replay": ["--tiers", tmp_path / "a.yaml"], "judge": ["--judge", tmp_path / "a.yaml"]}.get(command, [])
    if command == "export":
        (tmp_path / "a.onnx").touch()
        given = [tmp_path / "a.onnx"]
    before = sorted(tmp_path.iterdir())
    done = run(command, *given, *options, "--out", tmp_path / "t.csv")
    assert done.exit_code == 2
    assert "doesn't end in .onnx" in done.stderr if command in ("fit", "export") else "in .parquet" in done.stderr
    assert sorted(tmp_path.iterdir()) == before


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


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """Traffic of three models whose answers are all "Yes." to 20 prompts, ``judge.yaml`` and right answers beside it: half of them "No."."""
    traffic = simulate(20, random_state=0).with_columns(quality=pl.lit(None, pl.Float64), response=pl.lit("Yes."))
    traffic = traffic.with_columns(prompt_id=pl.col("prompt_id").rank("dense").cast(pl.String))
    traffic.write_parquet(tmp_path / "t.parquet")
    answer = pl.when(pl.col("prompt_id").cast(pl.Int64) > 10).then(pl.lit("no")).otherwise(pl.lit("yes"))
    traffic.select("prompt_id").unique().with_columns(answer=answer).write_parquet(tmp_path / "answers.parquet")
    (tmp_path / "judge.yaml").write_text(
        "references: answers.parquet\nrules:\n  - {grader: normalised, reference: answer}\n", encoding="utf-8"
    )
    return tmp_path / "t.parquet"


def judge(answers: Path, *options: object) -> Result:
    folder = answers.parent
    return run("-q", "judge", answers, "--judge", folder / "judge.yaml", "--out", folder / "judged.parquet", *options)


def test_judge_fills_in_quality(answers: Path, tmp_path: Path) -> None:
    done = judge(answers, "--grades", tmp_path / "grades.parquet")
    assert done.exit_code == 0, done.output
    assert pl.read_parquet(tmp_path / "judged.parquet")["quality"].mean() == 0.5
    assert pl.read_parquet(tmp_path / "grades.parquet").height == pl.read_parquet(answers).height


def test_judge_is_compared_with_peoples_labels(answers: Path, tmp_path: Path) -> None:
    # People differ on one prompt. Its ids are digits, which a CSV doesn't tell from numbers.
    quality = (pl.col("prompt_id").cast(pl.Int64) <= 11).cast(pl.Int64)
    labels = pl.read_parquet(answers).select("prompt_id", "model", quality=quality)
    labels.write_csv(tmp_path / "people.csv")

    done = judge(answers, "--labels", tmp_path / "people.csv", "--json")

    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["agreement"]["accuracy"]["value"] == 0.95
    # A margin takes more labels than these, or a better judge; the rest is said all the same.
    assert found["margin"] is None
    assert "Label more" in found["no_margin"]


@pytest.mark.parametrize(
    "labels", ["prompt_id,model,quality\n1,nobody,1\n", "prompt_id,model,quality\n1,m,good\n", "a\n1\n"]
)
def test_what_was_judged_is_kept_though_the_labels_are_of_no_use(answers: Path, tmp_path: Path, labels: str) -> None:
    (tmp_path / "people.csv").write_text(labels)

    done = judge(answers, "--labels", tmp_path / "people.csv")

    assert done.exit_code == 1
    assert "label" in done.stderr
    assert pl.read_parquet(tmp_path / "judged.parquet")["quality"].mean() == 0.5


def test_rows_that_cannot_be_judged_are_listed_beside_the_output(answers: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(answers)
    pl.concat([table, table.head(1).with_columns(prompt=pl.lit(""))]).write_parquet(answers)

    done = judge(answers)

    assert f"Left out, with the reasons: {tmp_path / 'judged.rejects.csv'}" in done.stdout
    assert "prompt: got nothing" in (tmp_path / "judged.rejects.csv").read_text()


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_references_may_be_columns_of_the_traffic(suffix: str, answers: Path, tmp_path: Path) -> None:
    table = (
        pl.read_parquet(answers).drop("created_at").join(pl.read_parquet(tmp_path / "answers.parquet"), on="prompt_id")
    )
    write = {"parquet": table.write_parquet, "csv": table.write_csv, "jsonl": table.write_ndjson}
    write[suffix](tmp_path / f"with.{suffix}")
    (tmp_path / "judge.yaml").write_text("rules: [{grader: normalised, reference: answer}]", encoding="utf-8")
    done = judge(tmp_path / f"with.{suffix}")
    assert done.exit_code == 0, done.output
    assert pl.read_parquet(tmp_path / "judged.parquet")["quality"].mean() == 0.5


def test_a_reference_that_the_traffic_lacks_is_named_without_our_own_columns(answers: Path, tmp_path: Path) -> None:
    (tmp_path / "judge.yaml").write_text("rules: [{grader: normalised, reference: anwser}]", encoding="utf-8")
    done = judge(answers)
    assert done.exit_code == 1
    assert "lacks the column(s) ['anwser']" in done.stderr
    assert "_judge" not in done.stderr


# The examples in docs/


@pytest.mark.parametrize(
    ("name", "graders"), [("judge.yaml", {"llm_rubric"}), ("judge-slices.yaml", {"numeric", "exact", "llm_rubric"})]
)
def test_the_examples_of_judge_yaml_are_read(name: str, graders: set[str]) -> None:
    assert {rule.grader for rule in JudgeConfig.from_yaml(DOCS / name).rules} == graders


def test_the_example_of_endpoints_yaml_is_read() -> None:
    endpoints = read_endpoints(DOCS / "endpoints.yaml", Ladder.from_yaml(TIERS_PATH))
    assert [e.base_url for e in endpoints] == ["http://localhost:8000/v1", None, None]
