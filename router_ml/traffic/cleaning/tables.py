"""Small tables as text: aligned for a terminal, or Markdown. What they hold is untrusted, so it can't break out of its cell."""

from __future__ import annotations

import html
import re

import numpy as np
import polars as pl

__all__ = ["MAX_ROWS", "aligned", "markdown"]

MAX_ROWS = 20
"""Rows that are shown of a table; the rest are counted."""

_MAX_CHARS = 100
# Control and format characters: line breaks, a terminal's escape sequences, reversed writing.
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069]+")


def aligned(table: pl.DataFrame, *, header: bool = True) -> str:
    """Columns side by side, text to the left and numbers to the right, two spaces between."""
    cells = [table.columns, *_rows(table)] if header else _rows(table)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = [dtype == pl.String for dtype in table.dtypes]
    lines = [
        "  ".join(
            c.ljust(w) if to_left else c.rjust(w) for c, w, to_left in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([*lines, *_rest(table)])


def markdown(table: pl.DataFrame) -> str:
    """A table in GitHub's Markdown."""
    rule = ["---" if dtype == pl.String else "--:" for dtype in table.dtypes]
    rows = [table.columns, rule, *([_escaped(cell) for cell in row] for row in _rows(table))]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, *(f"\n{line}" for line in _rest(table))])


def _rest(table: pl.DataFrame) -> list[str]:
    return [f"… and {len(table) - MAX_ROWS:,} more"] if len(table) > MAX_ROWS else []


def _rows(table: pl.DataFrame) -> list[list[str]]:
    return [
        [_cell(value, name) for value, name in zip(row, table.columns, strict=True)]
        for row in table.head(MAX_ROWS).rows()
    ]


def _cell(value: object, column: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        if column == "share":
            return f"{100 * value:.1f} %"
        # Costs of a single call are tiny, and 0.0000813 is easier to compare than 8.13e-05.
        return (
            f"{value:,.0f}" if abs(value) >= 1000 else np.format_float_positional(value, 3, fractional=False, trim="-")
        )
    if isinstance(value, int):
        return f"{value:,}"
    text = _UNSHOWN.sub(" ", str(value)).strip()
    return text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 1] + "…"


def _escaped(cell: str) -> str:
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", html.escape(cell, quote=False))
