"""Importing: any log of a known format, streamed into the traffic table, with what was left out beside it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from router_ml.errors import InputError, TrafficError
from router_ml.importers.base import Found, Importer, ImportOptions, Join, Record, SkippedError
from router_ml.importers.chat import with_extras
from router_ml.importers.files import find_logs
from router_ml.importers.glimpse import glimpse, likely_columns
from router_ml.importers.joining import KeptRecords
from router_ml.importers.records import read_logs
from router_ml.importers.registry import get_importer
from router_ml.importers.table import TABLE
from router_ml.importers.writing import TableWriter, Transform, rejects_path
from router_ml.traffic.schema import SCHEMA
from router_ml.traffic.validate import MAX_REJECTS

__all__ = ["ImportResult", "Progress", "check_options", "import_traffic"]

_PROGRESS_EVERY = 1000
_NOTES = 2
_NAMES = 40
"""Names that an error lists at most."""
_LONGEST_NAME = 40
_TOO_DEEP = "nested too deep"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is: bytes read of all (0: not known), records seen, rows written so far."""

    n_bytes: int
    total_bytes: int
    n_records: int
    n_rows: int


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import made.

    Attributes
    ----------
    out, rejects : Path
        The table, and the CSV of what was left out (None: nothing was).
    n_records : int
        Records read; one may give several rows, or none.
    n_rows, n_with_quality : int
        Rows written, and those of them whose quality is known.
    n_rejects : int
        Records and rows that can't be used.
    skipped : mapping of str to int
        Records that rightly are no rows, by reason.
    unused : tuple of str
        Columns of a table that nothing was taken from.
    """

    out: Path
    rejects: Path | None
    n_records: int
    n_rows: int
    n_with_quality: int
    n_rejects: int
    skipped: Mapping[str, int]
    unused: tuple[str, ...] = ()

    def unused_text(self) -> str:
        """What a table holds beside what was taken, and how to take it; empty where that is nothing."""
        if not self.unused:
            return ""
        how = [
            f"--quality-from {shlex.quote(theirs)}"
            if ours == "quality"
            else f"--column {shlex.quote(f'{ours}={theirs}')}"
            for ours, theirs in likely_columns(self.unused).items()
        ]
        return f"Columns not used: {', '.join(self.unused)}." + (f" To use some: {' '.join(how)}" if how else "")

    def summary(self) -> str:
        """The counts, in one line."""
        skipped = "".join(f"; {n:,} skipped: {reason}" for reason, n in self.skipped.items())
        return (
            f"{self.n_records:,} records read: {self.n_rows:,} rows written ({self.n_with_quality:,} with quality), "
            f"{self.n_rejects:,} rejected{skipped}"
        )


def import_traffic(
    format: str,  # noqa: A002
    paths: Iterable[str | Path],
    out: str | Path,
    *,
    options: ImportOptions | None = None,
    max_rejects: float = MAX_REJECTS,
    transform: Transform | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> ImportResult:
    """Import logs into a traffic table (Parquet); rejects go to ``<name>.rejects.csv`` beside it.

    Memory doesn't grow with the logs: records are read, checked and written in batches. What waits for a record of another file is kept
    in a temporary file.

    Parameters
    ----------
    format : str
        A name of `IMPORTERS`.
    paths : iterable of str or Path
        Files, folders and globs, packed with gzip or zstd or not; for a format that is read elsewhere too, its URLs.
    out : str or Path
        The Parquet file; it appears when all went well.
    options : ImportOptions, optional
    max_rejects : float
        Largest share of rejects that is accepted, in [0, 1]; skipped records don't count.
    transform : callable, optional
        Applied to each batch of rows before it is written: redaction, say.
    on_progress : callable, optional

    Raises
    ------
    TrafficError
        If nothing usable was found, or too much was rejected; the rejects are written then, the table isn't. If no record has a column or a
        feedback that the options name; nothing is written then.
    InputError
        If there is no such format, it has no columns to map, or the output is one of the logs or can't be written.

    Notes
    -----
    Duplicates stay, since they can only be told with all rows at hand; reading the table drops or averages them.
    """
    importer, options, out = get_importer(format), options or ImportOptions(), Path(out)
    check_options(importer, options)
    given = [*paths]
    urls = [str(p) for p in given if importer.read and "://" in str(p)]
    local = [p for p in given if str(p) not in urls]
    files = find_logs(local) if local or not urls else []
    _refuse_overwriting(out, files)
    try:
        with TableWriter(out, transform=transform) as table:
            run = _Run(importer, options, files, urls, table, on_progress)
            run.go()
            table.flush()
            problem = _too_much_left_out(run, max_rejects)
            if problem is None and run.never_seen:
                raise TrafficError(_says_what_there_is(run))
            rejects = table.commit(table=problem is None)
    except OSError as exc:  # the logs' own are TrafficErrors by now
        raise InputError(f"{out} can't be written: {exc}") from exc
    if problem is not None:
        listed = f" All are listed in {rejects}." if rejects else ""
        raise TrafficError(f"{problem}{listed} {_what_to_do(run)}")
    return ImportResult(
        out,
        rejects,
        run.n_records,
        table.n_rows,
        table.n_with_quality,
        table.n_rejects,
        dict(table.skipped),
        tuple(run.unused),
    )


def check_options(importer: Importer, options: ImportOptions) -> None:
    """Refuse options that the format has no use for; raises InputError."""
    if importer.name == TABLE.name:
        return
    if options.columns:
        raise InputError(
            f"The format {importer.name!r} has no columns to map; {sorted(options.columns)} can be mapped for 'table' only."
        )
    if options.date_format is not None:
        raise InputError(
            f"The format {importer.name!r} has its own form of dates; the date format is for 'table' only."
        )


def _refuse_overwriting(out: Path, logs: Sequence[Path]) -> None:
    written = {out.resolve(), rejects_path(out).resolve()}
    clash = next((p for p in logs if p.resolve() in written), None)
    if clash is not None:
        raise InputError(f"{clash} is among the logs and would be overwritten; write to another folder.")


def _too_much_left_out(run: _Run, max_rejects: float) -> str | None:
    table = run.table
    if table.first_reject is not None and table.n_rejects > max_rejects * (table.n_rows + table.n_rejects):
        file, at, reason = table.first_reject
        what = (
            "None of the records can be used"
            if table.n_rows == 0
            else f"{table.n_rejects:,} records or rows can't be used, and {table.n_rows:,} can"
        )
        return f"{what}; the first is {file}, row {at}: {reason.rstrip('?.')}."
    if table.n_rows == 0:
        skipped = "; ".join(f"{n:,} x {reason}" for reason, n in table.skipped.items())
        found = f"No row was found in {run.n_records:,} records of format {run.importer.name!r}"
        return f"{found}{f' (skipped: {skipped})' if skipped else ''}."
    return None


def _what_to_do(run: _Run) -> str:
    """The command that reads the log, where another one does; else what to look at."""
    name, table = run.importer.name, run.table
    seen = glimpse(run.files[0]) if run.files else None
    if seen is not None and seen.format is not None and seen.format.name != name:
        return seen.next_step()
    if table.n_rows:
        return f"Is the format {name!r}? If so, accept that share of rejects with --max-rejects."
    if name != TABLE.name:
        return f"Is the format {name!r}? 'router-ml ingest --help' lists them all."
    if seen is not None and run.options.lacking(seen.columns):
        return seen.next_step(run.options.columns)
    return "Correct the table or the options as that reason says."


def _says_what_there_is(run: _Run) -> str:
    options, given = run.options, sorted(run.never_seen)
    columns = [f"--column {ours}={theirs}" for ours, theirs in options.columns.items() if theirs in given]
    asked = [*columns, *([f"--quality-from {options.quality_from}"] if options.quality_from in given else [])]
    found = [name[:_LONGEST_NAME] for name in run.names]
    return f"No record holds what {', '.join(asked)} names; there is {found or 'nothing that it could be'}. Nothing was written."


class _Run:
    """One import under way."""

    def __init__(
        self,
        importer: Importer,
        options: ImportOptions,
        files: Sequence[Path],
        urls: Sequence[str],
        table: TableWriter,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.importer, self.options, self.table, self.n_records = importer, options, table, 0
        self.files, self._urls, self._on_progress, self._n_bytes = files, urls, on_progress, 0
        asked = [*options.columns.values(), options.quality_from]
        self.never_seen = {name for name in asked if name is not None}
        self.names: dict[str, None] = {}
        self.unused: dict[str, None] = {}
        taken = [*(options.columns.get(name, name) for name in SCHEMA), options.quality_from or ""]
        self._used = {name for given in taken for name in (given, given.split(".")[0])}
        passes = 2 if importer.join else 1
        self._total = 0 if urls else passes * sum(p.stat().st_size for p in files)

    def go(self) -> None:
        join = self.importer.join
        with ExitStack() as opened:
            kept = opened.enter_context(KeptRecords()) if join else None
            if kept is not None:
                # Problems are reported by the second pass, which meets them again.
                for n, found in enumerate(self._records(), start=1):
                    self._keep(found, kept)
                    if n % _PROGRESS_EVERY == 0:
                        self._report()
            for found in self._records():
                self.n_records += 1
                self._take(found, kept)
                if self.n_records % _PROGRESS_EVERY == 0:
                    self._report()
            if join is not None and kept is not None and join.unused is not None:
                for file, at in kept.unused():
                    self.table.skip(file, at, join.unused)
        self._report()

    def _records(self) -> Iterator[Found]:
        found = read_logs(self.files, self._count, lists=self.importer.lists)
        read = self.importer.read
        for record in chain(found, *([read(self._urls)] if read and self._urls else [])):
            if record.value is None:
                yield record
            else:
                yield from (record._replace(value=value) for value in self.importer.unpack(record.value))

    def _keep(self, found: Found, kept: KeptRecords) -> None:
        join = self.importer.join
        if found.value is None or join is None:
            return
        try:
            keys_and_record = join.keep(found.value)
            if keys_and_record is not None:
                kept.add(*keys_and_record, file=found.file, row=found.row)
            elif join.note is not None and (keys_and_note := join.note(found.value)) is not None:
                kept.add(*keys_and_note, file=found.file, row=found.row, at_most=_NOTES)
        except InputError as exc:
            self.table.reject(found.file, found.row, str(exc))
        except RecursionError:
            self.table.reject(found.file, found.row, _TOO_DEEP)

    def _take(self, found: Found, kept: KeptRecords | None) -> None:
        if found.value is None:
            self.table.reject(found.file, found.row, found.problem or "got nothing")
            return
        if self.never_seen:
            self._look_for_names(found.value)
        if self.importer.name == TABLE.name and len(self.unused) < _NAMES:
            self.unused.update(
                dict.fromkeys(str(name)[:_LONGEST_NAME] for name in found.value if name not in self._used)
            )
        join = self.importer.join
        try:
            if join is None or kept is None:
                rows = self.importer.parse(found.value, self.options, ())
            elif _is_kept(join, found.value):
                return
            else:
                rows = self.importer.parse(found.value, self.options, kept.get(join.keys(found.value)))
            for row in rows:
                row = with_extras(row, self.options.defaults, list(self.options.defaults))
                self.table.add(row, file=found.file, at=found.row)
                if row.get("quality") is not None and "response" in row:  # a failed call has a quality without feedback
                    self.never_seen.discard(str(self.options.quality_from))
        except SkippedError as exc:
            self.table.skip(found.file, found.row, str(exc))
        except InputError as exc:
            self.table.reject(found.file, found.row, str(exc))
        except RecursionError:
            self.table.reject(found.file, found.row, _TOO_DEEP)

    def _look_for_names(self, record: Record) -> None:
        with suppress(InputError, RecursionError):  # that are met again where the record is parsed
            here = {name for name in self.importer.names(record) if isinstance(name, str)}
            # Of a dotted name its first part will do: an object may lack a key here and there.
            self.never_seen = {name for name in self.never_seen if here.isdisjoint((name, name.split(".")[0]))}
            for name in sorted(here)[: _NAMES - len(self.names)]:
                self.names[name] = None

    def _count(self, n_bytes: int) -> None:
        self._n_bytes += n_bytes

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(Progress(self._n_bytes, self._total, self.n_records, self.table.n_rows))


def _is_kept(join: Join, record: Record) -> bool:
    try:
        return join.keep(record) is not None
    except (InputError, RecursionError):
        return True  # rejected in the first pass
