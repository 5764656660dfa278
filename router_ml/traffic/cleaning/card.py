"""The data card: what came in, what was kept, and what the kept traffic is like, on one page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import polars as pl

from router_ml.traffic.cleaning import statistics
from router_ml.traffic.cleaning.duplicates import Duplicates
from router_ml.traffic.cleaning.tables import aligned, markdown

__all__ = ["DataCard", "data_card", "reject_kinds"]

_MAX_ROWS = 100

_TITLES = {
    "rejects": "Rejected rows",
    "models": "Models",
    "answered": "Prompts by how many models answered",
    "coverage": "Share of rows that have a value",
    "sources": "Sources",
    "categories": "Categories",
    "lengths": "Lengths",
    "languages": "Languages",
    "redactions": "Redactions",
}


@dataclass(frozen=True, slots=True)
class DataCard:
    """A description of a table of traffic; made by :func:`data_card`.

    Attributes
    ----------
    counts : mapping of str to int
        ``rows_read``, ``rows_kept``, ``rows_rejected``, ``rows_superseded`` (older ones of the same prompt and model),
        ``rows_dropped`` (as duplicates), ``prompts``, ``models``, ``sessions``, and, where duplicates were looked for,
        ``exact_duplicates``, ``near_duplicates`` (prompts) and ``largest_duplicate_group``.
    first, last : datetime or None
        Of ``created_at``.
    rejects, models, answered, coverage, sources, categories, lengths, languages, redactions : DataFrame
        One row a kind of reject, a model, a number of models, a column, a slice, a length, a language, a kind of
        redaction; empty where there is nothing to say.
    """

    counts: Mapping[str, int]
    first: datetime | None
    last: datetime | None
    rejects: pl.DataFrame
    models: pl.DataFrame
    answered: pl.DataFrame
    coverage: pl.DataFrame
    sources: pl.DataFrame
    categories: pl.DataFrame
    lengths: pl.DataFrame
    languages: pl.DataFrame
    redactions: pl.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """All of it in values that JSON has, the tables' first 100 rows; times in ISO 8601."""
        tables = {f.name: getattr(self, f.name).head(_MAX_ROWS).to_dicts() for f in fields(self) if f.name in _TITLES}
        span = {name: time.isoformat() if time else None for name, time in self._span().items()}
        return {"counts": dict(self.counts), **span, **tables}

    def to_metrics(self) -> dict[str, float]:
        """The figures to log with a run: the counts, and the share of rows that have each column."""
        shares = {f"has_{column}": share for column, share in self.coverage.rows()}
        return {**{name: float(n) for name, n in self.counts.items()}, **shares}

    def to_text(self) -> str:
        """Aligned tables, for a terminal; the longest are cut."""
        parts = [aligned(self._summary(), header=False)]
        parts += [f"{title}\n{aligned(table)}" for title, table in self._tables()]
        return "\n\n".join(parts)

    def to_markdown(self) -> str:
        """The same as Markdown."""
        parts = [f"# Data card\n\n{markdown(self._summary())}"]
        parts += [f"## {title}\n\n{markdown(table)}" for title, table in self._tables()]
        return "\n\n".join(parts) + "\n"

    def _span(self) -> dict[str, datetime | None]:
        return {"first": self.first, "last": self.last}

    def _summary(self) -> pl.DataFrame:
        facts = {name.replace("_", " "): f"{n:,}" for name, n in self.counts.items()}
        facts |= {name: f"{time:%Y-%m-%d %H:%M} UTC" if time else "no dates" for name, time in self._span().items()}
        return pl.DataFrame({"fact": list(facts), "value": list(facts.values())})

    def _tables(self) -> list[tuple[str, pl.DataFrame]]:
        named = [(title, getattr(self, name)) for name, title in _TITLES.items()]
        return [(title, table) for title, table in named if not table.is_empty()]


