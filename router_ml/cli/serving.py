"""Commands that use an artifact."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from router_ml.cli.options import (
    ARTIFACT,
    JSON,
    decision_options,
    echo_guarantees,
    given,
    load_router,
)

if TYPE_CHECKING:
    from router_ml.core.decision import Decision
    from router_ml.core.request import Options


@click.command()
@ARTIFACT
@click.argument("prompt", required=False)
@decision_options
@JSON
def route(artifact: Path, prompt: str | None, as_json: bool, **options: Any) -> None:
    """Route PROMPT, or, with -, the JSON lines on stdin: each a string, a list of chat messages, or an object with 'prompt' or 'messages'.

    What an object asks of a tier as a chat completion's request does (tools, response_format, max_tokens) is seen.

    \b
    router-ml route router.onnx "What is the capital of Peru?"
    router-ml route router.onnx - < prompts.jsonl
    """
    options = given(options)
    router = load_router(artifact, options)
    if prompt is not None and prompt != "-":
        decision = router.route(prompt, **options)
        click.echo(
            json.dumps(_decision(decision)) if as_json else f"{decision.tier}\t{decision.model}\n{decision.explanation}"
        )
        return
    from router_ml.errors import QueryError

    for number, query, asked in _queries(sys.stdin.buffer):
        try:
            decision = router.route(query, **_both(asked, options))
        except QueryError as exc:
            raise QueryError(f"Line {number} of stdin: {exc}") from exc
        click.echo(json.dumps(_decision(decision)))


@click.command()
@ARTIFACT
@click.argument("prompt")
@decision_options
@JSON
def explain(artifact: Path, prompt: str, as_json: bool, **options: Any) -> None:
    """Say why PROMPT, or with - the first JSON line on stdin, goes where it goes: what is expected of each tier, and which may take it.

    \b
    router-ml explain router.onnx "What is the capital of Peru?" --max-cost-usd 0.001
    """
    options = given(options)
    router = load_router(artifact, options)
    query: Any = prompt
    if prompt == "-":
        first = next(_queries(sys.stdin.buffer), None)
        if first is None:
            raise click.UsageError("Nothing is on stdin; give a JSON line, or PROMPT.")
        _, query, asked = first
        options = _both(asked, options)
    explanation = router.explain(query, **options)
    click.echo(json.dumps(explanation.to_dict()) if as_json else explanation.to_text())


@click.command()
@ARTIFACT
@JSON
def inspect(artifact: Path, as_json: bool) -> None:
    """Say what is in ARTIFACT, without running it.

    \b
    router-ml inspect router.onnx --json
    """
    from router_ml.core.align import align
    from router_ml.core.artifact import read_artifact

    content = read_artifact(artifact)
    metadata = json.loads(content.metadata.to_json())
    for encoder in metadata["side_encoders"]:
        del encoder["tokenizer"]  # of no more use to a reader than that of the first, which isn't among the metadata
    if as_json:
        click.echo(json.dumps(metadata))
        return
    menu = content.metadata.menu
    click.echo(menu.headline)
    click.echo("")
    for line in align([menu.columns, *menu.rows], left=(0, 6, 7)):
        click.echo(line)
    for note in (*menu.notes, f"Default: {content.metadata.point()}."):
        click.echo(note)
    click.echo("")
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
    click.echo(f"reference tier: {metadata['reference']}")
    echo_guarantees(content.metadata.guarantees)
    novelty = metadata["novelty_threshold"]
    click.echo("novelty: ignored" if novelty is None else f"novelty: above {novelty:.3g} to the reference tier")
    click.echo(f"acceptance of answers: {'learned' if content.acceptance else 'not learned (fit --cascade)'}")
    for line in _readable(metadata["provenance"]):
        click.echo(line)


def _readable(facts: Mapping[str, Any]) -> Iterator[str]:
    """A line for each fact that is known; what it is made of in words."""
    for key, value in facts.items():
        if key == "learning_curve":
            value = ", ".join(f"{100 * gap:.1f} % at {n:,}" for n, gap in value)
        elif isinstance(value, Mapping):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        if value not in (None, ""):
            yield f"{key.replace('_', ' ')}: {value}"


def _decision(decision: Decision) -> dict[str, Any]:
    return decision._asdict()


def _both(asked: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """What a request asks for, and what the command line does."""
    both = {**asked, **options}
    requires = {*asked.get("requires", ()), *options.get("requires", ())}
    return {**both, "requires": tuple(sorted(requires))} if requires else both


def _queries(lines: Any) -> Iterator[tuple[int, Any, Options]]:
    """The queries of JSON lines, with their line numbers, and what they ask of a tier; raises QueryError naming the line that isn't one."""
    from router_ml.core.request import options_of
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
        asked: Options = {}
        if isinstance(value, dict):
            if not value.keys() & {"messages", "prompt"}:
                raise QueryError(
                    f"Line {number} of stdin is an object with neither 'prompt' nor 'messages'; give one of them."
                )
            asked = options_of(value)
            value = value.get("messages", value.get("prompt"))
        yield number, value, asked
