"""The command line. Every command imports what it needs when it runs, so that ``router-ml --help`` is instant.

Results go to stdout, progress and logs to stderr. Exit codes: 0 done, 1 the work failed, 2 wrong usage (an option or argument that
can't be kept, found before any traffic is read), 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import click

from router_ml.cli import logs, measuring, serving, training
from router_ml.errors import RouterError

__all__ = ["main"]


_SECTIONS: tuple[tuple[str, tuple[tuple[click.Command, str], ...]], ...] = (
    (
        "Get traffic",
        (
            (training.sample, "Write simulated traffic and its ladder, to try things out."),
            (logs.ingest, "Import logs: LiteLLM, Langfuse, OpenAI, OpenTelemetry, CSV, ..."),
            (logs.replay, "Ask the tiers that never answered, within a budget."),
            (logs.judge, "Give answers a quality, by rules or by a model."),
        ),
    ),
    (
        "Train and measure",
        (
            (training.fit, "Fit a router on traffic: one ONNX file."),
            (measuring.evaluate, "Measure a router on traffic that it hasn't seen."),
            (measuring.explore, "Plan which prompts to try on other tiers, for a budget."),
            (measuring.export, "Make a smaller file of a router, or one that takes text."),
        ),
    ),
    (
        "Decide",
        (
            (serving.route, "Route a prompt, or JSON lines on stdin."),
            (serving.explain, "Say why a prompt goes where it goes."),
            (serving.inspect, "Say what is in a router, without running it."),
            (measuring.bench, "Measure what a decision costs on this machine."),
        ),
    ),
    (
        "Single steps of fit",
        (
            (training.label, "Label each prompt with the cheapest tier that met the bar."),
            (training.embed, "Embed the prompts."),
        ),
    ),
)
"""The commands in the order of their use, with what the page of all of them says of each."""

_INTERRUPTED = 130
"""128 + SIGINT, as shells count (https://tldp.org/LDP/abs/html/exitcodes.html)."""


class _Group(click.Group):
    """Turns our errors into one line on stderr and exit code 1, and lists the commands by section."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [str(command.name) for _, commands in _SECTIONS for command, _ in commands]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        width = max(map(len, self.commands))
        for title, commands in _SECTIONS:
            with formatter.section(title):
                formatter.write_dl([(str(command.name).ljust(width), text) for command, text in commands])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RouterError as exc:
            click.echo(f"Error: {' '.join(str(exc).split())}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            ctx.exit(_INTERRUPTED)
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
    router-ml sample --out traffic.parquet            # or your own logs: router-ml ingest
    router-ml fit traffic.parquet --out router.onnx
    router-ml evaluate router.onnx held-out.parquet
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


for _, _commands in _SECTIONS:
    for _command, _ in _commands:
        main.add_command(_command)
