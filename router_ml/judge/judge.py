"""Judges traffic: gives each answer a quality, by the rules of ``judge.yaml``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from router_ml.errors import InputError, TrafficError
from router_ml.importers.glimpse import import_hints
from router_ml.judge.budget import Budget
from router_ml.judge.cache import VoteCache
from router_ml.judge.config import JudgeConfig, Rule
from router_ml.judge.graders.pairwise import Pairwise
from router_ml.judge.grading import Embed, Grade, Grader, Item, Means
from router_ml.judge.references import join_references, reference_column
from router_ml.judge.registry import build_grader
from router_ml.judge.result import JudgeResult, report_rule
from router_ml.traffic.schema import SCHEMA
from router_ml.traffic.validate import MAX_REJECTS, load_traffic

__all__ = ["judge_traffic"]

_ROW, _RULE, _RIVAL = "_judge_row", "_judge_rule", "_judge_rival"
_ITEM = ("prompt", "model", "response")
Progress = Callable[[int, int, float], None]
"""Told the answers judged, all that are to be, and the USD spent."""


def judge_traffic(
    traffic: pl.DataFrame | str | Path | Sequence[str | Path],
    config: JudgeConfig | str | Path,
    *,
    embed: Embed | None = None,
    cache: str | Path | None = None,
    max_usd: float | None = None,
    top_model: str | None = None,
    on_progress: Progress | None = None,
    max_rejects: float = MAX_REJECTS,
) -> JudgeResult:
    """Give answers a quality.

    Parameters
    ----------
    traffic : DataFrame, path or paths
        A traffic table (it may hold the rules' reference columns too), or files of one.
    config : JudgeConfig or path
        The rules, or the ``judge.yaml`` that holds them.
    embed : Embed, optional
        Texts to vectors [n, d], for the grader ``similarity``.
    cache : path, optional
        File of LLM verdicts, read and added to. With it a run that was stopped goes on where it was, and pays for no
        vote twice.
    max_usd : float, optional
        Instead of the configuration's.
    top_model : str, optional
        The model whose answers ``llm_pairwise`` compares with, where its rule names none.
    on_progress : callable, optional
        Called with (answers judged, answers in all, USD spent) after each batch.
    max_rejects : float
        Largest share of invalid rows to accept when files are read, before failing.

    Returns
    -------
    JudgeResult
        Its traffic has all rows of the input, in their order.

    Raises
    ------
    InputError, TrafficError
        If rules, references or traffic can't be used; before anything is spent.
    RouterError
        If an LLM judge stops working.

    Notes
    -----
    An answer that can't be judged (no reference, the budget used up, a reply that is no verdict) has a null quality,
    never a guess.
    """
    if not isinstance(config, JudgeConfig):
        config = JudgeConfig.from_yaml(config)
    graders = [_grader(rule, top_model) for rule in config.rules]
    table = _with_rivals(_with_rules(_table(traffic, max_rejects, config), config), graders)
    table = _with_references(table, config, graders)
    used = set(table[_RULE].drop_nulls())
    budget = Budget(config.max_usd if max_usd is None else max_usd)
    with VoteCache(cache) as votes:
        means = Means(budget, votes, embed, config.allow_code_execution)
        for i in used:
            graders[i].check(means)
        progress = _Progress(len(table[_RULE].drop_nulls()), budget, on_progress)
        rows = [table.filter(pl.col(_RULE) == i) for i in range(len(config.rules))]
        grades = [
            _grade_rows(part, rule, grader, means, config.max_chars, progress)
            for part, rule, grader in zip(rows, config.rules, graders, strict=True)
        ]
    judged = pl.concat(_as_table(*parts) for parts in zip(rows, config.rules, grades, strict=True))
    n_kept = table.filter(pl.col(_RULE).is_null() & pl.col("quality").is_not_null()).height
    return JudgeResult(
        traffic=_filled(table, judged),
        grades=judged.drop(_ROW),
        rules=tuple(
            report_rule(rule.label, rule.grader, given) for rule, given in zip(config.rules, grades, strict=True)
        ),
        n_kept=n_kept,
        n_unmatched=table.height - judged.height - n_kept,
        spent_usd=budget.spent_usd,
    )


def _grader(rule: Rule, top_model: str | None) -> Grader:
    grader = build_grader(rule.grader, rule.settings)
    if isinstance(grader, Pairwise) and grader.against is None:
        if top_model is None:
            raise InputError(
                f"Rule {rule.label!r} compares with the top tier's answers; name its model as 'against', or as top_model."
            )
        grader = dataclasses.replace(grader, against=top_model)
    return grader


def _table(
    traffic: pl.DataFrame | str | Path | Sequence[str | Path], max_rejects: float, config: JudgeConfig
) -> pl.DataFrame:
    if not isinstance(traffic, pl.DataFrame):
        paths = [traffic] if isinstance(traffic, str | Path) else traffic
        with import_hints():
            return load_traffic(paths, max_rejects=max_rejects, extra=config.traffic_columns).traffic
    missing = [c for c in ("prompt_id", "prompt", "model", "response") if c not in traffic.columns]
    if missing:
        raise TrafficError(
            f"The traffic lacks the column(s) {missing}, without which no answer can be judged; it has {traffic.columns}."
        )
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in traffic.columns]
    try:
        return traffic.with_columns(absent).with_columns(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
    except pl.exceptions.PolarsError as exc:
        raise TrafficError(f"The traffic isn't of the traffic table's types: {exc!s:.300}") from exc


def _with_rules(table: pl.DataFrame, config: JudgeConfig) -> pl.DataFrame:
    """Add the row's number, and the number of the rule that grades it; null where none does."""
    open_ = pl.col("response").is_not_null() & (pl.lit(config.overwrite) | pl.col("quality").is_null())
    first = pl.coalesce(pl.when(rule.matches()).then(i) for i, rule in enumerate(config.rules))
    return table.with_row_index(_ROW).with_columns(pl.when(open_).then(first).cast(pl.Int64).alias(_RULE))


def _with_rivals(table: pl.DataFrame, graders: Sequence[Grader]) -> pl.DataFrame:
    """Add, for each row that a pairwise judge grades, the top tier's answer to its prompt; null where that is missing."""
    table = table.with_columns(pl.lit(None, pl.String).alias(_RIVAL))
    for i, grader in enumerate(graders):
        if not isinstance(grader, Pairwise):
            continue
        answers = table.filter((pl.col("model") == grader.against) & pl.col("response").is_not_null())
        if answers.is_empty() and (table[_RULE] == i).any():
            raise TrafficError(
                f"The traffic holds no answer of {grader.against!r}, with which the judge is to compare; it holds {table['model'].unique().sort().to_list()}."
            )
        rivals = answers.group_by("prompt_id").agg(pl.col("response").first().alias("_of"))
        table = table.join(rivals, on="prompt_id", how="left", maintain_order="left")
        table = table.with_columns(pl.when(pl.col(_RULE) == i).then("_of").otherwise(_RIVAL).alias(_RIVAL)).drop("_of")
    return table


def _with_references(table: pl.DataFrame, config: JudgeConfig, graders: Sequence[Grader]) -> pl.DataFrame:
    used = set(table[_RULE].drop_nulls())
    needed = [
        r.reference
        for i, (r, g) in enumerate(zip(config.rules, graders, strict=True))
        if g.needs_reference and i in used
    ]
    optional = [r.reference for i, r in enumerate(config.rules) if i in used]
    return join_references(
        table,
        config.references,
        list(dict.fromkeys(needed)),
        list(dict.fromkeys(optional)),
        hidden=(_ROW, _RULE, _RIVAL),
    )


class _Progress:
    """Counts answers over all rules for who wants to know."""

    def __init__(self, total: int, budget: Budget, told: Progress | None) -> None:
        self.done, self.total, self.budget, self.told = 0, total, budget, told

    def add(self, n: int) -> None:
        self.done += n
        if self.told is not None:
            self.told(self.done, self.total, self.budget.spent_usd)


def _grade_rows(
    rows: pl.DataFrame, rule: Rule, grader: Grader, means: Means, max_chars: int, progress: _Progress
) -> list[Grade]:
    """Each row's grade, in order."""
    grades: list[Grade] = []
    for batch in rows.iter_slices(grader.batch):
        entries = list(
            batch.select(*_ITEM, _RIVAL, reference=reference_column(rule.reference, batch)).iter_rows(named=True)
        )
        refused = [_refusal(entry, grader, max_chars) for entry in entries]
        items = [_item(e, grader) for e, why in zip(entries, refused, strict=True) if why is None]
        given = grader.grade_all(items, means) if items else iter(())
        grades += [next(given) if why is None else Grade(None, why) for why in refused]
        progress.add(batch.height)
    return grades


def _refusal(entry: dict[str, Any], grader: Grader, max_chars: int) -> str | None:
    if len(entry["response"]) > max_chars:
        return f"longer than {max_chars:,} characters"
    if grader.needs_reference and entry["reference"] is None:
        return "no reference"
    return None


def _item(entry: dict[str, Any], grader: Grader) -> Item:
    is_top = isinstance(grader, Pairwise) and entry["model"] == grader.against
    return Item(entry["prompt"], entry["model"], entry["response"], entry["reference"], entry[_RIVAL], is_top)


def _as_table(rows: pl.DataFrame, rule: Rule, grades: Sequence[Grade]) -> pl.DataFrame:
    return rows.select(
        _ROW,
        "prompt_id",
        "model",
        pl.lit(rule.label).alias("rule"),
        pl.Series("quality", [g.quality for g in grades], dtype=pl.Float64),
        pl.Series("reason", [g.reason for g in grades], dtype=pl.String),
        pl.Series("n_votes", [len(g.votes) for g in grades], dtype=pl.Int64),
        pl.Series("vote_sd", [_sd(g.votes) for g in grades], dtype=pl.Float64),
    )


def _sd(votes: Sequence[float]) -> float | None:
    return float(np.std(votes, ddof=1)) if len(votes) > 1 else None


def _filled(table: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
    new = table.join(judged.select(_ROW, pl.col("quality").alias("_new")), on=_ROW, how="left", maintain_order="left")
    quality = pl.when(pl.col(_RULE).is_null()).then("quality").otherwise("_new").alias("quality")
    return new.with_columns(quality).select(*SCHEMA)
