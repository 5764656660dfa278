"""Runs in a real MLflow store: sqlite, in a folder of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import polars as pl
import pytest

from router_ml import workflow
from router_ml.core.router import Router
from router_ml.datasets import sample_ladder, simulate
from router_ml.errors import InputError
from router_ml.tracking import EXPERIMENT, REGISTERED_MODEL, start, untracked
from router_ml.workflow import FitOptions, FitResult

PROMPTS = ["What is the capital of Peru?", "Prove that there are infinitely many primes, in two ways."]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def tracked(store: str, folder: Path) -> FitResult:
    simulate(300, random_state=0).write_parquet(folder / "traffic.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store)
        patch.chdir(folder)
        mlflow.set_tracking_uri(store)
        options = FitOptions(learner="mlp", learner_params={"max_epochs": 3})
        return workflow.fit(
            [folder / "traffic.parquet"], folder / "router.onnx", ladder=sample_ladder(), options=options
        )


@pytest.fixture
def run(tracked: FitResult, store: str) -> mlflow.entities.Run:
    mlflow.set_tracking_uri(store)
    assert tracked.run_id is not None
    return mlflow.get_run(tracked.run_id)


def test_a_fit_is_a_finished_run_with_its_params(run: mlflow.entities.Run) -> None:
    assert run.info.status == "FINISHED"
    assert run.data.params["learner"] == "mlp"
    assert run.data.params["learner.max_epochs"] == "3"


def test_the_data_set_is_logged_with_a_digest(run: mlflow.entities.Run) -> None:
    (dataset,) = (d.dataset for d in run.inputs.dataset_inputs)
    assert dataset.digest


def test_the_cross_validated_metrics_are_logged(run: mlflow.entities.Run, tracked: FitResult) -> None:
    assert tracked.evaluation is not None
    logged = run.data.metrics["cv/value/gap_closed"]
    assert logged == pytest.approx(tracked.evaluation.metrics()["value/gap_closed"])


def test_epochs_are_logged_step_by_step(run: mlflow.entities.Run) -> None:
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "epoch/validation_loss")
    assert [m.step for m in history] == [0, 1, 2]


def test_the_figures_are_logged(run: mlflow.entities.Run) -> None:
    names = {Path(f.path).name for f in mlflow.MlflowClient().list_artifacts(run.info.run_id, "figures")}
    assert {"frontier.png", "reliability.png", "confusion.png", "labels by category.png"} <= names


def test_the_registered_model_decides_as_the_core_does(run: mlflow.entities.Run, tracked: FitResult) -> None:
    model = mlflow.pyfunc.load_model(f"models:/{REGISTERED_MODEL}/1")
    served = model.predict(PROMPTS)
    assert served["tier"].tolist() == [d.tier for d in Router.load(tracked.path).route_batch(PROMPTS)]


def test_the_artifact_names_its_run(run: mlflow.entities.Run, tracked: FitResult) -> None:
    assert Router.load(tracked.path).metadata.provenance["mlflow_run"] == run.info.run_id


def test_a_run_goes_on_under_its_id(run: mlflow.entities.Run, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    with start("later", run_id=run.info.run_id) as again:
        again.log_metrics({"later/α?": 1.0})
    assert mlflow.get_run(run.info.run_id).data.metrics["later/__"] == 1.0


def test_a_run_that_is_gone_is_an_input_error(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    with pytest.raises(InputError, match="train it again"), start("gone", run_id="0" * 32):
        pass


def test_an_error_leaves_the_run_failed(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    ids = []

    def fail() -> None:
        with start("fails") as run:
            ids.append(run.id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert mlflow.get_run(ids[0]).info.status == "FAILED"


def test_untracked_logs_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with untracked() as run:
        run.log_metrics({"a": 1.0})
        run.log_traffic(pl.DataFrame(), source="", name="")
    assert run.id is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_each_learner_that_a_search_tries_is_a_run_within_the_run(store: str, tmp_path: Path) -> None:
    from router_ml.learning.selection import CANDIDATES

    simulate(100, random_state=0).write_parquet(tmp_path / "traffic.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store)
        patch.chdir(tmp_path)
        mlflow.set_tracking_uri(store)
        result = workflow.fit([tmp_path / "traffic.parquet"], tmp_path / "router.onnx", ladder=sample_ladder())
        children = mlflow.search_runs(
            experiment_names=["router-ml"],
            filter_string=f"tags.mlflow.parentRunId = '{result.run_id}'",
            output_format="list",
        )
    assert {child.data.params["learner"] for child in children} == set(CANDIDATES)


def python(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that hasn't imported MLflow, without what a test runner or a CI sets for it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


def test_a_run_that_makes_the_store_and_registers_a_model_says_nothing(artifact: Path, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from router_ml import tracking
for _ in range(2):
    with tracking.start("run") as run:
        run.log_router(Path({str(artifact)!r}))
"""
    assert python(code, tmp_path).stderr == ""


def test_what_goes_wrong_is_still_said(tmp_path: Path) -> None:
    code = """
import sys
from router_ml import tracking
with tracking._without_notes():
    print("Created version '1' of model 'a'.", file=sys.stderr)
    print("WARNING mlflow: it matters", file=sys.stderr)
"""
    assert python(code, tmp_path).stderr == "WARNING mlflow: it matters\n"


@pytest.mark.parametrize(
    "entry",
    [
        "from router_ml import tracking; tracking.start('run').__enter__()",
        "from router_ml.cli import main; main(['ingest', 'mlflow', 'absent', '--out', 't.parquet'], standalone_mode=False)",
    ],
    ids=["a run", "an import of traces"],
)
def test_telemetry_is_off_wherever_mlflow_is_used(entry: str, tmp_path: Path) -> None:
    code = f"""
import os
try:
    {entry}
except Exception:
    pass
print(os.environ["MLFLOW_DISABLE_TELEMETRY"])
"""
    assert python(code, tmp_path).stdout.strip() == "true"


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    code = "import os; from router_ml import tracking; tracking.quiet(); print(os.environ['MLFLOW_LOGGING_LEVEL'])"
    assert python(code, tmp_path, MLFLOW_LOGGING_LEVEL="DEBUG").stdout.strip() == "DEBUG"


def test_the_ui_is_served_without_telemetry_by_one_worker(tmp_path: Path) -> None:
    code = """
import os
from router_ml import tracking
os.execv = lambda path, arguments: print(os.environ["MLFLOW_DISABLE_TELEMETRY"], *arguments[1:])
tracking.serve()
"""
    shown = python(code, tmp_path).stdout.strip()
    assert shown == "true -m mlflow ui --backend-store-uri sqlite:///mlflow.db --workers 1"


def test_the_experiment_opens_on_its_runs(tracked: FitResult, store: str) -> None:
    mlflow.set_tracking_uri(store)
    experiment = mlflow.get_experiment_by_name("router-ml")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_second_store_of_one_process_gets_its_own_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow remembers the first store's experiment in the environment, by a number that the second one may not have."""
    for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for folder in ("first", "second"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / folder}.db")
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path / folder}.db")
        if folder == "first":
            mlflow.create_experiment("another")
        with start("run") as run:
            assert mlflow.get_experiment(mlflow.get_run(run.id).info.experiment_id).name == EXPERIMENT
