"""What is lost with one tier a prompt: a router fitted on thinned logs, beside one that saw every tier.

    python -m benchmarks.partial train.parquet test.parquet --bar 1.0 --out benchmark/

Of each training prompt one answer is kept, by a logging policy that depends on the prompt: its favourite tier with probability one half, by the prompt's
length or category, each other tier alike. Routers are fitted on all answers, on the thinned log with its propensities, and on it without them;
compared is gap_closed on the test prompts, which every tier answered. Intervals are of the mean over logs, the router of all answers held fixed.
Asked: the mean share of all tiers' gap_closed is at least ``--least-given`` and ``--least-estimated``. Exits with 1 where it isn't.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import polars as pl

from benchmarks.verdicts import Verdict, to_lines
from router_ml import workflow
from router_ml.core.router import Router
from router_ml.ladder import Ladder
from router_ml.traffic.labels import Bar

FAVOURED = 0.5
"""The favourite tier's propensity."""
KINDS = ("length", "category")
LEAST_GIVEN = 0.85
"""Of all tiers' gap_closed, where the propensities are known."""
LEAST_ESTIMATED = 0.75


def thin(traffic: pl.DataFrame, kind: str, *, random_state: int) -> pl.DataFrame:
    """Keep one answer of each prompt, with its propensity.

    Parameters
    ----------
    traffic : DataFrame
        A validated table.
    kind : {"length", "category"}
        What the favourite tier goes by: thirds of the length, or the category, whose favourite is drawn.
    random_state : int
    """
    rng = np.random.default_rng(random_state)
    models = traffic["model"].unique().sort().to_list()
    prompts = traffic.unique("prompt_id", keep="first", maintain_order=True).sort("prompt_id")
    if kind == "length":
        rank = prompts["prompt"].str.len_chars().rank("ordinal").to_numpy() - 1
        favourite = (rank * len(models) // len(prompts)).astype(int)
    else:
        names = prompts["category"].fill_null("").to_list()
        drawn = {name: int(rng.integers(len(models))) for name in sorted(set(names))}
        favourite = np.array([drawn[name] for name in names])
    chance = np.full((len(prompts), len(models)), (1 - FAVOURED) / (len(models) - 1))
    chance[np.arange(len(prompts)), favourite] = FAVOURED
    taken = (chance.cumsum(axis=1) > rng.random((len(prompts), 1))).argmax(axis=1)
    kept = prompts.select(
        "prompt_id",
        model=pl.Series([models[t] for t in taken]),
        propensity=pl.Series(chance[np.arange(len(prompts)), taken]),
    )
    return traffic.drop("propensity").join(kept, on=["prompt_id", "model"], how="inner")


def gap_closed(
    train: pl.DataFrame, test: Path, folder: Path, ladder: Ladder | None, options: workflow.FitOptions
) -> tuple[float, str]:
    """Of a router fitted on the one and measured on the other; and its learner."""
    train.write_parquet(folder / "train.parquet")
    fitted = workflow.fit(
        [folder / "train.parquet"], folder / "router.onnx", ladder=ladder, options=options, track=False
    )
    evaluation = workflow.evaluate_router(Router.load(folder / "router.onnx"), [test], n_resamples=10)
    learner = options.learner if fitted.reason is None else fitted.reason.partition(":")[0]
    return evaluation.frontier["value"].gap_closed, learner


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean, and the ends of Student's 95 % interval for it; NaN of a single value."""
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return mean, mean - half, mean + half


def share(value: float, full: float) -> float:
    """Of all tiers' gap_closed; NaN where that router gained nothing."""
    return value / full if full > 0 else math.nan


def verdicts(full: float, means: dict[str, float], least: dict[str, float]) -> list[Verdict]:
    """What is asked of the share of all tiers' gap_closed, by how the propensities are known."""
    return [
        Verdict(
            f"share of all tiers' gap_closed, propensities {known}",
            share(mean, full),
            "at least",
            least[known],
        )
        for known, mean in means.items()
    ]


@click.command()
@click.argument("train", type=click.Path(exists=True, path_type=Path))
@click.argument("test", type=click.Path(exists=True, path_type=Path))
@click.option("--tiers", type=click.Path(exists=True, path_type=Path))
@click.option("--bar", default="1.0", show_default=True)
@click.option("--learner", default="auto", show_default=True)
@click.option("--draws", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--no-structure", is_flag=True)
@click.option("--least-given", default=LEAST_GIVEN, show_default=True, help="Share asked with propensities.")
@click.option("--least-estimated", default=LEAST_ESTIMATED, show_default=True, help="Share asked without.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
def main(
    train: Path,
    test: Path,
    tiers: Path | None,
    bar: str,
    learner: str,
    draws: int,
    no_structure: bool,
    least_given: float,
    least_estimated: float,
    out: Path,
) -> None:
    """Measure it."""
    ladder = None if tiers is None else Ladder.from_yaml(tiers)
    options = workflow.FitOptions(bar=Bar.parse(bar), learner=learner, structure=not no_structure)
    traffic = workflow.read_traffic([train]).traffic
    rows = []
    with TemporaryDirectory() as name:
        full, best = gap_closed(traffic, test, Path(name), ladder, options)
        for kind in KINDS:
            for seed in range(draws):
                log = thin(traffic, kind, random_state=seed)
                row: dict[str, str | int | float] = {"logging": kind, "draw": seed}
                for known, table in (("given", log), ("estimated", log.drop("propensity"))):
                    row[known], row[f"{known}_learner"] = gap_closed(table, test, Path(name), ladder, options)
                rows.append(row)
                click.echo(json.dumps(row | {"full": full}), err=True)
    table = pl.DataFrame(rows)
    found = {known: mean_interval(table[known].to_list()) for known in ("given", "estimated")}
    means = {known: mean for known, (mean, _, _) in found.items()}
    asked = verdicts(full, means, {"given": least_given, "estimated": least_estimated})
    lines = [
        f"# One tier a prompt: {train.name}, learner {learner}, {draws} draws of each logging policy",
        "",
        *to_lines(asked),
        "",
        "| trained on | gap_closed | of all tiers' | 95 % interval | learners |",
        "|---|---|---|---|---|",
        f"| every tier | {full:.4f} | | | {best} |",
        *(
            f"| one tier a prompt, propensities {known} | {mean:.4f} | {share(mean, full):.0%} | {share(low, full):.0%} to {share(high, full):.0%} | "
            f"{', '.join(sorted(set(table[f'{known}_learner'])))} |"
            for known, (mean, low, high) in found.items()
        ),
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "partial.md").write_text("\n".join(lines) + "\n")
    (out / "partial.json").write_text(
        json.dumps({"asked": [v.to_dict() for v in asked], "full": full, **means, "rows": rows}, indent=2)
    )
    click.echo("\n".join(lines))
    sys.exit(0 if all(v.held for v in asked) else 1)


if __name__ == "__main__":
    main()
