"""A look at the first records of a file: its columns, the format that they look like, and the command that imports it."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from router_ml.errors import NotATableError, RouterError, TrafficError
from router_ml.importers.base import Importer, Record
from router_ml.importers.records import read_logs
from router_ml.importers.registry import IMPORTERS
from router_ml.importers.table import TABLE
from router_ml.traffic.schema import REQUIRED, SCHEMA

__all__ = ["Glimpse", "glimpse", "import_hints", "likely_columns"]

_N_RECORDS = 20
_N_COLUMNS = 40
_LONGEST_NAME = 60
_MAPPED = (*REQUIRED, "response")
"""Columns whose mapping a command proposes; the others are worth a look at what they hold."""

_LIKELY = {
    "prompt": "question input query user_prompt user_input user_query user_message instruction request messages text",
    "model": "model_name model_id llm_model llm engine model_used deployment",
    "response": "answer output completion reply generation response_text model_output bot_response assistant_message",
    "quality": "score rating thumbs feedback grade thumb stars is_correct correct label",
    "cost_usd": "cost total_cost price spend usd",
    "input_tokens": "prompt_tokens tokens_in n_input_tokens",
    "output_tokens": "completion_tokens tokens_out n_output_tokens",
    "created_at": "timestamp ts time date datetime created created_time",
    "session_id": "session conversation_id conversation thread_id chat_id",
    "category": "topic intent task task_type",
}
"""What columns are called elsewhere, the likeliest name first."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What the first records of a file are like.

    Attributes
    ----------
    path : Path
    columns : tuple of str
        Names of the records' fields, in the order in which they come; empty where the file can't be read.
    format : Importer or None
        The format that most of the records look like.
    """

    path: Path
    columns: tuple[str, ...]
    format: Importer | None

    def columns_text(self) -> str:
        """The columns in one line."""
        names = [name[:_LONGEST_NAME] for name in self.columns[:_N_COLUMNS]]
        more = len(self.columns) - len(names)
        return f"{names}{f' and {more:,} more' if more else ''}"

    def next_step(self, columns: Mapping[str, str] | None = None) -> str:
        """Say in a sentence, with the command, how to make a traffic table of the file; `columns` are mapped already."""
        if self.format is not None:
            return (
                f"It looks like a log of the format {self.format.name!r}. Import it first: {self._command(self.format)}"
            )
        mapped = {**(columns or {})}
        likely = likely_columns(self.columns, mapped)
        mapped |= {ours: theirs for ours, theirs in likely.items() if ours in _MAPPED}
        options = [_option("--column", *pair) for pair in mapped.items()]
        lacking = [name for name in REQUIRED if name not in mapped and name not in self.columns]
        # A log of one model may well say nowhere which.
        options += [_option("--default" if name == "model" else "--column", name, "NAME") for name in lacking]
        return f"{'Map its columns' if options else 'Import it first'}: {self._command(TABLE, options)}"

    def _command(self, importer: Importer, options: Sequence[str] = ()) -> str:
        return " ".join(
            ["router-ml ingest", importer.name, shlex.quote(str(self.path)), *options, "--out traffic.parquet"]
        )


def _option(option: str, ours: str, theirs: str) -> str:
    return f"{option} {shlex.quote(f'{ours}={theirs}')}"


def glimpse(path: str | Path) -> Glimpse:
    """Look at the first records of a file; whatever it holds, nothing is raised."""
    path, columns, formats = Path(path), dict[str, None](), Counter[str]()
    lists = tuple(dict.fromkeys(key for importer in IMPORTERS.values() for key in importer.lists))
    with suppress(RouterError, OSError, ValueError, RecursionError):
        for found in islice(read_logs([path], lambda _: None, lists=lists), _N_RECORDS):
            if found.value is None:
                continue
            columns.update(dict.fromkeys(str(name) for name in found.value))
            formats.update(name for name, importer in IMPORTERS.items() if _looks_like(importer, found.value))
    # Of two that know the same records, the later one is the more special.
    likeliest = max([*IMPORTERS][::-1], key=lambda name: formats[name])
    return Glimpse(path, tuple(columns), IMPORTERS[likeliest] if formats[likeliest] else None)


@contextmanager
def import_hints() -> Iterator[None]:
    """Add to the error about a file that is no traffic table what it holds, and the command that makes a table of it."""
    try:
        yield
    except NotATableError as exc:
        seen = glimpse(exc.path)
        if not seen.columns:
            raise
        raise TrafficError(f"{exc} It has {seen.columns_text()}. {seen.next_step()}") from exc


def _looks_like(importer: Importer, record: Record) -> bool:
    if importer.knows(record):
        return True
    with suppress(RouterError, RecursionError):
        return any(importer.knows(inner) for inner in islice(importer.unpack(record), _N_RECORDS))
    return False


def likely_columns(names: Iterable[str], used: Mapping[str, str] | None = None) -> dict[str, str]:
    """Guess which columns hold what the traffic table calls otherwise.

    Parameters
    ----------
    names : iterable of str
        The columns that there are.
    used : mapping of str to str, optional
        Names of columns that are mapped already, by the traffic table's.

    Returns
    -------
    dict of str to str
        Their names by the traffic table's; only of columns that `names` holds under another name.

    Examples
    --------
    >>> likely_columns(["question", "Model Name", "thumbs"])
    {'prompt': 'question', 'model': 'Model Name', 'quality': 'thumbs'}
    """
    used = used or {}
    left = {_plain(name): name for name in names if name not in used.values()}
    likely = {}
    for ours in SCHEMA:
        if ours in used or ours in left.values():
            continue
        found = next((n for n in (ours, *_LIKELY.get(ours, "").split()) if n in left), None)
        if found is not None:
            likely[ours] = left.pop(found)
    return likely


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip().lower()).strip("_")
