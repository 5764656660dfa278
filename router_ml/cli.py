"""The command line. Every command imports what it needs when it runs, so that ``router-ml --help`` is instant.

Results go to stdout, progress and logs to stderr. Exit codes: 0 done, 1 the work failed, 2 wrong usage.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import click

from router_ml.errors import MissingExtraError, RouterError

if TYPE_CHECKING:
    from router_ml.core.decision import Decision
    from router_ml.core.router import Router
    from router_ml.ladder import Ladder
    from router_ml.traffic.labels import Bar

__all__ = ["main"]

_TRAFFIC = click.argument("traffic", nargs=-1, required=True, type=click.Path(path_type=Path))
_ARTIFACT = click.argument("artifact", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_TIERS = click.option(
    "--tiers",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The ladder (YAML); without it, the models of the traffic.",
)
_BAR = click.option(
    "--bar",
    default="0.8",
    show_default=True,
    help="Quality that an answer has to reach: 0.8, or 0.95x of the reference tier's.",
)
_REFERENCE = click.option(
    "--reference", help="Reference tier of a relative bar; without it, the tier of best mean quality."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_ENCODER = click.option(
    "--encoder",
    default="static",
    show_default=True,
    help="static, openai:MODEL, or a sentence-transformers folder or hub name.",
)
_CACHE = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="ROUTER_ML_CACHE",
    help="Folder of the embedding cache; without it nothing is cached.",
)
_MAX_REJECTS = click.option(
    "--max-rejects",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of unusable rows that is put up with.",
)
_SEED = click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of all that is random."
)


class _Group(click.Group):
    """Turns our errors into one line on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RouterError as exc:
            click.echo(f"Error: {' '.join(str(exc).split())}", err=True)
            ctx.exit(1)
        except BrokenPipeError:
            # The reader of our output has gone; there is nobody left to tell.
            sys.stderr.close()
            ctx.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="router-ml")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no notes on stderr.")
@click.pass_context
def main(ctx: click.Context, quiet: bool) -> None:
    """Train an LLM router on logged traffic, and route with it.

    \b
    router-ml sample --out traffic.parquet          # or your own logs
    router-ml fit traffic.parquet --out router.onnx
    router-ml route router.onnx "Summarise this: ..."
    """
    ctx.obj = not quiet
    logger = logging.getLogger("router_ml")
    logger.handlers[:] = [_Stderr()]
    logger.setLevel(logging.WARNING if quiet else logging.INFO)


