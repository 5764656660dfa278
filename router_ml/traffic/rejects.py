"""Where rejected rows are written, and how: a CSV beside the output that no spreadsheet runs anything of."""

from __future__ import annotations

from pathlib import Path

__all__ = ["harmless", "rejects_path"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Starts that a spreadsheet takes for a formula (https://owasp.org/www-community/attacks/CSV_Injection)."""


def rejects_path(out: Path) -> Path:
    """Where the rejects of a table stand: ``<name>.rejects.csv`` beside it."""
    return out.with_name(f"{out.stem}.rejects.csv")


def harmless(cell: str) -> str:
    """`cell`, led by an apostrophe where a spreadsheet would run it."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
