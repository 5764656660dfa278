"""Outputs that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from router_ml.errors import RouterError

__all__ = ["replacing"]


@contextmanager
def replacing(out: Path, error: type[RouterError] = RouterError) -> Iterator[Path]:
    """A temporary name beside `out` that takes its place at the end, if all went well; an OSError becomes an `error`."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(out)
    except OSError as exc:
        raise error(f"{out} can't be written: {exc.strerror or exc}.") from exc
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
