"""Opening logs: what is found, packed or not, and what is refused."""

from __future__ import annotations

import gzip
import os
import pickle
from collections import deque
from pathlib import Path

import pyarrow as pa
import pytest

from router_ml.errors import TrafficError
from router_ml.importers.files import find_logs, open_log

TEXT = b'{"prompt": "p"}\n' * 1000


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def content(path: Path) -> bytes:
    with open_log(path, lambda n: None) as stream:
        return stream.read()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_logs_are_unpacked_by_what_they_hold_not_by_their_name(tmp_path: Path, pack: object) -> None:
    assert content(write(tmp_path / "log.jsonl", pack(TEXT))) == TEXT  # type: ignore[operator]


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_packed_parts_in_a_row_are_one_log(tmp_path: Path, pack: object) -> None:
    assert content(write(tmp_path / "log", pack(TEXT) + pack(TEXT))) == TEXT * 2  # type: ignore[operator]


def test_bytes_are_counted_as_they_lie_on_disk(tmp_path: Path) -> None:
    path, counts = write(tmp_path / "log", gzip.compress(TEXT)), []
    with open_log(path, counts.append) as stream:
        stream.read()

    assert sum(counts) == path.stat().st_size


def test_damaged_archive_is_our_error(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(os.urandom(10_000)))
    data[5000:5010] = b"0123456789"

    with pytest.raises(TrafficError, match="can't be unpacked further"):
        content(write(tmp_path / "log", bytes(data)))


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_archive_cut_short_is_our_error(tmp_path: Path, pack: object) -> None:
    with pytest.raises(TrafficError, match="can't be unpacked further"):
        content(write(tmp_path / "log", pack(os.urandom(10_000))[:-100]))  # type: ignore[operator]


def test_bomb_is_stopped(tmp_path: Path) -> None:
    bomb = write(tmp_path / "log", zstd(bytes(1 << 29)))
    with open_log(bomb, lambda n: None) as stream, pytest.raises(TrafficError, match="expands more than 500-fold"):
        deque(iter(lambda: stream.read(1 << 20), b""), maxlen=0)


def test_zstd_window_that_would_take_gigabytes_is_refused(tmp_path: Path) -> None:
    header_asking_for_a_gibibyte = bytes([0x28, 0xB5, 0x2F, 0xFD, 0x00, (30 - 10) << 3])
    data = header_asking_for_a_gibibyte + b"\x01\x00\x00"

    with pytest.raises(TrafficError, match="can't be unpacked further"):
        content(write(tmp_path / "log", data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pickle.dumps({"prompt": "p"}), "is a pickle, which may run code"),
        ("prompt,model\n".encode("utf-16"), "is UTF-16; convert it"),
        (b"PK\x03\x04rest", "is a zip archive; unpack it"),
    ],
)
def test_kinds_that_are_not_read_are_named(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(TrafficError, match=reason):
        content(write(tmp_path / "log", data))


def test_folder_gives_logs_packed_or_not_in_order(tmp_path: Path) -> None:
    names = ("a.jsonl", "b.JSONL.gz", "c.csv.zst", "deep/d.parquet")
    for name in (*names, "notes.md", ".hidden.jsonl", "e.gz"):
        write(tmp_path / name, b"")

    assert find_logs([tmp_path]) == [tmp_path / name for name in names]


def test_file_named_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b"")

    assert find_logs([path, tmp_path, tmp_path / "*.jsonl"]) == [path]


@pytest.mark.parametrize(
    ("name", "says"), [("absent.jsonl", "no such file"), ("absent*", "no such file"), (".", "holds no file")]
)
def test_path_that_names_no_log_is_an_error(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(TrafficError, match=says):
        find_logs([tmp_path / name])


def test_no_path_at_all_is_an_error() -> None:
    with pytest.raises(TrafficError, match="No traffic file was given"):
        find_logs([])


def test_pipe_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(TrafficError, match="is no regular file"):
        find_logs([tmp_path / "pipe"])
