"""The files that the paths, folders and globs of a user name."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from router_ml.errors import TrafficError

__all__ = ["find_sources", "shown"]

_ADDRESS = re.compile(r"[a-z][a-z+]+:/+\S")
"""A URL, as it is or as pathlib shortens it; it may hold a password, so it isn't quoted."""


def find_sources(paths: Iterable[str | Path], *, wanted: Callable[[Path], bool], endings: str) -> list[Path]:
    """Return the files that `paths` name, in order, each once.

    Parameters
    ----------
    paths : iterable of str or Path
        Files, folders (searched recursively, hidden files and folders left out) or globs.
    wanted : callable
        Whether a file found in a folder is taken; a file that is named itself is taken anyway.
    endings : str
        How a wanted file ends, for the error that says that a folder holds none.

    Raises
    ------
    TrafficError
        If a path is empty, names nothing, or names something that is no regular file; if there is no path.
    """
    found: dict[Path, None] = {}
    for given in paths:
        if not str(given).strip():
            raise TrafficError("A path of the traffic is empty; give a file, a folder or a glob.")
        found.update(dict.fromkeys(_named(Path(given), wanted, endings)))
    if not found:
        raise TrafficError("No traffic file was given; give at least one file, folder or glob.")
    return list(found)


def _named(path: Path, wanted: Callable[[Path], bool], endings: str) -> list[Path]:
    if _ADDRESS.match(str(path)):
        raise TrafficError(
            "An address is given where a file is needed. 'router-ml ingest litellm' reads postgresql://..., 'router-ml ingest mlflow' "
            "a tracking URI; the others read files."
        )
    if path.is_dir():
        matches = sorted(f for f in _visible_files(path) if wanted(f))
        if not matches:
            raise TrafficError(f"{shown(path)} holds no file that ends in {endings} (hidden ones are left out).")
        return matches
    if path.is_file():
        return [path]
    if path.exists():
        raise TrafficError(
            f"{shown(path)} is no regular file; traffic is read more than once, so write it to a file first."
        )
    matches = sorted(f for f in map(Path, glob.glob(str(path), recursive=True)) if f.is_file())
    if not matches:
        raise TrafficError(f"{shown(path)}: no such file. Give a file, a folder or a glob that matches some.")
    return matches


def _visible_files(folder: Path) -> Iterable[Path]:
    """The regular files below a folder, without what is hidden: virtual environments, repositories, temporary files."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = (Path(parent, name) for name in names if not name.startswith("."))
        yield from (f for f in files if f.is_file())


def shown(path: Path) -> str:
    """`path` as text that can be written anywhere, even where its name isn't UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")
