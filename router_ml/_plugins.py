"""Built-in parts by name, and those that other packages bring by entry points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from router_ml.errors import InputError

__all__ = ["Plugins"]

T = TypeVar("T")


class Plugins(Mapping[str, T], Generic[T]):
    """A mapping of names to parts: the built-in ones first, then those of a group of entry points, each loaded when it is asked for.

    Parameters
    ----------
    group : str
        The entry points' group, such as ``"router_ml.learners"``.
    built_in : mapping of str to part
        Their names can't be taken by an entry point.
    """

    def __init__(self, group: str, built_in: Mapping[str, T]) -> None:
        self._group = group
        self._built_in = dict(built_in)

    @cached_property
    def _found(self) -> dict[str, EntryPoint]:
        return {e.name: e for e in entry_points(group=self._group) if e.name not in self._built_in}

    def __getitem__(self, name: str) -> T:
        """Return the part of that name.

        Raises
        ------
        KeyError
            If there is none.
        InputError
            If an entry point can't be loaded.
        """
        if name in self._built_in:
            return self._built_in[name]
        entry = self._found[name]
        try:
            part: T = entry.load()
        except Exception as exc:  # whatever another package's import raises
            package = "an unknown package" if entry.dist is None else entry.dist.name
            raise InputError(
                f"The plug-in {name!r} of {package} ({self._group}: {entry.value}) can't be loaded: {exc}. Fix or uninstall the package."
            ) from exc
        return part

    def __iter__(self) -> Iterator[str]:
        yield from self._built_in
        yield from sorted(self._found)

    def __len__(self) -> int:
        return len(self._built_in) + len(self._found)