def data_card(
    traffic: pl.DataFrame | pl.LazyFrame,
    *,
    n_read: int | None = None,
    rejects: pl.DataFrame | None = None,
    n_superseded: int = 0,
    n_dropped: int = 0,
    duplicates: Duplicates | None = None,
    redactions: Mapping[str, int] | None = None,
    language_sample: int = statistics.LANGUAGE_SAMPLE,
    random_state: int = 0,
) -> DataCard:
    """Describe a table of traffic and what was done to it.

    Parameters
    ----------
    traffic : DataFrame or LazyFrame
        The kept rows, with the schema's columns.
    n_read : int or None
        Rows read; None: the sum of all that is known of.
    rejects : DataFrame or None
        With the column ``reason``, as validation gives it.
    n_superseded, n_dropped : int
        Rows left out because a newer one has the same prompt and model, and as duplicates.
    duplicates : Duplicates or None
        As found before any were dropped.
    redactions : mapping of str to int or None
        Replaced pieces by kind; None: nothing was looked for.
    language_sample : int
        Prompts whose language is looked at; 0: none.
    random_state : int
        Seed of that sample.
    """
    table = traffic.lazy()
    facts = table.select(
        rows=pl.len(),
        prompts=pl.col("prompt_id").n_unique(),
        models=pl.col("model").n_unique(),
        sessions=pl.col("session_id").drop_nulls().n_unique(),
        first=pl.col("created_at").min(),
        last=pl.col("created_at").max(),
    ).collect()
    fact = facts.row(0, named=True)
    n_rejected = 0 if rejects is None else rejects.height
    known = fact["rows"] + n_rejected + n_superseded + n_dropped
    counts = {
        "rows_read": known if n_read is None else n_read,
        "rows_kept": fact["rows"],
        "rows_rejected": n_rejected,
        "rows_superseded": n_superseded,
        "rows_dropped": n_dropped,
        **{name: fact[name] for name in ("prompts", "models", "sessions")},
    }
    if duplicates is not None:
        counts |= {
            "exact_duplicates": duplicates.n_exact,
            "near_duplicates": duplicates.n_near,
            "largest_duplicate_group": duplicates.largest,
        }
    return DataCard(
        counts=counts,
        first=fact["first"],
        last=fact["last"],
        rejects=reject_kinds(rejects),
        models=statistics.models(table),
        answered=_answered(table, fact["models"]),
        coverage=statistics.coverage(table),
        sources=_named_slices(table, "source"),
        categories=_named_slices(table, "category"),
        lengths=statistics.lengths(table),
        languages=_languages(table, language_sample, random_state),
        redactions=_redactions(redactions),
    )


def reject_kinds(rejects: pl.DataFrame | None) -> pl.DataFrame:
    """Count the rejects by reason, the values that were got left out; columns ``reason``, ``rows``, ``share``."""
    schema = {"reason": pl.String, "rows": pl.Int64, "share": pl.Float64}
    if rejects is None or rejects.is_empty():
        return pl.DataFrame(schema=schema)
    # A value may hold anything, so it ends at the last ", needed".
    kind = (
        pl.col("reason")
        .fill_null("no reason given")
        .str.replace(r"(?s)got .*, needed", "needed")
        .str.replace_all(r"(?s) ['\"].*['\"]", " '…'")
        .str.replace_all(r"(line|column|char|row|position) \d+", "$1 …")
    )
    counted = rejects.select(reason=kind).group_by("reason").agg(rows=pl.len().cast(pl.Int64))
    return counted.with_columns(share=pl.col("rows") / pl.col("rows").sum()).sort(
        "rows", "reason", descending=[True, False]
    )


def _answered(table: pl.LazyFrame, n_models: int) -> pl.DataFrame:
    counted = statistics.answered_by(table)
    label = (
        pl.when(pl.col("models") == n_models).then(pl.format("{} (all)", "models")).otherwise(pl.format("{}", "models"))
    )
    return counted.with_columns(label.alias("models"))


def _named_slices(table: pl.LazyFrame, column: str) -> pl.DataFrame:
    found = statistics.slices(table, column)
    return found if found[column].is_not_null().any() else found.clear()


def _languages(table: pl.LazyFrame, sample: int, random_state: int) -> pl.DataFrame:
    if not sample:
        return pl.DataFrame(schema={"language": pl.String, "prompts": pl.Int64, "share": pl.Float64})
    return statistics.languages(table, sample=sample, random_state=random_state)


def _redactions(counts: Mapping[str, int] | None) -> pl.DataFrame:
    ordered = sorted((counts or {}).items(), key=lambda item: (-item[1], item[0]))
    return pl.DataFrame(ordered, schema={"kind": pl.String, "replaced": pl.Int64}, orient="row")