class _Stderr(logging.Handler):
    """Log to what stderr is when a record comes."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


@main.command()
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where the table goes (Parquet)."
)
@click.option("--n-prompts", default=3000, show_default=True, type=click.IntRange(min=1))
@click.option("--logged", is_flag=True, help="One tier a prompt, chosen by a logging policy, with propensities.")
@_SEED
def sample(out: Path, n_prompts: int, logged: bool, seed: int) -> None:
    """Write simulated traffic, to try things out. None of it was answered by a real model.

    \b
    router-ml sample --n-prompts 1000 --out traffic.parquet
    """
    with _train_extra("sample"):
        from router_ml.traffic.sample import TIERS_PATH, simulate

        frame = simulate(n_prompts, random_state=seed, logged=logged)
    with _replacing(out) as temporary:
        frame.write_parquet(temporary)
    click.echo(f"{frame.height:,} simulated rows in {out}; their ladder is {TIERS_PATH}")


@main.command()
@_TRAFFIC
@_TIERS
@_BAR
@_REFERENCE
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where the labels go (Parquet)."
)
@_MAX_REJECTS
@_JSON
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
    _not_an_input(out, traffic)
    with _train_extra("label"):
        from router_ml import workflow
        from router_ml.traffic.labels import count_labels

        read = workflow.read_traffic(traffic, max_rejects=max_rejects)
        labels, ladder, _ = workflow.label_traffic(read.traffic, _ladder(tiers), _bar(bar, reference))
    with _replacing(out) as temporary:
        labels.write_parquet(temporary)
    read.write_rejects(out)
    counts = dict(count_labels(labels, ladder).iter_rows())
    if as_json:
        by = {c: count_labels(labels, ladder, c).rows() for c in ("source", "category")}
        slices = {c: [{c: v, "label": lab, "n": n} for v, lab, n in rows] for c, rows in by.items()}
        click.echo(json.dumps({"out": str(out), "labels": counts, "slices": slices}))
        return
    _echo_counts("label", counts)
    for column in ("source", "category"):
        if labels[column].n_unique() > 1:
            _echo_counts(
                f"{column}: label", {f"{v}: {lab}": n for v, lab, n in count_labels(labels, ladder, column).iter_rows()}
            )
    click.echo(f"Labels of {labels.height:,} prompts in {out}")


@main.command()
@_TRAFFIC
@_ENCODER
@_CACHE
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the embeddings go (Parquet: prompt_id, n_chars, embedding).",
)
@_MAX_REJECTS
@click.pass_obj
def embed(
    progress: bool, traffic: tuple[Path, ...], encoder: str, cache: Path | None, out: Path, max_rejects: float
) -> None:
    """Embed the prompts of TRAFFIC.

    \b
    router-ml embed traffic.parquet --encoder openai:text-embedding-3-small --cache .cache --out embeddings.parquet
    """
    _not_an_input(out, traffic)
    with _train_extra("embed"):
        from router_ml import workflow

        read = workflow.read_traffic(traffic, max_rejects=max_rejects)
        table = workflow.embed_table(read.traffic, encoder, cache=cache, progress=progress)
    with _replacing(out) as temporary:
        table.write_parquet(temporary)
    read.write_rejects(out)
    click.echo(f"Embeddings of {table.height:,} prompts in {out}")


@main.command()
@_TRAFFIC
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where the artifact goes (.onnx)."
)
@_TIERS
@_BAR
@_REFERENCE
@click.option(
    "--learner",
    default="auto",
    show_default=True,
    help="auto (a small search), or logistic, ngram, knn, boosting, mlp, stack, distilled, constant.",
)
@_ENCODER
@_CACHE
@click.option(
    "--quality-target",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="The default setting keeps this share of the best single tier's quality.",
)
@click.option(
    "--cascade",
    is_flag=True,
    help="Learn from the logged responses, too, when to accept an answer and when to ask another tier.",
)
@click.option("--no-track", is_flag=True, help="Don't log the run to MLflow.")
@_MAX_REJECTS
@_SEED
@_JSON
@click.pass_obj
def fit(
    progress: bool,
    traffic: tuple[Path, ...],
    out: Path,
    tiers: Path | None,
    bar: str,
    reference: str | None,
    learner: str,
    encoder: str,
    cache: Path | None,
    quality_target: float,
    cascade: bool,
    no_track: bool,
    max_rejects: float,
    seed: int,
    as_json: bool,
) -> None:
    """Fit a router on TRAFFIC: label, embed, learn, calibrate, export and track, in one call.

    \b
    router-ml fit logs/*.parquet --out router.onnx
    router-ml fit traffic.jsonl --tiers tiers.yaml --bar 0.95x --learner knn --out router.onnx
    """
    _not_an_input(out, traffic)
    with _train_extra("fit"):
        from router_ml import workflow
        from router_ml.evaluation.report import text_report

        options = workflow.FitOptions(
            bar=_bar(bar, reference),
            learner=learner,
            encoder=encoder,
            quality_target=quality_target,
            cascade=cascade,
            cache=cache,
            random_state=seed,
            max_rejects=max_rejects,
            progress=progress,
        )
        result = workflow.fit(traffic, out, ladder=_ladder(tiers), options=options, track=not no_track)
    if as_json:
        click.echo(json.dumps(result.to_dict()))
        return
    if result.evaluation is not None:
        click.echo("Cross-validated on the traffic given:\n")
        click.echo(text_report(result.evaluation))
    click.echo(result.summary())


@main.command()
@_ARTIFACT
@_TRAFFIC
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML report here.")
@click.option(
    "--resamples", default=1000, show_default=True, type=click.IntRange(min=10), help="Resamples of the bootstrap."
)
@_MAX_REJECTS
@_SEED
@_JSON
def evaluate(
    artifact: Path,
    traffic: tuple[Path, ...],
    report: Path | None,
    resamples: int,
    max_rejects: float,
    seed: int,
    as_json: bool,
) -> None:
    """Measure ARTIFACT on TRAFFIC that it wasn't fitted on, and that every tier answered.

    \b
    router-ml evaluate router.onnx held-out.parquet --report report.html
    """
    with _train_extra("evaluate"):
        from router_ml import workflow
        from router_ml.evaluation.report import html_report, text_report

        router = _load(artifact)
        evaluation = workflow.evaluate_router(
            router, traffic, random_state=seed, max_rejects=max_rejects, n_resamples=resamples
        )
        if report is not None:
            page = html_report(
                evaluation,
                workflow.figures(evaluation),
                title=f"{artifact.name} on {', '.join(p.name for p in traffic)}",
                facts=workflow.report_facts(router, evaluation),
            )
            with _replacing(report) as temporary:
                temporary.write_text(page, encoding="utf-8")
    click.echo(json.dumps(evaluation.to_dict()) if as_json else text_report(evaluation))


@main.command()
@_ARTIFACT
@click.argument("traffic", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where the other file goes (.onnx)."
)
@click.option(
    "--weights",
    type=click.Choice(["float16", "int8"]),
    help="Store the token vectors as these; of a transformer int8 only, and its matrices too.",
)
@click.option("--prune", is_flag=True, help="Keep the vectors of the tokens in TRAFFIC, one for all others.")
@click.option("--text-in", is_flag=True, help="Put the tokenizer into the graph, for onnxruntime-extensions.")
@_MAX_REJECTS
@_JSON
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

    \b
    router-ml export router.onnx traffic.parquet --weights int8 --prune --out small.onnx
    router-ml export router.onnx --text-in --out router-text.onnx
    """
    if not (weights or prune or text_in):
        raise click.UsageError("Nothing is asked for; give --weights, --prune or --text-in.")
    if prune and not traffic:
        raise click.UsageError("--prune needs TRAFFIC: its tokens are the ones to keep.")
    _not_an_input(out, (artifact, *traffic))
    compression = parity = None
    with _train_extra("export"), tempfile.TemporaryDirectory() as folder:
        from router_ml import workflow
        from router_ml.learning.text_graph import add_text_input

        source = artifact
        if weights or prune:
            source = Path(folder) / "small.onnx" if text_in else out
            compression = workflow.compress_router(
                artifact, source, traffic, weights=weights, prune=prune, max_rejects=max_rejects
            )
        if text_in:
            parity = add_text_input(source, out)
    if as_json:
        parts = {"compression": compression and compression.to_dict(), "text_in": parity and dataclasses.asdict(parity)}
        click.echo(json.dumps({"artifact": str(out), **parts}))
        return
    if compression is not None:
        click.echo(compression.summary())
    if parity is not None:
        click.echo(f"Text in: p_meets differs by at most {parity.max_difference:.2g} on {parity.n_prompts} prompts")
    click.echo(f"Written: {out}")


@main.command()
@_ARTIFACT
@click.argument("prompt", required=False)
@click.option("--policy", type=click.Choice(["bar", "value"]), help="Without it, the artifact's default.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="For the policy bar; without it, the artifact's own.")
@click.option(
    "--lam",
    type=click.FloatRange(min=0),
    help="For the policy value: the quality that one US dollar is worth; without it, the artifact's own.",
)
@click.option("--allow", multiple=True, help="A tier that may be chosen; give it several times. Without it, all.")
@_JSON
def route(
    artifact: Path,
    prompt: str | None,
    policy: str | None,
    threshold: float | None,
    lam: float | None,
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Route PROMPT, or, with -, the JSON lines on stdin: each a string, a list of chat messages, or an object with 'prompt' or 'messages'.

    \b
    router-ml route router.onnx "What is the capital of Peru?"
    router-ml route router.onnx - < prompts.jsonl
    """
    options: dict[str, Any] = {"policy": policy, "threshold": threshold, "lam": lam, "allowed": allow or None}
    router = _load(artifact)
    if prompt is not None and prompt != "-":
        decision = router.route(prompt, **options)
        click.echo(
            json.dumps(_decision(decision)) if as_json else f"{decision.tier}\t{decision.model}\n{decision.explanation}"
        )
        return
    from router_ml.errors import QueryError

    for number, query in _queries(sys.stdin.buffer):
        try:
            decision = router.route(query, **options)
        except QueryError as exc:
            raise QueryError(f"Line {number} of stdin: {exc}") from exc
        click.echo(json.dumps(_decision(decision)))


@main.command()
@_ARTIFACT
@_JSON
def inspect(artifact: Path, as_json: bool) -> None:
    """Say what is in ARTIFACT, without running it.

    \b
    router-ml inspect router.onnx --json
    """
    from router_ml.core.artifact import Setting, read_artifact

    content = read_artifact(artifact)
    metadata = json.loads(content.metadata.to_json())
    if as_json:
        click.echo(json.dumps(metadata))
        return
    size = artifact.stat().st_size / 1e6
    click.echo(
        f"{artifact}: {size:.1f} MB, encoder {metadata['encoder']['name']}, learner {metadata['learner']['name']}"
    )
    click.echo(f"bar: quality >= {metadata['bar']['value']:g} ({metadata['bar']['kind']})")
    for tier in metadata["ladder"]:
        click.echo(
            f"tier {tier['name']}: {tier['model']}, ${tier['input_usd_per_mtok']:.4g} in, ${tier['output_usd_per_mtok']:.4g} out "
            f"per million tokens ({tier['price_source']})"
        )
    for setting in metadata["settings"]:
        click.echo(str(Setting(**setting)))
    click.echo(f"acceptance of answers: {'learned' if content.acceptance else 'not learned (fit --cascade)'}")
    for key, value in metadata["provenance"].items():
        click.echo(f"{key}: {value}")


@main.command()
@_ARTIFACT
@click.option(
    "--prompts", type=click.File(encoding="utf-8"), help="Text to build the prompts of; without it, plain English."
)
@click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(min=1), help="Measure so many threads at once, too."
)
@click.option(
    "--calls", default=2000, show_default=True, type=click.IntRange(min=10), help="Calls behind each percentile."
)
@_JSON
def bench(artifact: Path, prompts: TextIO | None, threads: int, calls: int, as_json: bool) -> None:
    """Measure what a decision costs on this machine: latency by prompt length, throughput by batch size.

    \b
    router-ml bench router.onnx --threads 2
    """
    from router_ml.core.bench import bench as measure

    result = measure(artifact, prompts=prompts.read().split() if prompts else (), threads=threads, calls=calls)
    click.echo(json.dumps(result.to_dict()) if as_json else result.to_text())


def _load(artifact: Path) -> Router:
    from router_ml.core.router import Router

    return Router.load(artifact)


def _ladder(path: Path | None) -> Ladder | None:
    from router_ml.ladder import Ladder

    return None if path is None else Ladder.from_yaml(path)


def _bar(text: str, reference: str | None) -> Bar:
    from router_ml.traffic.labels import Bar

    return Bar.parse(text, reference)


def _decision(decision: Decision) -> dict[str, Any]:
    return {**decision._asdict(), "explanation": decision.explanation}


def _queries(lines: Any) -> Iterator[tuple[int, Any]]:
    """The queries of JSON lines, with their line numbers; raises QueryError naming the line that isn't one."""
    from router_ml.errors import QueryError

    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise QueryError(
                f"Line {number} of stdin isn't JSON in UTF-8 ({exc}); give a string or an object a line."
            ) from exc
        if isinstance(value, dict):
            if not value.keys() & {"messages", "prompt"}:
                raise QueryError(
                    f"Line {number} of stdin is an object with neither 'prompt' nor 'messages'; give one of them."
                )
            value = value.get("messages", value.get("prompt"))
        yield number, value


def _echo_counts(title: str, counts: dict[str, int]) -> None:
    total = sum(counts.values())
    width = max(map(len, [title, *counts]))
    click.echo(f"{title:<{width}}  {'n':>8}  share")
    for name, n in counts.items():
        click.echo(f"{name:<{width}}  {n:>8,}  {n / total:5.1%}")
    click.echo("")


def _not_an_input(out: Path, inputs: tuple[Path, ...]) -> None:
    """Refuse an output that would take the place of what is read."""
    for path in inputs:
        if path.exists() and out.exists() and path.samefile(out):
            raise click.UsageError(f"--out {out} is also an input that is read; give another name.")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place at the end, if all went well."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as exc:
        raise RouterError(f"{path} can't be written: {exc.strerror or exc}.") from exc
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def _train_extra(command: str) -> Iterator[None]:
    """Say which extra is missing where an import fails."""
    try:
        yield
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.startswith("router_ml"):
            raise
        raise MissingExtraError("train", f"'router-ml {command}' ({exc.name})") from exc


if __name__ == "__main__":
    main()
