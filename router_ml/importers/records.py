"""Records from files, one by one: JSON lines, JSON documents, CSV and Parquet; memory doesn't grow with a file's size.

What can't be read becomes a `Found` with its problem, and reading goes on behind it where the file still makes sense. A record that is
longer than `MAX_RECORD_BYTES` is passed over without being held.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from router_ml.errors import MissingExtraError, TrafficError
from router_ml.importers.base import Found
from router_ml.importers.fields import decode
from router_ml.importers.files import PACKED, PARQUET, open_log
from router_ml.traffic.sources import shown

__all__ = ["MAX_RECORD_BYTES", "read_logs"]

MAX_RECORD_BYTES = 1 << 24
"""The longest record that is read, 16 MiB: a conversation with some images in it. Parsed, hostile JSON takes some 30 times as much."""

_MAX_DEPTH = 500
"""Brackets open at once in a JSON document, give or take a chunk; parsers of JSON lines stop at about 1,000 by themselves."""
_CHUNK, _PIECE, _MANY = 1 << 16, 1 << 10, 1 << 12
"""ijson gets 64 KiB at once, but 1 KiB where more than 4,096 brackets open in them: its time grows with the square of a string's count of
chunks, and with that of the depth, which is looked at between chunks."""
_PARQUET_ROWS = 256
_BOM = b"\xef\xbb\xbf"

Bytes = Callable[[int], None]


def read_logs(paths: Sequence[Path], on_bytes: Bytes, *, lists: Sequence[str] = ()) -> Iterator[Found]:
    """Read the records of log files.

    Parameters
    ----------
    paths : sequence of Path
    on_bytes : callable
        Gets the count of bytes taken off the disk, as reading goes on.
    lists : sequence of str
        Keys under which a JSON document (as against JSON lines) may hold its list of records.

    Yields
    ------
    Found
        In order. A file that can't be read on ends with one that has a problem.
    """
    for path in paths:
        last = 0
        try:
            for found in _read(path, on_bytes, lists):
                last = found.row
                yield found
        except TrafficError as exc:
            yield Found(shown(path), last + 1, None, f"the file can't be read from here on: {exc}")


def _read(path: Path, on_bytes: Bytes, lists: Sequence[str]) -> Iterator[Found]:
    with open_log(path, lambda _: None) as stream:
        head = stream.peek(4)[:4]
        start = stream.peek(1)[:4096].removeprefix(_BOM).lstrip()[:1]
    if head == PARQUET:
        yield from _read_parquet(path, on_bytes)
        return
    if _is_csv(path, start):
        with open_log(path, on_bytes) as stream:
            yield from _read_csv(path, stream)
        return
    prefix = _document_prefix(path, start, lists)
    with open_log(path, on_bytes) as stream:
        yield from _read_lines(path, stream) if prefix is None else _read_document(path, stream, prefix)


def _is_csv(path: Path, start: bytes) -> bool:
    suffixes = [s.lower() for s in path.suffixes if s.lower() not in PACKED]
    if suffixes and suffixes[-1] in (".csv", ".tsv"):
        return True
    return start not in (b"{", b"[", b"") and not (suffixes and suffixes[-1] in (".jsonl", ".ndjson", ".json"))


# ------------------------------------------------------------------------------------------------------------------ JSON


def _lines(stream: io.BufferedReader[Any]) -> Iterator[bytes | None]:
    """Lines; None for one that is too long, of which no more than the limit is held."""
    while line := stream.readline(MAX_RECORD_BYTES + 1):
        if len(line) <= MAX_RECORD_BYTES or line.endswith(b"\n"):
            yield line
            continue
        del line
        while (rest := stream.readline(1 << 16)) and not rest.endswith(b"\n"):
            pass
        yield None


def _read_lines(path: Path, stream: io.BufferedReader[Any]) -> Iterator[Found]:
    file = shown(path)
    for row, line in enumerate(_lines(stream), start=1):
        if line is None:
            yield Found(file, row, None, f"longer than {MAX_RECORD_BYTES:,} bytes")
            continue
        line = line.removeprefix(_BOM).strip() if row == 1 else line.strip()
        if not line:
            continue
        try:
            value = decode(line)
        except TrafficError as exc:
            yield Found(file, row, None, str(exc))
            continue
        yield from (_found(file, row, v) for v in (value if isinstance(value, list) else [value]))


def _found(file: str, row: int, value: Any) -> Found:
    if isinstance(value, Mapping):
        return Found(file, row, value)
    return Found(file, row, None, f"got {type(value).__name__}, needed an object")


def _document_prefix(path: Path, start: bytes, lists: Sequence[str]) -> str | None:
    """Where a JSON document's records stand, as ijson writes it; None for JSON lines.

    Where the first line alone is JSON, or no record can be read as of a document, the file is one of JSON lines.
    """
    with open_log(path, lambda _: None) as stream:
        line = next((n for n in _lines(stream) if n is None or n.removeprefix(_BOM).strip()), b"")
    if line is not None and (not line or _decodes(line.removeprefix(_BOM))):
        return None
    candidates = {b"[": ["item"], b"{": [*(f"{key}.item" for key in lists), *([] if line is None else [""])]}
    return next((c for c in candidates.get(start, []) if _starts_with_record(path, c)), None)


def _decodes(line: bytes) -> bool:
    try:
        decode(line)
    except TrafficError:
        return False
    return True


def _starts_with_record(path: Path, prefix: str) -> bool:
    with open_log(path, lambda _: None) as stream:
        found = next(_read_document(path, stream, prefix), None)
    return found is not None and found.value is not None


def _read_document(path: Path, stream: io.BufferedReader[Any], prefix: str) -> Iterator[Found]:
    try:
        import ijson
    except ImportError as exc:
        raise MissingExtraError("train", "Reading JSON documents (as against JSON lines)") from exc
    file, row = shown(path), 0
    bounded = _BoundedDocument(stream)
    items = ijson.items(bounded, prefix, use_float=True, multiple_values=True, buf_size=_CHUNK)
    while True:
        row += 1
        try:
            value = next(items)
        except StopIteration:
            return
        except TrafficError as exc:
            problem = str(exc)
        except (ijson.JSONError, ValueError, OverflowError, RecursionError) as exc:
            problem = f"not usable JSON from here on: {exc!s:.200}"
        else:
            bounded.next_record()
            yield _found(file, row, value)
            continue
        yield Found(file, row, None, problem)
        return


class _BoundedDocument:
    """A stream that refuses to go on where one record takes too much of it, or nests too deep."""

    def __init__(self, stream: io.BufferedReader[Any]) -> None:
        self._stream, self._n, self._depth = stream, 0, 0
        # ijson takes a byte order mark for an error.
        if stream.peek(3).startswith(_BOM):
            stream.read(3)

    def next_record(self) -> None:
        self._n = self._depth = 0

    def read(self, size: int = -1) -> bytes:
        # What is at hand already is parsed before more of a record that is too much is asked for.
        if self._n > MAX_RECORD_BYTES:
            raise TrafficError(f"longer than {MAX_RECORD_BYTES:,} bytes, or not a list of records")
        if self._depth > _MAX_DEPTH:
            raise TrafficError(f"nested deeper than {_MAX_DEPTH:,} brackets")
        ahead = self._stream.peek(1)[:size]
        data = self._stream.read1(_PIECE if _n_opened(ahead) > _MANY else size)
        self._n += len(data)
        # Brackets within strings are counted too; hundreds more opened than closed are no text either.
        self._depth += _n_opened(data) - data.count(b"]") - data.count(b"}")
        return data


def _n_opened(data: bytes) -> int:
    return data.count(b"[") + data.count(b"{")


# ------------------------------------------------------------------------------------------------------------------- CSV


class _CsvLines:
    """Lines for the csv module, with their number, that stop a record (quotes that never close) from growing without bound."""

    def __init__(self, stream: io.BufferedReader[Any]) -> None:
        self._lines, self.row, self.n_bytes = _lines(stream), 0, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.row += 1
        self.n_bytes += 0 if line is None else len(line)
        if line is None or self.n_bytes > MAX_RECORD_BYTES:
            raise TrafficError(f"longer than {MAX_RECORD_BYTES:,} bytes")
        # What isn't UTF-8 stays a lone surrogate, and its row is rejected for it.
        text = line.decode(errors="surrogateescape")
        return text.removeprefix("\ufeff") if self.row == 1 else text


def _read_csv(path: Path, stream: io.BufferedReader[Any]) -> Iterator[Found]:
    file, lines = shown(path), _CsvLines(stream)
    start = stream.peek(1)[:4096].split(b"\n")[0]
    delimiter = max(",\t;", key=lambda c: start.count(c.encode()))
    # The limit is the process's own, and of 131,072 characters; prompts are longer, and records are bounded above.
    limit = csv.field_size_limit(MAX_RECORD_BYTES)
    try:
        reader = csv.reader(lines, delimiter=delimiter)
        try:
            header = next(reader, [])
        except csv.Error as exc:
            raise TrafficError(f"{file} has no usable CSV header: {exc}") from exc
        lines.n_bytes = 0
        while True:
            row = lines.row + 1
            try:
                values = next(reader)
            except StopIteration:
                return
            except (TrafficError, csv.Error) as exc:
                yield Found(file, row, None, f"not a usable CSV row: {exc}")
                reader = csv.reader(lines, delimiter=delimiter)
            else:
                yield from [_csv_found(file, row, header, values)] if values else []
            lines.n_bytes = 0
    finally:
        csv.field_size_limit(limit)


def _csv_found(file: str, row: int, header: list[str], values: list[str]) -> Found:
    if len(values) != len(header):
        return Found(file, row, None, f"got {len(values)} values, needed {len(header)} as in the header")
    return Found(file, row, {name: value or None for name, value in zip(header, values, strict=True)})


# --------------------------------------------------------------------------------------------------------------- Parquet


def _read_parquet(path: Path, on_bytes: Bytes) -> Iterator[Found]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, row = shown(path), 0
    try:
        with pq.ParquetFile(path) as parquet:
            size, n_rows = path.stat().st_size, max(parquet.metadata.num_rows, 1)
            for batch in parquet.iter_batches(_PARQUET_ROWS):
                columns = {name: _python_values(column) for name, column in zip(batch.schema.names, batch, strict=True)}
                for i in range(batch.num_rows):
                    yield Found(file, row + i + 1, {name: values[i] for name, values in columns.items()})
                on_bytes(size * batch.num_rows // n_rows)
                row += batch.num_rows
    except (OSError, ValueError, OverflowError, pa.ArrowException) as exc:
        raise TrafficError(f"{shown(path)} can't be read as Parquet: {exc!s:.300}") from exc


def _python_values(column: Any) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        # As text: Python has no year 10000, and no nanoseconds.
        column = column.cast(pa.timestamp("us", column.type.tz and "UTC"), safe=False).cast(pa.string())
    values: list[Any] = column.to_pylist()
    return values
