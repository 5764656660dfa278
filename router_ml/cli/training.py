"""Commands of the offline path: from traffic to an artifact, and what it is worth."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from router_ml._atomic import replacing
from router_ml.cli.options import (
    BAR,
    CACHE,
    ENCODER,
    JSON,
    MAX_REJECTS,
    REFERENCE,
    SEED,
    TIERS,
    TRAFFIC,
    echo_rejects,
    not_an_input,
    out_option,
    parse_bar,
    read_ladder,
    train_extra,
    usage,
)


@click.command()
@out_option(".parquet", "Write the table here (.parquet), and the ladder beside it (.tiers.yaml).")
@click.option(
    "--n-prompts", default=3000, show_default=True, type=click.IntRange(min=1), help="Simulate so many prompts."
)
@click.option(
    "--logged",
    is_flag=True,
    help="Let one tier answer each prompt, chosen by a logging policy, with propensities; without it, all tiers do.",
)
@SEED
def sample(out: Path, n_prompts: int, logged: bool, seed: int) -> None:
    """Write simulated traffic and its ladder, to try things out. None of it was answered by a real model.

    \b
    router-ml sample --n-prompts 1000 --out traffic.parquet
    router-ml fit traffic.parquet --tiers traffic.tiers.yaml --out router.onnx
    """
    with train_extra("sample"):
        from router_ml.datasets import TIERS_PATH, simulate

        frame = simulate(n_prompts, random_state=seed, logged=logged)
    ladder = out.with_suffix(".tiers.yaml")
    with replacing(out) as temporary:
        frame.write_parquet(temporary)
    with replacing(ladder) as temporary:
        temporary.write_bytes(TIERS_PATH.read_bytes())
    click.echo(f"{frame.height:,} simulated rows in {out}; their ladder: {ladder}")


@click.command()
@TRAFFIC
@TIERS
@BAR
@REFERENCE
@out_option(".parquet", "Write the labels here (.parquet).")
@MAX_REJECTS
@JSON
def label(
    traffic: tuple[Path, ...],
    tiers: Path | None,
    bar: str,
    reference: str | None,
    out: Path,
    max_rejects: float,
    as_json: bool,
) -> None:
    """Label each prompt of TRAFFIC with the cheapest tier that met the bar.

    \b
    router-ml label traffic.parquet --tiers tiers.yaml --bar 0.5 --out labels.parquet
    """
    not_an_input(out, traffic)
    with train_extra("label"):
        from router_ml import workflow
        from router_ml.traffic.labels import Bar, count_labels

        with usage():
            asked = Bar.parse(bar, reference)
        read = workflow.read_traffic(traffic, max_rejects=max_rejects)
        labels, ladder, _ = workflow.label_traffic(read.traffic, read_ladder(tiers), asked)
    with replacing(out) as temporary:
        labels.write_parquet(temporary)
    rejects = read.write_rejects(out)
    counts = dict(count_labels(labels, ladder).iter_rows())
    if as_json:
        by = {c: count_labels(labels, ladder, c).rows() for c in ("source", "category")}
        slices = {c: [{c: v, "label": lab, "n": n} for v, lab, n in rows] for c, rows in by.items()}
        click.echo(
            json.dumps({"out": str(out), "rejects": rejects and str(rejects), "labels": counts, "slices": slices})
        )
        return
    _echo_counts("", [("", name, n) for name, n in counts.items()])
    for column in ("source", "category"):
        if labels[column].n_unique() > 1:
            _echo_counts(column, count_labels(labels, ladder, column).rows())
    click.echo(f"Labels of {labels.height:,} prompts in {out}")
    echo_rejects(rejects)


@click.command()
@TRAFFIC
@ENCODER
@CACHE
@out_option(".parquet", "Write the embeddings here (.parquet: prompt_id, n_chars, embedding, tokens).")
@MAX_REJECTS
@click.pass_obj
def embed(
    progress: bool, traffic: tuple[Path, ...], encoder: str, cache: Path | None, out: Path, max_rejects: float
) -> None:
    """Embed the prompts of TRAFFIC.

    \b
    router-ml embed traffic.parquet --encoder openai:text-embedding-3-small --cache .cache --out embeddings.parquet
    """
    not_an_input(out, traffic)
    with train_extra("embed"):
        from router_ml import workflow

        read = workflow.read_traffic(traffic, max_rejects=max_rejects)
        table = workflow.embed_table(read.traffic, encoder, cache=cache, progress=progress)
    with replacing(out) as temporary:
        table.write_parquet(temporary)
    click.echo(f"Embeddings of {table.height:,} prompts in {out}")
    echo_rejects(read.write_rejects(out))


@click.command()
@TRAFFIC
@out_option(".onnx", "Where the artifact goes (.onnx).")
@TIERS
@BAR
@REFERENCE
@click.option(
    "--bar-margin",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="A quality nearer to the bar than this tells nothing: what a judge's noise is worth.",
)
@click.option(
    "--learner",
    default="auto",
    show_default=True,
    help="auto (a small search), or logistic, ngram, knn, mlp, stack, distilled, ordinal, pooled, constant.",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Try no other learner after so many seconds (the result then depends on the machine); without it, all are tried.",
)
@ENCODER
@CACHE
@click.option(
    "--max-quality-drop",
    default=0.01,
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="Let the default lose at most this much expected quality against the reference tier (0.01: one point).",
)
@click.option(
    "--max-loss",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Certify the default: expected quality at most so much below the reference tier's.",
)
@click.option(
    "--max-violation",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Certify the default: at most this share of answers under the bar.",
)
@click.option(
    "--delta",
    default=0.05,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="The chance that such a promise fails.",
)
@click.option(
    "--calibration-share",
    default=0.3,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of the prompts that promises rest on, kept out of training.",
)
@click.option("--ignore-novelty", is_flag=True, help="Don't send queries unlike the traffic to the reference tier.")
@click.option(
    "--neighbours", is_flag=True, help="Keep ids and outcomes of training prompts in the artifact, for 'explain'."
)
@click.option(
    "--no-structure", is_flag=True, help="With one tier a prompt: learn each tier from its own answers alone."
)
@click.option(
    "--cascade",
    is_flag=True,
    help="Learn from the logged responses, too, when to accept an answer and when to ask another tier.",
)
@click.option("--no-track", is_flag=True, help="Don't log the run to MLflow.")
@click.option("--verbose", is_flag=True, help="Print all tables of the cross-validation, not the menu alone.")
@MAX_REJECTS
@SEED
@JSON
@click.pass_obj
def fit(
    progress: bool,
    traffic: tuple[Path, ...],
    out: Path,
    tiers: Path | None,
    bar: str,
    reference: str | None,
    bar_margin: float,
    learner: str,
    max_seconds: float | None,
    encoder: str,
    cache: Path | None,
    max_quality_drop: float,
    max_loss: float | None,
    max_violation: float | None,
    delta: float,
    calibration_share: float,
    ignore_novelty: bool,
    neighbours: bool,
    no_structure: bool,
    cascade: bool,
    no_track: bool,
    verbose: bool,
    max_rejects: float,
    seed: int,
    as_json: bool,
) -> None:
    """Fit a router on TRAFFIC: label, embed, learn, calibrate, export and track, in one call.

    With --max-loss or --max-violation the default is certified on prompts held out, and the artifact holds a table of such
    promises, for requests to choose from.

    \b
    router-ml fit logs/*.parquet --out router.onnx
    router-ml fit logs/*.parquet --max-loss 0.02 --delta 0.05 --out router.onnx
    router-ml fit traffic.jsonl --tiers tiers.yaml --bar 0.95x --learner knn --out router.onnx
    """
    not_an_input(out, traffic)
    with train_extra("fit"):
        from router_ml import workflow
        from router_ml.evaluation.report import table_text, text_report
        from router_ml.evaluation.tables import menu_table
        from router_ml.workflow import durations

        with usage():
            options = workflow.FitOptions(
                bar=dataclasses.replace(parse_bar(bar, reference), margin=bar_margin),
                learner=learner,
                max_seconds=max_seconds,
                encoder=encoder,
                max_quality_drop=max_quality_drop,
                reference=reference,
                max_loss=max_loss,
                max_violation=max_violation,
                delta=delta,
                calibration_share=calibration_share,
                safe_when_novel=not ignore_novelty,
                neighbours=neighbours,
                structure=not no_structure,
                cascade=cascade,
                cache=cache,
                random_state=seed,
                max_rejects=max_rejects,
                progress=progress,
            )
        durations.announce("Fitting on", traffic, *durations.fit_seconds(options))
        result = workflow.fit(traffic, out, ladder=read_ladder(tiers), options=options, track=not no_track)
    if as_json:
        click.echo(json.dumps(result.to_dict()))
        return
    for warning in result.warnings:
        click.echo(f"Warning: {warning}\n")
    if result.evaluation is not None:
        click.echo("Cross-validated on the traffic given:\n")
        click.echo(text_report(result.evaluation, verbose=verbose))
    else:
        click.echo(f"{result.menu.headline}\n\n{table_text(menu_table(result.menu))}\n")
    click.echo(result.summary())


def _echo_counts(column: str, counts: Sequence[tuple[str, str, int]]) -> None:
    """A line for each value and label; the shares are of the value's own prompts, and of all where there is no column."""
    title = f"{column}: label" if column else "label"
    names = [f"{value}: {label}" if column else label for value, label, _ in counts]
    totals: Counter[str] = Counter()
    for value, _, n in counts:
        totals[value] += n
    width = max(map(len, [title, *names]))
    click.echo(f"{title:<{width}}  {'n':>8}  {f'share of the {column}' if column else 'share'}")
    for name, (value, _, n) in zip(names, counts, strict=True):
        click.echo(f"{name:<{width}}  {n:>8,}  {100 * n / totals[value]:5.1f} %")
    click.echo("")
