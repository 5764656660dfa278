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

from pipelines import use_traffic
from router_ml.core.router import Router
from router_ml.datasets import simulate
from router_ml.errors import RouterError
from router_ml.ladder import Ladder

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def run(folder: Path, *command: str) -> str:
    """Run a command in the folder, with this environment's programs; gives stdout and stderr."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PYTEST_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.com")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is committed of the pipeline, in a repository of its own, for a smaller sample; nothing has run."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("router_ml", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    committed = ("dvc.yaml", "params.yaml", "Makefile", "pyproject.toml", "constraints.txt", ".gitignore", ".dvcignore")
    for name in (*committed, ".dvc/config", ".dvc/.gitignore", "data/.gitkeep", "models/.gitkeep"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["ingest"]["sample_prompts"] = 300
    params["evaluate"]["resamples"] = 20
    params["train"] |= {"learner": "logistic", "n_folds": 2}  # the search has tests of its own
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    run(folder, "git", "init", "--quiet")
    run(folder, *GIT, "add", "--all")
    run(folder, *GIT, "commit", "--quiet", "--message", "all")
    return folder


def make(folder: Path, *arguments: str) -> str:
    """Run make with the packages of this environment in place of a new one."""
    ready = folder / ".venv" / ".ready"
    ready.parent.mkdir(exist_ok=True)
    ready.touch()
    return run(folder, "make", *arguments)


@pytest.fixture(scope="module")
def demo(checkout: Path) -> str:
    """What `make demo` prints."""
    return make(checkout, "demo")


@pytest.fixture(scope="module")
def project(checkout: Path, demo: str) -> Path:
    return checkout


def test_the_demo_leaves_the_checkout_clean(project: Path) -> None:
    assert run(project, "git", "status", "--short") == ""


def test_the_demo_says_how_long_it_takes(demo: str) -> None:
    assert "The pipeline on 300 prompts takes about" in demo


@pytest.mark.parametrize("hint", ["git add", "dvc push", "autostage"])
def test_the_demo_shows_no_hints_of_dvc(hint: str, demo: str) -> None:
    assert hint not in demo


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
    run(project, "dvc", "plots", "show", "--out", "dvc_plots")
    page = (project / "dvc_plots" / "index.html").read_text()
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


@pytest.fixture
def own(tmp_path: Path) -> Path:
    traffic = simulate(200, random_state=7).with_columns(pl.col("model").str.replace("gpt-4.1", "own"))
    traffic.write_parquet(tmp_path / "own.parquet")
    return tmp_path / "own.parquet"


def test_own_traffic_takes_the_place_of_the_sample_and_leaves_the_checkout_clean(project: Path, own: Path) -> None:
    run(project, sys.executable, "-m", "pipelines.use_traffic", str(own))
    run(project, "dvc", "repro", "ingest")
    assert set(Ladder.from_yaml(project / "data" / "tiers.yaml").models) == {"own", "own-mini", "own-nano"}
    assert run(project, "git", "status", "--short") == ""


def test_another_bar_labels_again_and_splits_no_more(project: Path, own: Path) -> None:
    run(project, sys.executable, "-m", "pipelines.use_traffic", str(own))
    run(project, "dvc", "repro", "label")
    before = pl.read_parquet(project / "data" / "labels.parquet")
    run(project, sys.executable, "-m", "pipelines.use_traffic", str(own), "", "0.3")
    said = run(project, "dvc", "repro", "label")
    assert "Running stage 'ingest'" not in said
    assert not pl.read_parquet(project / "data" / "labels.parquet").equals(before)


@pytest.mark.parametrize(
    ("arguments", "says"), [(("", "", "high"), "high"), (("", "absent.yaml"), "absent.yaml"), ((" ",), "empty")]
)
def test_arguments_that_cannot_be_kept_are_refused_at_once(
    arguments: tuple[str, ...],
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RouterError, match=says):
        use_traffic.main(*arguments)
    assert list(tmp_path.iterdir()) == []
