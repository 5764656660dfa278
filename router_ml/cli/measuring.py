"""Commands that measure an artifact, or make another of it."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import click

from router_ml._atomic import replacing
from router_ml.cli.options import (
    ARTIFACT,
    JSON,
    MAX_REJECTS,
    READ_FILE,
    SEED,
    SOURCE,
    TRAFFIC,
    WRITE_FILE,
    decision_options,
    echo_guarantees,
    given,
    load_router,
    not_an_input,
    out_option,
    train_extra,
)


@click.command()
@ARTIFACT
@TRAFFIC
@click.option("--off-policy", is_flag=True, help="TRAFFIC is a log with one model a prompt, chosen by another policy.")
@click.option(
    "--max-weight", type=click.FloatRange(min=1), help="Off policy: clip importance weights here; without it, none."
)
@click.option("--report", type=WRITE_FILE, help="Write an HTML report here.")
@click.option(
    "--resamples", default=1000, show_default=True, type=click.IntRange(min=10), help="Resamples of the bootstrap."
)
@decision_options
@click.option("--verbose", is_flag=True, help="Print all tables, not the menu alone.")
@MAX_REJECTS
@SEED
@JSON
def evaluate(
    artifact: Path,
    traffic: tuple[Path, ...],
    off_policy: bool,
    max_weight: float | None,
    report: Path | None,
    resamples: int,
    verbose: bool,
    max_rejects: float,
    seed: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure ARTIFACT on TRAFFIC that it wasn't fitted on: that every tier answered, or, with --off-policy, a log as it comes.

    \b
    router-ml evaluate router.onnx held-out.parquet --report report.html
    router-ml evaluate router.onnx logs/*.parquet --off-policy --threshold 0.7

    The options of a decision (--at to --ignore-novelty) are for --off-policy, and say which policy to judge; without it, all are.
    Where the log can't answer for the router, exit code 1, but what it tells of single tiers is printed.
    """
    options = given(options)
    if options and not off_policy:
        raise click.UsageError(
            "The options of a decision (--at, --threshold, --lam, --max-loss, ...) are for --off-policy; traffic that every tier "
            "answered tells of the whole menu. Leave them out."
        )
    if off_policy and report is not None:
        raise click.UsageError("--report is for traffic that every tier answered; leave it out with --off-policy.")
    with train_extra("evaluate"):
        from router_ml import workflow
        from router_ml.evaluation.report import html_report, text_report
        from router_ml.workflow import durations

        router = load_router(artifact, options)
        if off_policy:
            found = workflow.evaluate_off_policy(
                router, traffic, random_state=seed, max_rejects=max_rejects, max_weight=max_weight, **options
            )
            click.echo(json.dumps(found.to_dict()) if as_json else found.to_text())
            found.require_router()
            return
        durations.announce("Evaluating on", traffic, *durations.evaluate_seconds(resamples))
        evaluation = workflow.evaluate_router(
            router, traffic, random_state=seed, max_rejects=max_rejects, n_resamples=resamples
        )
        if report is not None:
            page = html_report(
                evaluation,
                workflow.figures(evaluation, workflow.curve_of(router)),
                title=f"{artifact.name} on {', '.join(p.name for p in traffic)}",
                facts=workflow.report_facts(router, evaluation),
            )
            with replacing(report) as temporary:
                temporary.write_text(page, encoding="utf-8")
    if as_json:
        click.echo(json.dumps(evaluation.to_dict()))
        return
    click.echo(text_report(evaluation, verbose=verbose))
    echo_guarantees(router.metadata.guarantees)


@click.command()
@ARTIFACT
@TRAFFIC
@click.option(
    "--budget-usd",
    required=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Spend at most so much on exploring, beyond serving.",
)
@click.option(
    "--prompts", "n_prompts", required=True, type=click.IntRange(min=1), help="Plan for so many prompts to come."
)
@click.option(
    "--max-epsilon",
    default=0.2,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Explore at most this share of a stratum.",
)
@click.option(
    "--by",
    type=click.Choice(["category", "source", "p_meets"]),
    help="Make strata by this; without it, by the first of these that varies.",
)
@MAX_REJECTS
@JSON
def explore(
    artifact: Path,
    traffic: tuple[Path, ...],
    budget_usd: float,
    n_prompts: int,
    max_epsilon: float,
    by: Literal["category", "source", "p_meets"] | None,
    max_rejects: float,
    as_json: bool,
) -> None:
    """Plan which prompts to send to which other tier, how often, and what to log, so that the next log can train and judge a router.

    \b
    router-ml explore router.onnx traffic.parquet --budget-usd 50 --prompts 100000
    """
    with train_extra("explore"):
        from router_ml import workflow

        plan = workflow.plan_router_exploration(
            load_router(artifact),
            traffic,
            budget_usd=budget_usd,
            n_prompts=n_prompts,
            max_epsilon=max_epsilon,
            by=by,
            max_rejects=max_rejects,
        )
    click.echo(json.dumps(plan.to_dict()) if as_json else plan.to_text())


