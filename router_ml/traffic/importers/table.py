"""Any table, as CSV, Parquet or JSON lines, with a mapping of its columns to the traffic table's.

A column that isn't mapped is looked for under the traffic table's own name. Names may be dotted paths into objects. A prompt may be
text, a list of chat messages, or such a list as JSON in a string. Times are ISO 8601, or seconds since 1970, or thousandths,
millionths or billionths of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from router_ml.errors import TrafficError
from router_ml.traffic.importers.base import Importer, ImportOptions, Record, Row
from router_ml.traffic.importers.fields import lookup, unpacked, utc
from router_ml.traffic.schema import REQUIRED, SCHEMA

__all__ = ["TABLE"]


def _parse(record: Record, options: ImportOptions, kept: Sequence[Record]) -> Iterable[Row]:  # noqa: ARG001
    names = {name: options.columns.get(name, name) for name in SCHEMA}
    row = {name: lookup(source, record) for name, source in names.items()}
    for name in REQUIRED:
        if row[name] is None and name not in options.defaults and names[name] not in record:
            raise TrafficError(
                f"{name}: got no column {names[name]!r}, but {[str(key)[:40] for key in list(record)[:20]]}; map one to it"
            )
    feedback = row["quality"] if options.quality_from is None else lookup(options.quality_from, record)
    return (
        {
            **row,
            "prompt": _messages(row["prompt"]),
            "created_at": utc(row["created_at"]),
            "quality": options.scale.quality(feedback),
        },
    )


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
