"""Experiment tracking: the only file that logs to MLflow. Its traces are read by ``importers/mlflow.py``.

The store is what the standard variables say (``MLFLOW_TRACKING_URI`` and the like), else ``mlflow.db`` and ``mlruns/`` in
the working directory. :func:`_load_pyfunc` makes a logged router loadable with ``mlflow.pyfunc.load_model``.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from router_ml.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["DEFAULT_STORE", "EXPERIMENT", "REGISTERED_MODEL", "Run", "quiet", "serve", "start", "untracked"]

EXPERIMENT = "router-ml"
REGISTERED_MODEL = "router-ml"
DEFAULT_STORE = "sqlite:///mlflow.db"
_TRAINING_VIEW = {"mlflow.experimentKind": "custom_model_development"}
"""Tag of the experiment by which MLflow's UI opens it on its runs, not on traces of LLMs."""
_NOTES = ("Successfully registered model", "Registered model", "Created version")
_MAX_PARAM = 6000
"""MLflow's bound on the length of a param's value (https://mlflow.org/docs/latest/rest-api.html)."""


class Run:
    """A run that is logged nowhere: what is used where tracking is off."""

    id: str | None = None

    @contextmanager
    def child(self, name: str) -> Iterator[Run]:  # noqa: ARG002
        """A run within this one, for something that is tried."""
        yield Run()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings."""

    def log_metrics(self, metrics: Mapping[str, float], *, prefix: str = "", step: int | None = None) -> None:
        """Log figures; names are cleaned of what the store doesn't take."""

    def log_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Log one epoch's losses."""
        self.log_metrics(metrics, prefix="epoch/", step=epoch)

    def log_traffic(self, traffic: pl.DataFrame, *, source: str, name: str) -> None:
        """Log a data set, with its digest."""

    def log_figures(self, figures: Mapping[str, bytes]) -> None:
        """Log PNG figures."""

    def log_file(self, path: Path) -> None:
        """Log a file as it is."""

    def log_router(self, path: Path) -> None:
        """Log the artifact as a new version of the registered model."""


class _MLflowRun(Run):
    def __init__(self, run_id: str) -> None:
        self.id = run_id

    @contextmanager
    def child(self, name: str) -> Iterator[Run]:
        import mlflow

        with mlflow.start_run(run_name=name, nested=True) as active:
            yield _MLflowRun(active.info.run_id)

    def log_params(self, params: Mapping[str, Any]) -> None:
        import mlflow

        mlflow.log_params({k: str(v)[:_MAX_PARAM] for k, v in params.items()})

    def log_metrics(self, metrics: Mapping[str, float], *, prefix: str = "", step: int | None = None) -> None:
        import mlflow

        mlflow.log_metrics({_clean(prefix + k): float(v) for k, v in metrics.items()}, step=step)

    def log_traffic(self, traffic: pl.DataFrame, *, source: str, name: str) -> None:
        import mlflow

        # Texts stay out of the profile and the digest is of what is learned from.
        columns = ["prompt_id", "model", "quality", "input_tokens", "output_tokens", "cost_usd"]
        with warnings.catch_warnings():
            # MLflow registers its source for local files twice, and says so.
            warnings.filterwarnings("ignore", "The specified dataset source can be interpreted", UserWarning)
            data = mlflow.data.from_polars(traffic.select(columns), source=source, name=name)
        mlflow.log_input(data, context="training")

    def log_figures(self, figures: Mapping[str, bytes]) -> None:
        import mlflow

        with tempfile.TemporaryDirectory() as folder:
            for name, png in figures.items():
                (Path(folder) / f"{_clean(name)}.png").write_bytes(png)
            mlflow.log_artifacts(folder, "figures")

    def log_file(self, path: Path) -> None:
        import mlflow

        mlflow.log_artifact(str(path))

    def log_router(self, path: Path) -> None:
        import mlflow
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, DataType, Schema

        text, number = DataType.string, DataType.double
        outputs = [ColSpec(text, n) for n in ("tier", "model", "policy", "reason", "explanation")]
        outputs += [ColSpec(number, n) for n in ("p_meets", "quality", "cost_usd", "parameter")]
        with warnings.catch_warnings(), _without_notes():
            # The signature is given, so that no example has to be run to find it.
            warnings.filterwarnings("ignore", ".*input example was not provided", UserWarning)
            mlflow.pyfunc.log_model(
                name="router",
                loader_module=__name__,
                data_path=str(path),
                pip_requirements=["router-ml"],
                signature=ModelSignature(Schema([ColSpec(text)]), Schema(outputs)),
                registered_model_name=REGISTERED_MODEL,
            )


