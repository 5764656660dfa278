"""What an importer is: a name, and a pure function from one record of a log to rows of the traffic table."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from router_ml.errors import InputError, TrafficError
from router_ml.importers.feedback import Scale
from router_ml.importers.fields import mapping
from router_ml.traffic.schema import REQUIRED, SCHEMA

__all__ = [
    "Found",
    "ImportOptions",
    "Importer",
    "Join",
    "Reader",
    "Record",
    "Row",
    "SkippedError",
    "has_all_of",
    "names_in",
]

Record = Mapping[str, Any]
"""One parsed record of a log: a JSON object, or a row of a CSV or Parquet file by column name."""

Row = Mapping[str, Any]
"""One row of the traffic table: values by column name, loosely typed ("12" is a whole number, a list of chat messages a prompt);
columns that are left out are null. Casting and the checks of ranges are the writer's."""


class SkippedError(TrafficError):
    """A record that rightly is no row: a failed call, an embedding. It is reported, but isn't held against the log."""


class Found(NamedTuple):
    """A record and where it stood (`row` is 1-based: a line, or an item of a JSON list); `problem` says why there is no value."""

    file: str
    row: int
    value: Record | None
    problem: str | None = None


Reader = Callable[[Sequence[str]], Iterator[Found]]
"""Reads records from the URLs that the user named; their passwords are in no `Found` and no error."""


def _holds_a_date(form: str) -> bool:
    day = datetime(2026, 11, 30)
    try:
        return datetime.strptime(day.strftime(form), form).date() == day.date()
    except (ValueError, re.error):
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What the user may say of a log.

    Parameters
    ----------
    quality_from : str or None
        Name (or dotted path) of the feedback that becomes ``quality``; None: what the format itself calls quality, if anything.
    scale : Scale
        How that feedback maps to [0, 1].
    keep_failed : bool
        Whether a call that failed becomes a row of quality 0 (it did not answer the prompt) rather than being skipped.
    model_from : {"response", "request"}
        Whether ``model`` is the model that answered (``gpt-4.1-nano-2025-04-14``) or the one asked for (``gpt-4.1-nano``).
    columns : mapping
        For ``table``: names of the source's columns by the traffic table's (``{"prompt": "question"}``).
    date_format : str or None
        For ``table``: the form of ``created_at``, as `datetime.strptime` takes it (``"%m/%d/%Y %H:%M"``); a time without an offset is UTC.
    defaults : mapping
        Values of columns where the log has none (``{"model": "gpt-4.1"}`` for a log of one model that doesn't say so).
    """

    quality_from: str | None = None
    scale: Scale = field(default_factory=Scale)
    keep_failed: bool = False
    model_from: str = "response"
    columns: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    date_format: str | None = None

    def __post_init__(self) -> None:
        if self.date_format is not None and not _holds_a_date(self.date_format):
            raise InputError(
                f"The date format is {self.date_format!r}; it needs day, month and year in the letters of Python's strptime, such as "
                "'%m/%d/%Y %H:%M'."
            )
        if self.model_from not in ("response", "request"):
            raise InputError(f"model_from is {self.model_from!r}; choose 'response' or 'request'.")
        unknown = sorted({*self.columns, *self.defaults} - set(SCHEMA))
        if unknown:
            raise InputError(f"The traffic table has no column {unknown}; it has {list(SCHEMA)}.")

    def lacking(self, names: Container[str]) -> list[str]:
        """The required columns that neither `names`, by the mapping, nor the defaults have."""
        return [c for c in REQUIRED if c not in self.defaults and self.columns.get(c, c) not in names]


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """How records of several files belong together.

    Records that `keep` takes are put aside on disk; all others are parsed, with those kept under their keys beside them.

    Parameters
    ----------
    keep : callable
        ``record -> (keys, what to keep of it)``, or None for a record that is to be parsed. Keep only what `parse` needs.
    keys : callable
        ``record -> keys`` under which a record that is parsed looks for others.
    unused : str or None
        Why a kept record that no other one asked for is no row; None: it need not be one.
    note : callable or None
        ``record -> (keys, note)``, or None: a note of a record that is parsed, kept for it and for others. No more than two are kept under a
        key: enough to tell whether a record is the only one of its trace, and few enough for a trace of any size.
    """

    keep: Callable[[Record], tuple[Sequence[str], Record] | None]
    keys: Callable[[Record], Sequence[str]]
    unused: str | None = None
    note: Callable[[Record], tuple[Sequence[str], Record] | None] | None = None


def _itself(record: Record) -> Iterable[Record]:
    return (record,)


def _unknown(record: Record) -> bool:  # noqa: ARG001
    return False


def has_all_of(*sets: Sequence[str]) -> Callable[[Record], bool]:
    """A function that says whether a record has all the keys of one of the sets, and a value under each."""
    return lambda record: any(all(record.get(key) is not None for key in keys) for keys in sets)


def names_in(record: Record) -> Iterable[str]:
    """Names of a record's fields, and of its metadata's, its bodies' too."""
    yield from record
    for inner in (record, *(mapping(record.get(key)) for key in ("request", "response", "body"))):
        yield from mapping(inner.get("metadata"))
        yield from mapping(mapping(inner.get("body")).get("metadata"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """A format of logs.

    Parameters
    ----------
    name, summary : str
        What the user types, and one line on what it reads.
    parse : callable
        ``(record, options, kept) -> rows``, pure. `kept` holds the records joined to this one (see `Join`). Raises SkippedError for a
        record that rightly is no row, another InputError for one that can't be used; no other exception whatever the record holds.
    unpack : callable
        ``record -> records``: takes an envelope apart (a page of a list, a batch of spans), so that a bad record costs only itself.
    lists : tuple of str
        Keys of a JSON document under which its list of records stands, for documents too large to be read at once.
    join : Join or None
    names : callable
        ``record -> names``: what `quality_from` might mean, and for tables the columns; for the error that says that nothing has the name given.
    knows : callable
        ``record -> bool``: whether a record is of this format, by keys that no other format's records have.
    read : Reader or None
        For logs that stand in a database or on a server, by URL; files (JSON lines, JSON documents, CSV, Parquet) are read without it.
    """

    name: str
    summary: str
    parse: Callable[[Record, ImportOptions, Sequence[Record]], Iterable[Row]]
    unpack: Callable[[Record], Iterable[Record]] = _itself
    lists: tuple[str, ...] = ()
    join: Join | None = None
    names: Callable[[Record], Iterable[str]] = names_in
    knows: Callable[[Record], bool] = _unknown
    read: Reader | None = None
