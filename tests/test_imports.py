"""Importing is light and does nothing; the base install is all that routing needs."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import router_ml

EXTRAS = (
    "httpx",
    "matplotlib",
    "mlflow",
    "onnx",
    "openai",
    "pandas",
    "polars",
    "pyarrow",
    "scipy",
    "sentence_transformers",
)
EXTRAS += ("sklearn", "starlette", "torch", "tqdm", "transformers", "uvicorn", "wordllama")

REFUSE = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Refuse())
"""
"""Makes a process one in which only the base install's packages can be imported."""

SNAPSHOT = """
import json, logging, os, random, sys, threading, warnings
import numpy, polars  # which filter warnings of their own
def snapshot():
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "filters": [repr(f) for f in warnings.filters],
        "threads": threading.active_count(),
        "seed": hash(random.getstate()),
        "log handlers": len(logging.getLogger().handlers),
    }
before = snapshot()
"""


def python(code: str, *args: object) -> str:
    """Output of a fresh process that runs the code in this repository."""
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=Path(router_ml.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("module", ["router_ml", "router_ml.cli"])
def test_importing_loads_no_extra_and_no_session(module: str) -> None:
    loaded = set(python(f"import sys, {module}; print(*sys.modules)").split())
    assert not loaded & {*EXTRAS, "onnxruntime", "tokenizers"}


def test_what_a_caller_catches_annotates_or_passes_is_pinned() -> None:
    assert router_ml.__all__ == [
        "Acceptance",
        "ArtifactError",
        "Decision",
        "Explanation",
        "Guarantee",
        "InputError",
        "Ladder",
        "LadderError",
        "Menu",
        "OperatingPoint",
        "Options",
        "Prediction",
        "QueryError",
        "Reference",
        "Router",
        "RouterError",
        "Shortfall",
        "Single",
        "Threshold",
        "Tier",
        "Tradeoff",
        "Utility",
        "__version__",
    ]


def test_all_of_it_is_there() -> None:
    assert not [name for name in router_ml.__all__ if not hasattr(router_ml, name)]


def test_its_version_is_that_of_the_installed_package() -> None:
    assert router_ml.__version__ == version("router-ml")


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        router_ml.nothing  # noqa: B018


def test_routing_needs_the_base_install_only(artifact: Path) -> None:
    code = REFUSE + "from router_ml import Router; print(Router.load(sys.argv[1]).route('Hello').tier)"
    assert python(code, artifact).strip() == router_ml.Router.load(artifact).route("Hello").tier


@pytest.mark.parametrize("command", [["route", "Hello"], ["inspect", "--json"]])
def test_its_commands_need_the_base_install_only(artifact: Path, command: list[str]) -> None:
    code = REFUSE + "from router_ml.cli import main; main()"
    assert python(code, command[0], artifact, *command[1:])


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "x.parquet", "--out", "x.onnx"],
        ["label", "x.parquet", "--out", "y.parquet"],
        ["sample", "--out", "x.parquet"],
    ],
)
def test_a_command_that_needs_more_says_what_to_install(arguments: list[str]) -> None:
    code = REFUSE + "from router_ml.cli import main\ntry:\n    main()\nexcept SystemExit as exc:\n    print(exc.code)"
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=Path(router_ml.__file__).parents[1],
    )
    assert (run.stdout.strip(), "pip install 'router-ml[train]'" in run.stderr) == ("1", True), run.stderr


@pytest.mark.parametrize(
    "package", ["router_ml", "router_ml.cli", "router_ml.traffic", "router_ml.learning", "router_ml.evaluation"]
)
def test_importing_does_nothing(package: str) -> None:
    code = f"{SNAPSHOT}\nimport {package}\nprint(json.dumps([before, snapshot()]))"
    before, after = json.loads(python(code))
    assert after == before
