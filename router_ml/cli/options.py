"""What the commands share: options by name, inputs and outputs, errors in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from router_ml.errors import MissingExtraError

if TYPE_CHECKING:
    from router_ml.core.router import Router
    from router_ml.ladder import Ladder
    from router_ml.traffic.labels import Bar

TRAFFIC = click.argument("traffic", nargs=-1, required=True, type=click.Path(path_type=Path))
ARTIFACT = click.argument("artifact", type=click.Path(exists=True, dir_okay=False, path_type=Path))
TIERS = click.option(
    "--tiers",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The ladder (YAML); without it, the models of the traffic.",
)
BAR = click.option(
    "--bar",
    default="0.8",
    show_default=True,
    help="Quality that an answer has to reach: 0.8, or 0.95x of the reference tier's.",
)
REFERENCE = click.option(
    "--reference",
    help="The tier to measure others by, and the safe one; without it, the tier of best mean quality.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
ENCODER = click.option(
    "--encoder",
    default="static",
    show_default=True,
    help="static, openai:MODEL, or a sentence-transformers folder or hub name; several with commas, e.g. for a teacher (--learner distilled).",
)
CACHE = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="ROUTER_ML_CACHE",
    help="Folder of the embedding cache; without it nothing is cached.",
)
MAX_REJECTS = click.option(
    "--max-rejects",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of unusable rows that is put up with.",
)
SEED = click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of all that is random."
)


def load_router(artifact: Path) -> Router:
    """The router of an artifact."""
    from router_ml.core.router import Router

    return Router.load(artifact)


def read_ladder(path: Path | None) -> Ladder | None:
    """The ladder of a YAML file, where there is one."""
    from router_ml.ladder import Ladder

    return None if path is None else Ladder.from_yaml(path)


def parse_bar(text: str, reference: str | None) -> Bar:
    """The bar, as it is written on the command line; only a relative one has a reference tier."""
    from router_ml.traffic.labels import Bar

    bar = Bar.parse(text)
    return Bar(bar.value, bar.kind, reference) if bar.kind == "relative" else bar


def not_an_input(out: Path, inputs: tuple[Path, ...]) -> None:
    """Refuse an output that would take the place of what is read."""
    for path in inputs:
        if path.exists() and out.exists() and path.samefile(out):
            raise click.UsageError(f"--out {out} is also an input that is read; give another name.")


@contextmanager
def train_extra(command: str) -> Iterator[None]:
    """Say which extra is missing where an import fails."""
    try:
        yield
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.startswith("router_ml"):
            raise
        raise MissingExtraError("train", f"'router-ml {command}' ({exc.name})") from exc
