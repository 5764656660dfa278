"""What is lost with one tier a prompt: a router fitted on thinned logs, beside one that saw every tier.

    python -m pipelines.benchmark_partial train.parquet test.parquet --bar 1.0 --out benchmark/

Of each training prompt one answer is kept, by a logging policy that depends on the prompt: its favourite tier with probability one half, by the prompt's
length or category, each other tier alike. Routers are fitted on all answers, on the thinned log with its propensities, and on it without them;
compared is gap_closed on the test prompts, which every tier answered.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import polars as pl

from router_ml import workflow
from router_ml.core.router import Router
from router_ml.ladder import Ladder
from router_ml.traffic.labels import Bar

FAVOURED = 0.5
"""The favourite tier's propensity."""
KINDS = ("length", "category")


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
) -> float:
    """Of a router fitted on the one and measured on the other."""
    train.write_parquet(folder / "train.parquet")
    workflow.fit([folder / "train.parquet"], folder / "router.onnx", ladder=ladder, options=options, track=False)
    evaluation = workflow.evaluate_router(Router.load(folder / "router.onnx"), [test], n_resamples=10)
    return evaluation.frontier["value"].gap_closed


@click.command()
@click.argument("train", type=click.Path(exists=True, path_type=Path))
@click.argument("test", type=click.Path(exists=True, path_type=Path))
@click.option("--tiers", type=click.Path(exists=True, path_type=Path))
@click.option("--bar", default="1.0", show_default=True)
@click.option("--learner", default="auto", show_default=True)
@click.option("--draws", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--no-structure", is_flag=True)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
def main(
    train: Path, test: Path, tiers: Path | None, bar: str, learner: str, draws: int, no_structure: bool, out: Path
) -> None:
    """Measure it."""
    ladder = None if tiers is None else Ladder.from_yaml(tiers)
    options = workflow.FitOptions(bar=Bar.parse(bar), learner=learner, structure=not no_structure)
    traffic = workflow.read_traffic([train]).traffic
    rows = []
    with TemporaryDirectory() as name:
        full = gap_closed(traffic, test, Path(name), ladder, options)
        for kind in KINDS:
            for seed in range(draws):
                log = thin(traffic, kind, random_state=seed)
                given = gap_closed(log, test, Path(name), ladder, options)
                estimated = gap_closed(log.drop("propensity"), test, Path(name), ladder, options)
                rows.append({"logging": kind, "draw": seed, "given": given, "estimated": estimated})
                click.echo(
                    f"{kind} {seed}: given {given:.4f}, estimated {estimated:.4f}, all tiers {full:.4f}", err=True
                )
    table = pl.DataFrame(rows)
    means = {column: float(table[column].mean()) for column in ("given", "estimated")}  # type: ignore[arg-type]
    lines = [
        f"# One tier a prompt: {train.name}, learner {learner}, {draws} draws of each logging policy",
        "",
        "| trained on | gap_closed | of all tiers' |",
        "|---|---|---|",
        f"| every tier | {full:.4f} | |",
        *(f"| one tier a prompt, propensities {n} | {v:.4f} | {v / full:.0%} |" for n, v in means.items()),
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "partial.md").write_text("\n".join(lines) + "\n")
    (out / "partial.json").write_text(json.dumps({"full": full, **means, "rows": rows}, indent=2))
    click.echo("\n".join(lines))


if __name__ == "__main__":
    main()
