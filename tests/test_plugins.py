"""Learners and importers that another package brings by entry points, from its installation to a router."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from router_ml._plugins import Plugins
from router_ml.errors import InputError

MODULE = """
from router_ml.importers.table import TABLE
from router_ml.learning.learners.constant import ConstantLearner
import dataclasses


class MeanLearner(ConstantLearner):
    pass


NOTES = dataclasses.replace(TABLE, name="notes")
"""
ENTRY_POINTS = """
[router_ml.learners]
mean = notes_plugin:MeanLearner
broken = notes_plugin:Missing
logistic = notes_plugin:MeanLearner

[router_ml.importers]
notes = notes_plugin:NOTES
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip installed a small package into, which brings a learner and an importer."""
    folder = tmp_path_factory.mktemp("plugin")
    wheel = folder / "notes_plugin-1.0-py3-none-any.whl"
    info = "notes_plugin-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("notes_plugin.py", MODULE)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: notes-plugin\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/entry_points.txt", ENTRY_POINTS)
        archive.writestr(f"{info}/RECORD", "")
    target = folder / "site"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--target",
        str(target),
        str(wheel),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def learners(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins[object]:
    from router_ml.learning.learners.registry import LEARNERS

    monkeypatch.syspath_prepend(str(installed))
    return Plugins("router_ml.learners", {name: LEARNERS[name] for name in ("logistic", "constant")})


def run(installed: Path, code: str) -> str:
    """What a new process prints that has the package installed."""
    program = f"import sys; sys.path.insert(0, {str(installed)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_installed_learner_is_known_to_the_options_of_fit(installed: Path) -> None:
    code = "from router_ml.workflow import FitOptions; print(FitOptions(learner='mean').learner)"
    assert run(installed, code) == "mean"


def test_an_installed_learner_is_made_by_name(installed: Path) -> None:
    code = "from router_ml.learning.learners import make_learner; print(type(make_learner('mean')).__name__)"
    assert run(installed, code) == "MeanLearner"


def test_an_installed_importer_is_known_by_its_format(installed: Path) -> None:
    code = "from router_ml.importers import get_importer; print(get_importer('notes').name)"
    assert run(installed, code) == "notes"


def test_an_installed_importer_is_a_format_of_ingest(installed: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("prompt,model\nHi,m\n")
    arguments = ["ingest", "notes", str(log), "--out", str(tmp_path / "traffic.parquet")]
    run(installed, f"from router_ml.cli import main; main({arguments!r}, standalone_mode=False)")
    assert (tmp_path / "traffic.parquet").exists()


def test_a_built_in_name_can_not_be_taken(learners: Plugins[object]) -> None:
    assert type(learners["logistic"]()).__name__ == "LogisticLearner"  # type: ignore[operator]


def test_built_in_ones_come_first(learners: Plugins[object]) -> None:
    assert [*learners] == ["logistic", "constant", "broken", "mean"]


def test_one_that_can_not_be_loaded_is_named_with_its_package(learners: Plugins[object]) -> None:
    with pytest.raises(InputError, match=r"'broken' of notes-plugin .*can't be loaded.*uninstall"):
        learners["broken"]


def test_an_unknown_name_is_a_key_error(learners: Plugins[object]) -> None:
    with pytest.raises(KeyError):
        learners["nothing"]
