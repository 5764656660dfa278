"""Validation of the traffic table: one bad row never loses the rest, and never goes by unseen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from router_ml.errors import TrafficError
from router_ml.traffic.read import FILE, REASON, ROW, scan
from router_ml.traffic.rejects import harmless, rejects_path
from router_ml.traffic.schema import SCHEMA

__all__ = ["Validated", "load_traffic", "prompt_ids", "row_rules", "validate"]

MAX_REJECTS = 0.1
"""Share of rejected rows above which a table is refused: it is then more likely misread than dirty, and what is left is
no fair sample of it (qualities from 0 to 5, say, of which only those up to 1 would stay)."""

_ID_CHARS = 32
_YEARS = (1970, 2200)
"""Years of `created_at`, the last one excluded: others are a clock's or a language's "never", and beyond 9999 Python has no dates."""


@dataclass(frozen=True, slots=True)
class Validated:
    """A validated traffic table.

    Attributes
    ----------
    traffic : DataFrame
        The usable rows, in the schema's columns and those that were asked for beside them, sorted by (prompt_id, model), which is unique.
    rejects : DataFrame
        Columns ``file``, ``row``, ``reason``: one row for each that was left out.
    n_read, n_duplicates, n_repeats : int
        Rows read, rows dropped because a newer one holds the same prompt and model, and rows averaged into one as old.
    """

    traffic: pl.DataFrame
    rejects: pl.DataFrame
    n_read: int
    n_duplicates: int
    n_repeats: int = 0

    def summary(self) -> str:
        """The counts, in one line."""
        return (
            f"{self.n_read:,} rows read: {self.traffic.height:,} kept, {self.rejects.height:,} rejected, "
            f"{self.n_duplicates:,} older duplicates dropped"
            + (
                f", {self.n_repeats:,} repeats averaged into others of the same prompt and model"
                if self.n_repeats
                else ""
            )
            + "; "
            f"{self.traffic['prompt_id'].n_unique():,} prompts, {self.traffic['model'].n_unique()} models"
        )

    def first_rejects(self, n: int = 3) -> tuple[str, ...]:
        """Where and why the first rows were rejected, and how many more were."""
        said = [f"Rejected: {file}, row {row}: {reason}" for file, row, reason in self.rejects.head(n).iter_rows()]
        more = self.rejects.height - len(said)
        return (*said, f"Rejected: {more:,} more") if more else tuple(said)

    def write_rejects(self, beside: Path) -> Path | None:
        """Write the rejects as ``<name>.rejects.csv`` beside an output; returns the path, or None if there are none."""
        path = rejects_path(beside)
        path.unlink(missing_ok=True)
        if self.rejects.is_empty():
            return None
        texts = [pl.col(c).map_elements(harmless, return_dtype=pl.String) for c in ("file", "reason")]
        self.rejects.with_columns(texts).write_csv(path)
        return path


def load_traffic(
    paths: Iterable[str | Path], *, max_rejects: float = MAX_REJECTS, extra: Sequence[str] = ()
) -> Validated:
    """Read and validate traffic; see :func:`router_ml.traffic.read.scan` and :func:`validate`."""
    return validate(scan(paths, extra=extra), max_rejects=max_rejects)


def validate(frame: pl.LazyFrame, *, max_rejects: float = MAX_REJECTS) -> Validated:
    """Check each row, set the bad ones apart, drop older duplicates, average repeats.

    A missing `prompt_id` becomes a hash of the prompt. Of rows with the same prompt and model the newest `created_at`
    stays. Where that leaves several (none has a date, say) nothing tells that one of them is out of date: they become one row, with the mean
    of each number, and the texts of the last one read that is judged, else of the last one read.

    Parameters
    ----------
    frame : LazyFrame
        As :func:`router_ml.traffic.read.scan` gives it.
    max_rejects : float
        Largest share of rejected rows that is accepted, in [0, 1].

    Raises
    ------
    TrafficError
        If the table is empty, or more than `max_rejects` of it (or all) would be rejected.
    """
    checked = frame.with_columns(pl.coalesce(pl.col(REASON), *row_rules()).alias(REASON))
    try:
        table = checked.collect()
    except (OSError, pl.exceptions.PolarsError) as exc:
        raise TrafficError(f"The traffic can't be read: {exc}") from exc
    if table.is_empty():
        raise TrafficError(
            "The traffic holds no rows; give a table with at least some prompts and their models' answers."
        )
    rejects = table.filter(pl.col(REASON).is_not_null()).select(
        pl.col(FILE).alias("file"), pl.col(ROW).alias("row"), pl.col(REASON).alias("reason")
    )
    good = table.filter(pl.col(REASON).is_null()).drop(FILE, ROW, REASON)
    if good.is_empty() or rejects.height > max_rejects * table.height:
        file, row, reason = rejects.row(0)
        raise TrafficError(
            f"{rejects.height:,} of {table.height:,} rows can't be used; the first is {file}, row {row}: {reason}. "
            f"Mend the table (or accept up to that share of rejects with --max-rejects)."
        )
    newest = _newest(good.with_columns(prompt_ids(good)))
    unique = _averaged(newest)
    n_duplicates, n_repeats = good.height - newest.height, newest.height - unique.height
    return Validated(unique, rejects, table.height, n_duplicates, n_repeats)


def row_rules() -> list[pl.Expr]:
    """What a row has to keep: of each rule the reason where it is broken, else null."""
    blank = [
        pl.when(pl.col(c).is_null() | (pl.col(c).str.strip_chars() == "")).then(
            pl.lit(f"{c}: got nothing, needed some text")
        )
        for c in ("prompt", "model")
    ]
    binary = pl.when(pl.col("prompt").str.contains("\0", literal=True)).then(
        pl.lit("prompt: holds NUL characters, so it isn't text")
    )
    ranges = [
        ("quality", pl.col("quality").is_between(0, 1), "a number in [0, 1]"),
        ("propensity", pl.col("propensity").is_between(0, 1, closed="right"), "a number in (0, 1]"),
        ("cost_usd", pl.col("cost_usd").is_between(0, float("inf"), closed="left"), "a finite number >= 0"),
        ("latency_ms", pl.col("latency_ms").is_between(0, float("inf"), closed="left"), "a finite number >= 0"),
        ("input_tokens", pl.col("input_tokens") >= 0, "a whole number >= 0"),
        ("output_tokens", pl.col("output_tokens") >= 0, "a whole number >= 0"),
    ]
    # is_between is True for NaN in polars' total order, so NaN is asked for on its own.
    out_of_range = [
        pl.when(~ok | (pl.col(c).is_nan() if SCHEMA[c].is_float() else pl.lit(False))).then(
            pl.format(f"{c}: got {{}}, needed {needed}", pl.col(c))
        )
        for c, ok, needed in ranges
    ]
    first, last = (pl.datetime(year, 1, 1, time_zone="UTC") for year in _YEARS)
    in_our_time = pl.when(~pl.col("created_at").is_between(first, last, closed="left")).then(
        pl.lit(f"created_at: got a time outside of {_YEARS[0]} to {_YEARS[1] - 1}")
    )
    return [*blank, binary, *out_of_range, in_our_time]


def prompt_ids(table: pl.DataFrame) -> pl.Series:
    """The ids given, and where there is none a hash of the prompt."""
    # A blank id is none: taken at its word, it would make one prompt of all that have it.
    given = table["prompt_id"].set(table["prompt_id"].str.strip_chars() == "", None)
    prompts = table.filter(given.is_null())["prompt"].unique()
    hashes = [hashlib.sha256(p.encode()).hexdigest()[:_ID_CHARS] for p in prompts]
    from_text = table["prompt"].replace_strict(
        prompts, pl.Series(hashes, dtype=pl.String), default=None, return_dtype=pl.String
    )
    return given.fill_null(from_text).alias("prompt_id")


def _newest(table: pl.DataFrame) -> pl.DataFrame:
    """The rows that no other one of their prompt and model is newer than; one without a date is the oldest."""
    newest = pl.col("created_at").max().over("prompt_id", "model")
    return table.filter(pl.col("created_at").eq_missing(newest))


def _averaged(table: pl.DataFrame) -> pl.DataFrame:
    """One row a prompt and model: the mean of each number, the rest of the last row that is judged, else of the last."""
    repeated = pl.struct("prompt_id", "model").is_duplicated()
    repeats = table.filter(repeated)
    if not repeats.is_empty():
        # Rounding must not take the mean of equal values off them, and under the bar.
        numbers = {name: dtype for name, dtype in SCHEMA.items() if dtype.is_numeric()}
        exact = {name: pl.col(name).mean().clip(pl.col(name).min(), pl.col(name).max()) for name in numbers}
        means = [exact[name].round().cast(t) if t.is_integer() else exact[name] for name, t in numbers.items()]
        rest = [name for name in table.columns if name not in ("prompt_id", "model", *numbers)]
        in_order = repeats.sort(pl.col("quality").is_not_null(), maintain_order=True)
        merged = in_order.group_by("prompt_id", "model", maintain_order=True).agg(*means, pl.col(rest).last())
        table = pl.concat([table.filter(~repeated), merged.select(table.columns)])
    return table.sort("prompt_id", "model")
