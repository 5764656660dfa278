"""The command line. Every command imports what it needs when it runs, so that ``router-ml --help`` is instant.

Results go to stdout, progress and logs to stderr. Exit codes: 0 done, 1 the work failed, 2 wrong usage:
an option or argument that can't be kept, found before any traffic is read.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import click

from router_ml.cli import logs, measuring, serving, training
from router_ml.errors import RouterError

__all__ = ["main"]


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


for command in (
    logs.ingest,
    logs.replay,
    logs.judge,
    training.sample,
    training.label,
    training.embed,
    training.fit,
    measuring.evaluate,
    measuring.explore,
    measuring.export,
    measuring.bench,
    serving.route,
    serving.explain,
    serving.inspect,
):
    main.add_command(command)
