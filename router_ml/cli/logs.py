"""Commands that bring logs in, and fill in what they lack."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import click

from router_ml._atomic import replacing
from router_ml.cli.options import (
    ENCODER,
    JSON,
    MAX_REJECTS,
    READ_FILE,
    SEED,
    TRAFFIC,
    WRITE_FILE,
    GivenPath,
    OutFile,
    echo_rejects,
    load_router,
    not_an_input,
    out_option,
    read_ladder,
    train_extra,
    usage,
)

FORMATS = (
    "openai-batch",
    "openai-stored",
    "openrouter",
    "helicone",
    "litellm",
    "langfuse",
    "otel",
    "mlflow",
    "routerbench",
    "routellm",
    "table",
)
"""What `ingest` reads: the names in ``router_ml.importers``, which isn't imported for the sake of a help page."""

TABLES = ("csv", "jsonl", "parquet")
"""Other names of `table`."""


class _Format(click.Choice[str]):
    """A format by its name; other names of one, and those of plug-ins, are accepted and not listed."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in TABLES or (value not in FORMATS and value in _plugin_formats()):
            return value
        return super().convert(value, param, ctx)


def _plugin_formats() -> set[str]:
    """Names of importers that other packages bring."""
    from importlib.metadata import entry_points

    return entry_points(group="router_ml.importers").names


_PATHS = click.argument("paths", nargs=-1, required=True, type=GivenPath(path_type=str))
_OUT = out_option(".parquet", "Write the table here (.parquet).")
_TIERS_REQUIRED = click.option("--tiers", required=True, type=READ_FILE, help="The ladder (YAML).")


@click.command()
@click.argument("format", type=_Format(FORMATS))
@_PATHS
@_OUT
@click.option("--quality-from", help="Take the quality from the feedback, score or column of this name.")
@click.option(
    "--quality-scale",
    default="auto",
    show_default=True,
    help="Say what it means: auto (thumbs, true/false, 0 to 1), stars, a range such as 1..10, or good=1,fair=0.5,poor=0.",
)
@click.option(
    "--keep-failed", is_flag=True, help="Keep failed calls, as rows of quality 0; without it they are skipped."
)
@click.option(
    "--model-from",
    default="response",
    show_default=True,
    type=click.Choice(["response", "request"]),
    help="Name the model as it answered (gpt-4.1-2025-04-14), or as it was asked for (gpt-4.1).",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    help="Take a column of the traffic from another one of a table: prompt=question; several times.",
)
@click.option("--date-format", help="Read created_at of a table in this form of Python's strptime: '%m/%d/%Y %H:%M'.")
@click.option(
    "--default", "defaults", multiple=True, help="Fill a column that the log lacks: model=gpt-4.1; several times."
)
@click.option("--redact", is_flag=True, help="Replace secrets and personal data before anything is written.")
@click.option(
    "--redact-kind", "kinds", multiple=True, help="Replace this kind only; several times. Without it, all kinds."
)
@click.option(
    "--phone-region",
    "regions",
    multiple=True,
    default=("US",),
    show_default=True,
    help="Look for national phone numbers of this country; several times.",
)
@click.option(
    "--similarity",
    type=click.FloatRange(0, 1, min_open=True),
    help="Look for near duplicates: prompts that are at least so alike, such as 0.8.",
)
@click.option("--drop-duplicates", is_flag=True, help="Keep one of each group of duplicates for each model.")
@click.option("--track", is_flag=True, help="Log the data card to MLflow.")
@click.option("--card", type=WRITE_FILE, help="Write the data card here (Markdown).")
@MAX_REJECTS
@SEED
@JSON
@click.pass_obj
def ingest(
    progress: bool,
    format: str,  # noqa: A002
    paths: tuple[str, ...],
    out: Path,
    quality_from: str | None,
    quality_scale: str,
    keep_failed: bool,
    model_from: str,
    columns: tuple[str, ...],
    date_format: str | None,
    defaults: tuple[str, ...],
    redact: bool,
    kinds: tuple[str, ...],
    regions: tuple[str, ...],
    similarity: float | None,
    drop_duplicates: bool,
    track: bool,
    card: Path | None,
    max_rejects: float,
    seed: int,
    as_json: bool,
) -> None:
    """Import logs of FORMAT from PATHS (files, folders, globs, or an address) into a traffic table.

    \b
    router-ml ingest openai-batch batch_input.jsonl batch_output.jsonl --out traffic.parquet
    router-ml ingest litellm spend_logs.jsonl --redact --card card.md --out traffic.parquet
    router-ml ingest table logs/*.csv --column prompt=question --column model=engine --out traffic.parquet
    """
    from tqdm import tqdm

    not_an_input(out, tuple(Path(p) for p in paths))
    with train_extra("ingest"):
        from router_ml.importers import ImportOptions, Progress, Scale, check_options, get_importer
        from router_ml.traffic.cleaning.redact import KINDS
        from router_ml.workflow.ingest import IngestOptions
        from router_ml.workflow.ingest import ingest as run

        with usage():
            importer = get_importer(format)
            importing = ImportOptions(
                quality_from=quality_from,
                scale=Scale.parse(quality_scale),
                keep_failed=keep_failed,
                model_from=model_from,
                columns=_pairs("--column", columns),
                date_format=date_format,
                defaults=_pairs("--default", defaults),
            )
            check_options(importer, importing)
            options = IngestOptions(
                importing,
                redact=kinds or (tuple(sorted(KINDS)) if redact else ()),
                phone_regions=regions,
                similarity=similarity,
                drop_duplicates=drop_duplicates,
                max_rejects=max_rejects,
                random_state=seed,
            )
        with tqdm(desc=format, unit="B", unit_scale=True, disable=not progress) as bar:

            def show(now: Progress) -> None:
                bar.total = now.total_bytes
                bar.update(now.n_bytes - bar.n)
                bar.set_postfix_str(f"{now.n_rows:,} rows", refresh=False)

            ingested = run(format, paths, out, options=options, on_progress=show, track=track)
    if card is not None:
        with replacing(card) as temporary:
            temporary.write_text(ingested.card.to_markdown(), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(ingested.to_dict()))
        return
    click.echo(ingested.card.to_text())
    click.echo(f"\n{ingested.result.summary()}\nTraffic: {out}")
    if unused := ingested.result.unused_text():
        click.echo(unused)
    if not ingested.result.n_with_quality:
        click.echo(
            "No row has a quality, which 'fit' learns from: name the log's feedback with --quality-from, or have the answers judged: "
            f"router-ml judge {shlex.quote(str(out))} --judge judge.yaml --out judged.parquet"
        )
    echo_rejects(ingested.result.rejects)


@click.command()
@TRAFFIC
@_TIERS_REQUIRED
@_OUT
@click.option(
    "--endpoints",
    type=READ_FILE,
    help="Reach the tiers as this file says (YAML); without it, OpenAI serves all.",
)
@click.option(
    "--choose",
    default="all",
    show_default=True,
    type=click.Choice(["all", "random", "informative"]),
    help="Ask all prompts in order, in random order, or the most informative first.",
)
@click.option("--n-prompts", type=click.IntRange(min=1), help="Ask at most so many prompts.")
@click.option(
    "--max-usd", type=click.FloatRange(min=0, min_open=True), help="Spend at most so much, over all runs of a journal."
)
@click.option("--dry-run", is_flag=True, help="Say what it would cost and how long it would take; nothing is sent.")
@click.option("--batch", is_flag=True, help="Ask through the Batch API, at its price.")
@click.option(
    "--router",
    "artifact",
    type=READ_FILE,
    help="For --choose informative: ask first what this artifact is uncertain of.",
)
@click.option(
    "--journal",
    type=WRITE_FILE,
    help="Keep here what makes the replay resumable; without it, beside the output.",
)
@MAX_REJECTS
@SEED
@JSON
@click.pass_obj
def replay(
    progress: bool,
    traffic: tuple[Path, ...],
    tiers: Path,
    out: Path,
    endpoints: Path | None,
    choose: str,
    n_prompts: int | None,
    max_usd: float | None,
    dry_run: bool,
    batch: bool,
    artifact: Path | None,
    journal: Path | None,
    max_rejects: float,
    seed: int,
    as_json: bool,
) -> None:
    """Ask the tiers that TRAFFIC lacks, within a budget. Killed at any moment, the same command goes on where it was.

    \b
    router-ml replay traffic.parquet --tiers tiers.yaml --choose random --n-prompts 500 --dry-run --out more.parquet
    router-ml replay traffic.parquet --tiers tiers.yaml --choose random --n-prompts 500 --max-usd 20 --out more.parquet
    """
    if max_usd is None and not dry_run:
        raise click.UsageError("Give --max-usd, the most that this may cost; --dry-run estimates it.")
    not_an_input(out, traffic)
    with train_extra("replay"):
        from router_ml.ladder import Ladder
        from router_ml.replay import Endpoint, ReplayOptions, estimate_replay, read_endpoints
        from router_ml.replay import replay as run
        from router_ml.workflow import read_traffic

        read = read_traffic(traffic, max_rejects=max_rejects)
        ladder = Ladder.from_yaml(tiers)
        reached = [Endpoint()] * len(ladder) if endpoints is None else read_endpoints(endpoints, ladder)
        router = None if artifact is None else load_router(artifact)
        options = ReplayOptions(
            choose=choose,  # type: ignore[arg-type]  # click has checked it
            n_prompts=n_prompts,
            max_usd=max_usd,
            batch=batch,
            progress=progress,
            random_state=seed,
        )
        if dry_run:
            estimate = estimate_replay(read.traffic, ladder, reached, options=options, router=router)
            click.echo(json.dumps(dataclasses.asdict(estimate)) if as_json else estimate.summary())
            return
        kept = journal or out.with_name(f"{out.stem}.journal.sqlite")
        rows, report = run(read.traffic, ladder, reached, journal=kept, options=options, router=router)
    with replacing(out) as temporary:
        rows.write_parquet(temporary)
    rejects = read.write_rejects(out)
    if as_json:
        content = {"out": str(out), "journal": str(kept), "rejects": rejects and str(rejects)}
        click.echo(json.dumps({**content, **dataclasses.asdict(report)}))
        return
    click.echo(f"{report.summary()}\nTraffic: {out}, not judged yet; journal: {kept}")
    echo_rejects(rejects)


@click.command()
@TRAFFIC
@click.option(
    "--judge",
    "config",
    required=True,
    type=READ_FILE,
    help="Judge by the rules of this file (YAML).",
)
@_OUT
@click.option("--tiers", type=READ_FILE, help="The ladder (YAML).")
@click.option("--cache", type=WRITE_FILE, help="Keep verdicts in this file, and go on from those in it.")
@click.option(
    "--max-usd",
    type=click.FloatRange(min=0, min_open=True),
    help="Spend at most so much; without it, what judge.yaml says.",
)
@click.option(
    "--labels",
    type=READ_FILE,
    help="Compare the judge with people's qualities in this file (prompt_id, model, quality).",
)
@click.option(
    "--bar",
    default=0.8,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Compare by this bar.",
)
@click.option("--grades", type=OutFile(".parquet"), help="Write each grade, with its reason, here (.parquet).")
@ENCODER
@MAX_REJECTS
@SEED
@JSON
@click.pass_obj
def judge(
    progress: bool,
    traffic: tuple[Path, ...],
    config: Path,
    out: Path,
    tiers: Path | None,
    cache: Path | None,
    max_usd: float | None,
    labels: Path | None,
    bar: float,
    grades: Path | None,
    encoder: str,
    max_rejects: float,
    seed: int,
    as_json: bool,
) -> None:
    """Give the answers of TRAFFIC a quality, by the graders of judge.yaml; with --labels say how far they agree with people.

    \b
    router-ml judge more.parquet --judge judge.yaml --max-usd 5 --cache votes.sqlite --out judged.parquet
    """
    from tqdm import tqdm

    not_an_input(out, traffic)
    with train_extra("judge"):
        from router_ml.judge import JudgeConfig, judge_traffic
        from router_ml.traffic.calls import spoken
        from router_ml.workflow import read_traffic
        from router_ml.workflow.durations import judge_seconds
        from router_ml.workflow.judge import compare_with_people, embedding, read_labels

        ladder = read_ladder(tiers)
        people = None if labels is None else read_labels(labels)
        rules = JudgeConfig.from_yaml(config)
        read = read_traffic(traffic, max_rejects=max_rejects, extra=rules.traffic_columns)
        if progress and (seconds := judge_seconds(read.traffic, rules)):
            click.echo(f"Judging takes about {spoken(seconds)}, less what the cache holds.", err=True)
        with tqdm(desc="judge", unit="answer", disable=not progress) as shown:

            def show(done: int, total: int, usd: float) -> None:
                shown.total = total
                shown.set_postfix_str(f"${usd:.4f}", refresh=False)
                shown.update(done - shown.n)

            result = judge_traffic(
                read.traffic,
                rules,
                embed=embedding(encoder),
                cache=cache,
                max_usd=max_usd,
                top_model=None if ladder is None else ladder.models[-1],
                on_progress=show,
            )
        # What was paid for is kept, whatever becomes of the comparison.
        with replacing(out) as temporary:
            result.traffic.write_parquet(temporary)
        if grades is not None:
            with replacing(grades) as temporary:
                result.grades.write_parquet(temporary)
        rejects = read.write_rejects(out)
        agreement = None if people is None else compare_with_people(result, people, bar=bar, random_state=seed)
    if as_json:
        content: dict[str, Any] = {"out": str(out), "rejects": rejects and str(rejects), **result.to_dict()}
        click.echo(json.dumps(content | ({} if agreement is None else agreement.to_dict())))
        return
    click.echo(result.summary())
    if agreement is not None:
        click.echo(agreement.summary())
    click.echo(f"Traffic: {out}")
    echo_rejects(rejects)


def _pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise click.UsageError(f"{option} is {text!r}; it needs to be NAME=VALUE.")
        pairs[name] = value
    return pairs