@click.command()
@ARTIFACT
@click.argument("traffic", nargs=-1, type=SOURCE)
@out_option(".onnx", "Write the other file here (.onnx).")
@click.option(
    "--weights",
    type=click.Choice(["float16", "int8"]),
    help="Store the tables of tokens, words and pairs as these; of a transformer int8 only, and its matrices too.",
)
@click.option(
    "--prune", is_flag=True, help="Keep the vectors of the tokens in TRAFFIC, one for all others, and no rows of zeros."
)
@click.option("--text-in", is_flag=True, help="Put the tokenizer into the graph, for onnxruntime-extensions.")
@MAX_REJECTS
@JSON
def export(
    artifact: Path,
    traffic: tuple[Path, ...],
    out: Path,
    weights: Literal["float16", "int8"] | None,
    prune: bool,
    text_in: bool,
    max_rejects: float,
    as_json: bool,
) -> None:
    """Make another file from ARTIFACT: a smaller one, or one that takes text, and compare it with ARTIFACT on TRAFFIC.

    Without TRAFFIC both are compared on prompts of our own. What is lost in AIQ takes TRAFFIC with judged answers of every tier.

    \b
    router-ml export router.onnx traffic.parquet --weights int8 --prune --out small.onnx
    router-ml export router.onnx --text-in --out router-text.onnx
    """
    if not (weights or prune or text_in):
        raise click.UsageError("Nothing is asked for; give --weights, --prune or --text-in.")
    if prune and not traffic:
        raise click.UsageError("--prune needs TRAFFIC: its tokens are the ones to keep.")
    not_an_input(out, (artifact, *traffic))
    compression = parity = None
    with train_extra("export"), tempfile.TemporaryDirectory() as folder:
        from router_ml import workflow

        source = artifact
        if weights or prune:
            source = Path(folder) / "small.onnx" if text_in else out
            compression = workflow.compress_router(
                artifact, source, traffic, weights=weights, prune=prune, max_rejects=max_rejects
            )
        if text_in:
            parity = workflow.add_text_to_router(source, out, traffic, max_rejects=max_rejects)
    if as_json:
        parts = {"compression": compression and compression.to_dict(), "text_in": parity and dataclasses.asdict(parity)}
        click.echo(json.dumps({"artifact": str(out), **parts}))
        return
    if compression is not None:
        click.echo(compression.summary())
    if parity is not None:
        click.echo(f"Text in: p_meets differs by at most {parity.max_difference:.2g} on {parity.n_prompts} prompts")
    click.echo(f"Written: {out}")


@click.command()
@ARTIFACT
@click.option(
    "--prompts",
    type=READ_FILE,
    help="Text file (UTF-8) to cut the prompts from, each asked once; without it, plain English, over and over.",
)
@click.option(
    "--threads",
    default=1,
    show_default=True,
    type=click.IntRange(min=1, max=256),
    help="Measure so many threads at once, too.",
)
@click.option(
    "--calls", default=2000, show_default=True, type=click.IntRange(min=10), help="Calls behind each percentile."
)
@click.option(
    "--seconds",
    default=20.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Calls of one length end then, if there were fewer.",
)
@JSON
@click.pass_obj
def bench(
    progress: bool, artifact: Path, prompts: Path | None, threads: int, calls: int, seconds: float, as_json: bool
) -> None:
    """Measure what a decision costs on this machine: latency by prompt length, throughput by batch size.

    \b
    router-ml bench router.onnx --prompts prompts.txt --threads 2
    """
    from router_ml.bench.latency import bench as measure

    # click's, since the core is used without tqdm.
    with click.progressbar(length=1, label="bench", file=sys.stderr if progress else io.StringIO()) as bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        result = measure(artifact, prompts=prompts, threads=threads, calls=calls, seconds=seconds, on_progress=show)
    click.echo(json.dumps(result.to_dict()) if as_json else result.to_text())
