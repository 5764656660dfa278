"""The report of an evaluation: one self-contained HTML page, or plain text for a terminal."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Mapping

from router_ml.core.align import align
from router_ml.errors import MissingExtraError
from router_ml.evaluation.summary import Evaluation
from router_ml.evaluation.tables import Table, menu_table, tables

__all__ = ["html_report", "text_report"]

_WIDTH = 100
_TERMS = (
    "Zero router: the best blind mix of single tiers at each cost. Oracle: it knows every answer's quality beforehand. Gap: between their "
    "mean qualities over the ladder's range of costs (AIQ)."
)


def html_report(
    evaluation: Evaluation, figures: Mapping[str, bytes], *, title: str, facts: Mapping[str, str] | None = None
) -> str:
    """One HTML page that needs no other file; its body begins with the headline, after what has to be known before it.

    Parameters
    ----------
    evaluation : Evaluation
    figures : mapping of name to PNG bytes
        As `draw_figures` and `to_png` make them; each stands with the table it belongs to, unknown ones at the end.
    title : str
    facts : mapping of str to str, optional
        What the page is about: data, bar, artifact, commit.

    Raises
    ------
    MissingExtraError
        jinja2 isn't installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as exc:
        raise MissingExtraError("train", "The HTML report") from exc
    environment = Environment(
        loader=PackageLoader("router_ml.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    images = {name: base64.b64encode(png).decode("ascii") for name, png in figures.items()}
    sections = []
    for table in tables(evaluation):
        belonging = [name for name in images if table.figures and name == table.figures]
        sections.append((table, {name: images.pop(name) for name in belonging}))
    return environment.get_template("report.html.j2").render(
        title=title,
        warnings=evaluation.warnings,
        headline=evaluation.headline,
        advice=evaluation.advice,
        verdict=f"{evaluation.verdict} {_TERMS}",
        menu=None if evaluation.menu is None else menu_table(evaluation.menu),
        better=evaluation.better,
        facts=facts or {},
        sections=sections,
        rest=images,
    )


def text_report(evaluation: Evaluation, *, verbose: bool = True) -> str:
    """Plain text: warnings, the headline, the menu, the verdict, and where `verbose` all tables; ends in a newline."""
    parts = [wrapped(text) for text in (*evaluation.warnings, evaluation.headline, *evaluation.advice)]
    if evaluation.menu is not None:
        parts += [table_text(menu_table(evaluation.menu)), wrapped(evaluation.verdict), wrapped(_TERMS)]
    if verbose:
        parts += [table_text(table) for table in tables(evaluation)]
    return "\n\n".join(parts) + "\n"


def table_text(table: Table) -> str:
    """A table with aligned columns, its title first and its note last."""
    columns, *rows = align([table.columns, *table.rows], left=table.left)
    widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
    rule = "  ".join("-" * width for width in widths)
    lines = [table.title.upper(), columns, rule, *rows]
    if table.note:
        lines.append(wrapped(table.note))
    return "\n".join(lines)


def wrapped(text: str) -> str:
    """Lines of at most 100 characters that part neither a figure from its % nor a name at its hyphens."""
    return textwrap.fill(text.replace(" %", "\0%"), _WIDTH, break_on_hyphens=False).replace("\0", " ")
