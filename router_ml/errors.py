"""The errors that router-ml raises, all under one base.

::

    RouterError
    ├── InputError (ValueError)       the caller's mistake: a value, a file or a table that can't be used
    │   ├── QueryError                a query that can't be rendered, or that no tier may take
    │   ├── LadderError               a ladder that contradicts itself, or the traffic
    │   └── TrafficError              a traffic table that can't be read, or can't be learned from
    ├── ArtifactError (ValueError)    a file that isn't a router-ml artifact, is damaged, or has another schema
    ├── ExportError                   the exported graph can't be made, or doesn't answer as the trained model does
    └── MissingExtraError (ImportError)   a feature whose optional dependencies aren't installed

Each message says what was got, what was needed and what to do.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "ArtifactError",
    "ExportError",
    "InputError",
    "LadderError",
    "MissingExtraError",
    "QueryError",
    "RouterError",
    "TrafficError",
]


class RouterError(Exception):
    """Base of every error of this package."""


class InputError(RouterError, ValueError):
    """A value, a file or a table given by the caller can't be used."""


class QueryError(InputError):
    """A query can't be rendered to text, or no tier may take it."""


class LadderError(InputError):
    """A ladder contradicts itself, or doesn't fit the traffic."""


class TrafficError(InputError):
    """A traffic table can't be read, or can't be learned from."""


class NotATableError(TrafficError):
    """A file is no traffic table; `path` says which, for whoever knows what else it may be."""

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


class ArtifactError(RouterError, ValueError):
    """A file isn't a router-ml artifact, is damaged, or is of another schema version."""


class ExportError(RouterError):
    """The exported graph can't be made, or doesn't answer as the trained model does."""


class MissingExtraError(RouterError, ImportError):
    """A feature's optional dependencies aren't installed.

    Parameters
    ----------
    extra : str
        The extra that brings them, e.g. ``"train"``.
    feature : str
        What was asked for.
    """

    def __init__(self, extra: str, feature: str) -> None:
        super().__init__(
            f"{feature} needs packages that aren't installed. Install them: pip install 'router-ml[{extra}]'"
        )
        self.extra = extra
