"""What paths, folders and globs name; nothing is read by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

from router_ml.errors import TrafficError
from router_ml.traffic.sources import find_sources


def found(*paths: str | Path) -> list[Path]:
    return find_sources(paths, wanted=lambda path: path.suffix == ".csv", endings=".csv")


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize("path", ["", " ", "\t"])
def test_an_empty_path_is_an_error_and_not_the_current_folder(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "a.csv")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrafficError, match="A path of the traffic is empty"):
        found(path)


@pytest.mark.parametrize("hidden", [".venv/lib/a.csv", "deep/.git/a.csv", ".a.csv"])
def test_a_folders_hidden_files_and_folders_are_left_out(hidden: str, tmp_path: Path) -> None:
    touch(tmp_path / hidden)
    seen = touch(tmp_path / "deep" / "a.csv")
    assert found(tmp_path) == [seen]


def test_a_glob_leaves_hidden_folders_out(tmp_path: Path) -> None:
    touch(tmp_path / ".venv" / "a.csv")
    seen = touch(tmp_path / "deep" / "a.csv")
    assert found(tmp_path / "**" / "*.csv") == [seen]


def test_a_hidden_folder_that_is_named_is_read(tmp_path: Path) -> None:
    seen = touch(tmp_path / ".exports" / "a.csv")
    assert found(tmp_path / ".exports") == [seen]


def test_a_folder_below_a_hidden_one_is_read(tmp_path: Path) -> None:
    seen = touch(tmp_path / ".cache" / "logs" / "a.csv")
    assert found(tmp_path / ".cache" / "logs") == [seen]


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    seen = touch(tmp_path / "a.csv")
    assert found(tmp_path, seen) == [seen]
