"""What the commands share: options by name, inputs and outputs, errors in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from router_ml.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from router_ml.core.guarantee import Guarantee
    from router_ml.core.router import Router
    from router_ml.ladder import Ladder
    from router_ml.traffic.labels import Bar


class GivenPath(click.Path):
    """A path that isn't empty: pathlib takes an empty one for the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty path; in a script it is mostly a variable that isn't set."""
        if not str(value).strip():
            self.fail("The path is empty; is a variable of your script not set?", param, ctx)
        return super().convert(value, param, ctx)


READ_FILE = GivenPath(exists=True, dir_okay=False, path_type=Path)
WRITE_FILE = GivenPath(dir_okay=False, path_type=Path)
SOURCE = GivenPath(path_type=Path)
"""A file, a folder or a glob."""


class OutFile(GivenPath):
    """A file to write, of the one suffix that its readers know it by."""

    def __init__(self, suffix: str) -> None:
        super().__init__(dir_okay=False, path_type=Path)
        self.suffix = suffix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse another suffix, before any work."""
        path = Path(str(super().convert(value, param, ctx)))
        if path.suffix != self.suffix:
            self.fail(f"{str(path)!r} doesn't end in {self.suffix}, which is what is written.", param, ctx)
        return path


def out_option(suffix: str, text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """``--out`` of a command."""
    return click.option("--out", required=True, type=OutFile(suffix), help=text)


def echo_rejects(path: Path | None) -> None:
    """Say where the rejects are, if there are any."""
    if path is not None:
        click.echo(f"Left out, with the reasons: {path}")


TRAFFIC = click.argument("traffic", nargs=-1, required=True, type=SOURCE)
ARTIFACT = click.argument("artifact", type=READ_FILE)
TIERS = click.option(
    "--tiers",
    type=READ_FILE,
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
    type=GivenPath(file_okay=False, path_type=Path),
    envvar="ROUTER_ML_CACHE",
    help="Folder of the embedding cache; without it nothing is cached.",
)
MAX_REJECTS = click.option(
    "--max-rejects",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Accept at most this share of invalid rows before failing.",
)
SEED = click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of all that is random."
)


_LIMIT = click.FloatRange(0, 1, min_open=True, max_open=True)


def decision_options(command: Callable[..., None]) -> Callable[..., None]:
    """What may be asked of a decision, as options of a command."""
    options = (
        click.option(
            "--at", help="Use this operating point of the artifact's menu, such as 2pt; its default otherwise."
        ),
        click.option("--policy", type=click.Choice(["reference"]), help="Always use the reference tier."),
        click.option(
            "--threshold",
            type=click.FloatRange(0, 1),
            help="Use the cheapest tier whose p_meets reaches this probability.",
        ),
        click.option(
            "--lam",
            type=click.FloatRange(min=0),
            help="Weigh quality against cost: the quality that one US dollar is worth.",
        ),
        click.option("--max-loss", type=_LIMIT, help="A promise of the artifact: quality below the reference tier's."),
        click.option("--max-violation", type=_LIMIT, help="A promise of the artifact: share of answers under the bar."),
        click.option("--delta", type=_LIMIT, help="The chance that the promise fails; without it 0.05."),
        click.option("--in-slice", help="The slice that the promise is for, such as category=law."),
        click.option(
            "--allow", "allowed", multiple=True, help="A tier that may be chosen; several times. Without it, all."
        ),
        click.option("--forbid", "forbidden", multiple=True, help="A tier that may not be chosen; several times."),
        click.option(
            "--require",
            "requires",
            multiple=True,
            help="What the tier has to support (tools, vision, json_schema); several times.",
        ),
        click.option(
            "--output-tokens", type=click.IntRange(min=1), help="The most tokens of the answer, beside the prompt."
        ),
        click.option("--max-cost-usd", type=click.FloatRange(min=0), help="The most that the call may cost."),
        click.option("--ignore-novelty", is_flag=True, help="By the policy, also where a query is unlike the traffic."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    # A threshold of 0 equals False and is an option all the same.
    return {name: v for name, v in options.items() if v is not None and v is not False and v != ()}


def echo_guarantees(guarantees: Sequence[Guarantee]) -> None:
    """Print what was certified as a table, and once what it rests on."""
    from router_ml.core.align import align
    from router_ml.core.guarantee import guarantee_rows

    if not guarantees:
        return
    columns, rows = guarantee_rows(guarantees)
    click.echo(
        "Guarantees: with probability 1 - delta over the draw of the prompts, for traffic like them; use: --max-loss, --max-violation"
    )
    for line in align([columns, *rows], left=(0, 3, 4)):
        click.echo(line)
    for note in dict.fromkeys(g.note for g in guarantees if g.note):
        click.echo(f"They rest on: {note}")


@contextmanager
def usage() -> Iterator[None]:
    """Where options become values: what is wrong with them is wrong usage (exit code 2), found before any traffic or query is read."""
    try:
        yield
    except InputError as exc:
        raise click.UsageError(" ".join(str(exc).split())) from exc


def load_router(artifact: Path, options: Mapping[str, Any] | None = None) -> Router:
    """The router of an artifact, which can keep the options of a decision."""
    from router_ml.core.request import resolve
    from router_ml.core.router import Router

    router = Router.load(artifact)
    with usage():
        resolve(router.metadata, **options or {})
    return router


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