@contextmanager
def start(name: str, *, run_id: str | None = None) -> Iterator[Run]:
    """Start a run, or go on with an earlier one; it ends, as failed where an error goes through, with the block.

    Parameters
    ----------
    name : str
        Of a new run.
    run_id : str, optional
        The run to go on with.

    Raises
    ------
    MissingExtraError
        If MLflow isn't installed.
    InputError
        If there is no run of that id.
    """
    quiet()
    try:
        import mlflow
    except ImportError as exc:
        raise MissingExtraError("train", "Tracking") from exc
    if "MLFLOW_TRACKING_URI" not in os.environ:
        mlflow.set_tracking_uri(DEFAULT_STORE)
    if "MLFLOW_EXPERIMENT_NAME" not in os.environ and "MLFLOW_EXPERIMENT_ID" not in os.environ:
        _set_experiment()
    try:
        active = mlflow.start_run(run_id=run_id, run_name=None if run_id else name)
    except mlflow.exceptions.MlflowException as exc:
        if run_id is None:
            raise
        raise InputError(f"The MLflow run {run_id} can't be gone on with ({exc.message}); train it again.") from exc
    with active:
        yield _MLflowRun(active.info.run_id)


def quiet() -> None:
    """Switch MLflow's telemetry off, and its notes of what went well; what the user has set stays.

    MLflow reads both when it is first imported, in this process or in one that is started from it.
    """
    # Usage would be reported over the network; a router's users didn't ask for that.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")


@contextmanager
def _without_notes() -> Iterator[None]:
    """Keep MLflow from printing that it registered a model, which no level of logging does."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            yield
    finally:
        sys.stderr.writelines(line for line in said.getvalue().splitlines(True) if not line.startswith(_NOTES))


def serve() -> NoReturn:
    """Become MLflow's UI on the store, in one process that needs no more than a user's machine has.

    Raises
    ------
    MissingExtraError
        If MLflow isn't installed.
    """
    quiet()
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    if find_spec("mlflow") is None:
        raise MissingExtraError("train", "MLflow's UI")
    store = os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_STORE)
    arguments = ["-m", "mlflow", "ui", "--backend-store-uri", store, "--workers", "1"]
    os.execv(sys.executable, [sys.executable, *arguments])


@contextmanager
def untracked() -> Iterator[Run]:
    """A run that is logged nowhere."""
    yield Run()


def _set_experiment() -> None:
    import mlflow

    client = mlflow.MlflowClient()
    if client.get_experiment_by_name(EXPERIMENT) is None:
        client.create_experiment(EXPERIMENT, tags=_TRAINING_VIEW)
    mlflow.set_experiment(EXPERIMENT)
    # MLflow sets it for subprocesses. It would be taken for the user's choice by the next run, of another store perhaps.
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)


def _clean(name: str) -> str:
    """Metric and file names may hold letters, digits and ``_-. /`` only."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in name)


class _PyFunc:
    """What ``mlflow.pyfunc.load_model`` calls: prompts in, decisions out, through the core."""

    def __init__(self, path: str) -> None:
        from router_ml.core.router import Router

        self._router = Router.load(path)

    def predict(
        self, model_input: pd.DataFrame | Sequence[str], params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        import pandas as pd

        prompts = model_input.iloc[:, 0] if isinstance(model_input, pd.DataFrame) else model_input
        return pd.DataFrame([d._asdict() for d in self._router.route_batch(list(prompts), **(params or {}))])


def _load_pyfunc(data_path: str) -> _PyFunc:
    """MLflow's hook for ``loader_module`` (https://mlflow.org/docs/latest/python_api/mlflow.pyfunc.html)."""
    return _PyFunc(data_path)
