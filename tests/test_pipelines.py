"""The DVC pipeline, run as a user runs it, on a small sample and then on traffic of one's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from router_ml.core.router import Router
from router_ml.ladder import Ladder
from router_ml.traffic.sample import simulate

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def run(folder: Path, *command: str) -> str:
    """Run a command in the folder, with this environment's programs; gives stdout and stderr."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PYTEST_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name in ("router_ml", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml", "traffic.yaml"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("data", "models"):
        (folder / name).mkdir()
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["ingest"]["sample_prompts"] = 300
    params["evaluate"]["resamples"] = 20
    params["train"] |= {"learner": "logistic", "n_folds": 2}  # the search has tests of its own
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    run(folder, "dvc", "init", "--no-scm", "--quiet")
    run(folder, sys.executable, "-m", "pipelines.use_traffic", "", "")
    run(folder, "dvc", "repro")
    return folder


def test_the_artifact_routes(project: Path) -> None:
    assert Router.load(project / "models" / "router.onnx").route("What is the capital of Peru?").tier in (
        "nano",
        "mini",
        "full",
    )


def test_a_second_run_does_nothing(project: Path) -> None:
    assert "Running stage" not in run(project, "dvc", "repro")


def test_metrics_are_declared(project: Path) -> None:
    shown = json.loads(run(project, "dvc", "metrics", "show", "--json"))
    assert "value/gap_closed" in next(iter(shown.values()))["data"]["reports/metrics.json"]["data"]


def test_plots_are_declared(project: Path) -> None:
    run(project, "dvc", "plots", "show", "--out", "plots")
    page = (project / "plots" / "index.html").read_text()
    assert "reports_frontier_csv" in page


def test_the_report_draws_the_learning_curve(project: Path) -> None:
    page = (project / "reports" / "report.html").read_text()
    assert '<img alt="learning curve"' in page
    assert "<dt>learning curve</dt><dd>gap closed" in page


def test_no_text_is_on_both_sides(project: Path) -> None:
    train, test = (set(pl.read_parquet(project / "data" / f"{part}.parquet")["prompt"]) for part in ("train", "test"))
    assert not train & test


def test_the_demo_ends_with_controls_places_and_three_prompts(project: Path) -> None:
    shown = run(project, sys.executable, "-m", "pipelines.show")
    assert all(text in shown for text in ("zero router", "oracle", "models/router.onnx", "report.html", "mlflow.db"))
    assert shown.count("\n> ") == 3
    assert shown.startswith("SIMULATED TRAFFIC")
    assert "SIMULATED TRAFFIC" in shown.split("MLflow store")[1]
    body = (project / "reports" / "report.html").read_text().split("<body>")[1].strip()
    assert body.startswith('<p class="headline no-better">SIMULATED TRAFFIC')


def test_own_traffic_takes_the_place_of_the_sample(project: Path, tmp_path: Path) -> None:
    own = simulate(200, random_state=7).with_columns(pl.col("model").str.replace("gpt-4.1", "own"))
    own.write_parquet(tmp_path / "own.parquet")
    run(project, sys.executable, "-m", "pipelines.use_traffic", str(tmp_path / "own.parquet"))
    run(project, "dvc", "repro", "ingest")
    assert set(Ladder.from_yaml(project / "data" / "tiers.yaml").models) == {"own", "own-mini", "own-nano"}
