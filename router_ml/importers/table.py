"""Any table, as CSV, Parquet or JSON lines, with a mapping of its columns to the traffic table's.

A column that isn't mapped is looked for under the traffic table's own name. Names may be dotted paths into objects. A prompt may be
text, a list of chat messages, or such a list as JSON in a string. Times are ISO 8601, 01.09.2026 00:13 (day first), seconds since 1970,
or thousandths, millionths or billionths of them; other forms are named by `ImportOptions.date_format`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from router_ml.errors import TrafficError
from router_ml.importers.base import Importer, ImportOptions, Record, Row
from router_ml.importers.fields import blank, lookup, unpacked, utc
from router_ml.traffic.schema import SCHEMA

__all__ = ["TABLE"]


def _parse(record: Record, options: ImportOptions, kept: Sequence[Record]) -> Iterable[Row]:  # noqa: ARG001
    names = {name: options.columns.get(name, name) for name in SCHEMA}
    row = {name: lookup(source, record) for name, source in names.items()}
    if lacking := [name for name in options.lacking(record) if row[name] is None]:
        raise TrafficError(
            f"{lacking[0]}: got no column {names[lacking[0]]!r}, but {[str(key)[:40] for key in list(record)[:20]]}"
        )
    feedback = row["quality"] if options.quality_from is None else lookup(options.quality_from, record)
    return (
        {
            **row,
            "prompt": _messages(row["prompt"]),
            "created_at": _time(row["created_at"], options.date_format),
            "quality": options.scale.quality(feedback),
        },
    )


def _time(value: Any, form: str | None) -> str | None:
    if form is None or blank(value):
        return utc(value)
    try:
        return datetime.strptime(str(value).strip(), form).isoformat()
    except ValueError:
        raise TrafficError(
            f"created_at: got {reprlib.repr(value)}, needed the form {form!r}, as the date format says"
        ) from None


def _messages(prompt: Any) -> Any:
    found = unpacked(prompt)
    is_chat = isinstance(found, list) and found and all(isinstance(m, Mapping) and "role" in m for m in found)
    return found if is_chat or not isinstance(prompt, str) else prompt


TABLE = Importer(
    name="table",
    summary="any CSV, Parquet or JSON lines, with a mapping of columns",
    parse=_parse,
    lists=("data", "rows"),
)
