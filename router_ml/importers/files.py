"""Opening logs: files, folders and globs, gzip and zstd as they are, told by their content and never by their name."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from router_ml.errors import MissingExtraError, TrafficError
from router_ml.traffic.sources import find_sources, shown

__all__ = ["PACKED", "PARQUET", "SUFFIXES", "find_logs", "open_log"]

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".log", ".txt")
PACKED = (".gz", ".zst", ".zstd")
"""A folder's files are taken that end so, packed or not; a file that is named itself may be called anything."""

PARQUET = b"PAR1"
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_ZIP = b"PK\x03\x04"
_PICKLE = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))

_BUFFER = 1 << 20
_MAX_RATIO = 500
_ALWAYS_FINE = 1 << 28
"""Packed logs expand some 5 to 50-fold. One that expands more than 500-fold, past 256 MiB, is no log but a bomb."""


def find_logs(paths: Iterable[str | Path]) -> list[Path]:
    """The logs that the paths name; see :func:`router_ml.traffic.sources.find_sources`."""
    return find_sources(paths, wanted=_is_log, endings=f"{', '.join(SUFFIXES)} (or these packed)")


def _is_log(path: Path) -> bool:
    name = path.name.lower()
    for suffix in PACKED:
        name = name.removesuffix(suffix)
    return name.endswith(SUFFIXES)


@contextmanager
def open_log(path: Path, on_bytes: Callable[[int], None]) -> Iterator[io.BufferedReader[Any]]:
    """Open a log, unpacked, as a stream of bytes; `on_bytes` gets the count of bytes taken off the disk.

    Raises
    ------
    TrafficError
        If it can't be opened or (while it is read) unpacked, or is of a kind that isn't read.
    """
    try:
        with path.open("rb") as raw:
            head = raw.read(4)
            raw.seek(0)
            _refuse(path, head)
            counted = _Counted(raw, on_bytes)
            plain = io.BufferedReader(counted, _BUFFER)
            if head.startswith(_GZIP):
                yield io.BufferedReader(_Unpacked(gzip.GzipFile(fileobj=plain), counted, path), _BUFFER)
            elif head == _ZSTD:
                yield io.BufferedReader(_Unpacked(_zstd(plain), counted, path), _BUFFER)
            else:
                yield plain
    except OSError as exc:
        raise TrafficError(f"{shown(path)} can't be read: {exc}") from exc


def _refuse(path: Path, head: bytes) -> None:
    if head.startswith(_UTF_16):
        raise TrafficError(f"{shown(path)} is UTF-16; convert it to UTF-8.")
    if head == _ZIP:
        raise TrafficError(f"{shown(path)} is a zip archive; unpack it, and give what was in it.")
    if head.startswith(_PICKLE):
        raise TrafficError(
            f"{shown(path)} is a pickle, which may run code when it is read; convert it to Parquet or CSV where you trust it."
        )


def _zstd(stream: BinaryIO) -> Any:
    try:
        import pyarrow as pa
    except ImportError as exc:
        raise MissingExtraError("train", "Reading zstd") from exc
    # Unlike the package zstandard, Arrow tells a stream that was cut short. It refuses windows of more than 128 MiB, as zstd does.
    return pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")


class _Counted(io.RawIOBase):
    """A file that counts what is read of it."""

    def __init__(self, raw: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self._raw, self._on_bytes, self.n_read = raw, on_bytes, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        n: int = self._raw.readinto(buffer)  # type: ignore[attr-defined]
        self.n_read += n
        self._on_bytes(n)
        return n


class _Unpacked(io.RawIOBase):
    """A packed stream whose damage is our error, and that stops a bomb."""

    def __init__(self, stream: Any, packed: _Counted, path: Path) -> None:
        self._stream, self._packed, self._path, self._n_out = stream, packed, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            data = self._stream.read(len(buffer))
        except (OSError, ValueError, EOFError, zlib.error) as exc:
            raise TrafficError(f"{shown(self._path)} can't be unpacked further: {exc}") from exc
        self._n_out += len(data)
        if self._n_out > max(_ALWAYS_FINE, _MAX_RATIO * self._packed.n_read):
            raise TrafficError(
                f"{shown(self._path)} expands more than {_MAX_RATIO}-fold, so it is no log; unpack it yourself if it is."
            )
        buffer[: len(data)] = data
        return len(data)
