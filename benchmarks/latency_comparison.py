"""What a routing decision takes: ours beside LiteLLM's ``heuristic_v2``, on the same prompts, in turns.

    python -m benchmarks.latency_comparison router.onnx --litellm-python PATH [--prompts FILE] [--json]

PATH is the Python of an environment that holds litellm (see ``litellm_heuristic.py``). Timed are a whole
``Router.route()``, from the string to the decision, and the tier prediction that ``heuristic_v2`` makes of the string;
what LiteLLM's router does around it (its hooks, the log record) is left out, in its favour. Both sides take turns in
blocks of calls, so that whatever else the machine does falls on both, and the ratio is taken within each round.

Our router remembers words, so each length is timed twice. "new": prompts of the second half of the text, each asked
once, of a router that has only met prompts of the first half (a fresh one for each block); they have the new words that
prompts of such text have. "seen": a few prompts over and over, so no word is new. FILE is a text or a Parquet table with a
column ``prompt``; without it the prompts are drawn from common English words, and none is new to the router.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import polars as pl

from benchmarks import litellm_heuristic
from benchmarks.litellm_heuristic import time_calls, time_once
from router_ml.bench.prompts import read_text
from router_ml.core.artifact import read_artifact
from router_ml.core.router import Router
from router_ml.errors import InputError, RouterError

LENGTHS = (12, 50, 200, 800)
"""Prompt lengths in words."""
SEEN = 24
"""Prompts of each length that come over and over."""
WARM_UP, WARM_UP_WORDS = 2_000, 50
"""Prompts, and words in each, that a router has met before it is asked new ones."""
_OF_ONE_LENGTH = 50
_WORDS = """
a about after again against all also always an and another answer any are around ask at away back balance bank base
be because become before begin below between book both bring build business but by call can carry case cause change
check child choose city clear close code collect color come common compare complete compute consider contain cost
could count country course cover create cross customer data date day decide deep define describe design detail
develop difference direct discuss distance do door draw drive during each early earth east easy effect either energy
engine enough equal error even every evidence example expect explain express eye fact fall family far feel few field
figure file final find first follow food for force form forward found four free friend from function game general
give go good government grow half hand happen hard have head health hear heat help here high history hold hour house
how human hundred idea if image important in include increase industry inform interest into island it item join just
keep kind know language large last later law lead learn leave less let letter level life light like limit line list
listen little live local long look lot machine main make many map market matter mean measure meet member method
might mind minute model money month more most mother move much music must name nation natural near need never new
next night north not note notice number object
"""


@dataclass(frozen=True)
class Latency:
    """One side's latency, the median over the rounds, in microseconds."""

    p50_us: float
    p99_us: float


@dataclass(frozen=True)
class Ratio:
    """Ours over theirs: the median over the rounds, and the least and the largest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """The comparison at one length, on new prompts or on those seen before.

    Attributes
    ----------
    words : int
        Length of a prompt.
    kind : str
        ``"new"`` or ``"seen"``.
    n_prompts : int
        Distinct prompts.
    new_words : float
        Share of the prompts' words that our router had not met.
    """

    words: int
    kind: str
    n_prompts: int
    new_words: float
    ours: Latency
    theirs: Latency
    p50_ratio: Ratio
    p99_ratio: Ratio


@dataclass(frozen=True)
class Prompts:
    """Prompts of one length: those that are timed, and those that come before them once, where the timed are to be new."""

    words: int
    timed: list[str]
    warm_up: list[str] | None = None

    @property
    def new_words(self) -> float:
        """Share of the timed prompts' words that stand in no earlier one."""
        if self.warm_up is None:
            return 0.0
        met = {word for prompt in self.warm_up for word in prompt.split()}
        n_new = n_words = 0
        for prompt in self.timed:
            words = prompt.split()
            new = set(words) - met
            n_new, n_words = n_new + len(new), n_words + len(words)
            met |= new
        return n_new / n_words


Timer = Callable[[Prompts], dict[str, float]]
"""Times a block of calls: ``p50_us`` and ``p99_us``."""


def build_prompts(words: Sequence[str], n_words: int, *, calls: int, random_state: int) -> tuple[Prompts, Prompts]:
    """New prompts of `n_words` words, at most `calls`, and the first of them to be seen over and over.

    They are stretches of the second half of a text, apart from one another; the warm-up is stretches of its first half. A text
    too short for `SEEN` of them gives prompts of its words, drawn.

    Raises
    ------
    InputError
        Fewer than two words.
    """
    if len(words) < 2:
        raise InputError(f"the text for the prompts is {len(words)} words long; needed plain text. Give another file.")
    rng = random.Random(random_state)
    half = len(words) // 2
    timed = _stretches(words[half:], n_words, calls, rng)
    before = _stretches(words[:half], WARM_UP_WORDS, WARM_UP, rng)
    # The last ones are as long as those timed.
    before += _stretches(words[:half], n_words, _OF_ONE_LENGTH, rng)
    return Prompts(n_words, timed, before), Prompts(n_words, timed[:SEEN])


def _stretches(words: Sequence[str], n_words: int, most: int, rng: random.Random) -> list[str]:
    starts = range(0, len(words) - n_words + 1, n_words)
    if len(starts) < min(SEEN, most):
        return [" ".join(rng.choices(words, k=n_words)) for _ in range(most)]
    return [" ".join(words[start : start + n_words]) for start in rng.sample(starts, min(most, len(starts)))]


def common_words(random_state: int) -> list[str]:
    """A long text of common English words, drawn."""
    return random.Random(random_state).choices(_WORDS.split(), k=100_000)


def read_words(path: Path) -> list[str]:
    """The words of a text file, or of the prompts of a Parquet table, each once.

    Raises
    ------
    InputError
        It is neither.
    """
    if path.suffix != ".parquet":
        return read_text(path).split()
    try:
        prompts = pl.read_parquet(path, columns=["prompt"])["prompt"].drop_nulls().unique(maintain_order=True)
    except (OSError, pl.exceptions.PolarsError) as exc:
        raise InputError(f"{path} can't be read as a Parquet table with a column 'prompt' ({exc}).") from exc
    return [word for prompt in prompts for word in prompt.split()]


def our_timer(artifact: Path, calls: int) -> Timer:
    """Times ``Router.route()``: new prompts on a fresh router, those seen before on one that stays."""
    parts = read_artifact(artifact)
    lasting = Router(parts)

    def time_it(prompts: Prompts) -> dict[str, float]:
        if prompts.warm_up is None:
            return time_calls(lasting.route, prompts.timed, calls)
        return time_once(Router(parts).route, prompts.timed, prompts.warm_up)

    return time_it


@contextmanager
def their_timer(python: str, calls: int) -> Iterator[Timer]:
    """A process of the other environment that stays alive and times a block of calls whenever asked.

    Raises
    ------
    InputError
        It can't be started, or ends without an answer.
    """
    # -I: this folder's modules mustn't hide that environment's.
    command = [python, "-I", litellm_heuristic.__file__, "--time", str(calls)]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    except OSError as exc:
        raise InputError(f"can't start {python} ({exc}); needed the Python of an environment with litellm.") from exc
    assert process.stdin is not None  # for mypy: it is a pipe
    assert process.stdout is not None
    requests, answers = process.stdin, process.stdout

    def ask(prompts: Prompts) -> dict[str, float]:
        request = {"prompts": prompts.timed}
        if prompts.warm_up is not None:
            request["warm_up"] = prompts.warm_up
        with suppress(BrokenPipeError):  # where it ended before, readline tells
            print(json.dumps(request), file=requests, flush=True)
        line = answers.readline()
        if not line:
            raise InputError(f"{python} gave no answer (see above); needed litellm >= 1.109 in its environment.")
        found: dict[str, float] = json.loads(line)
        return found

    try:
        yield ask
    finally:
        process.terminate()
        process.communicate()


def compare(ours: Timer, theirs: Timer, prompts: Sequence[Prompts], *, rounds: int) -> list[Row]:
    """Time both sides in turns; who is first alternates from round to round.

    Parameters
    ----------
    ours, theirs : callable
        Time a block of calls over the given prompts.
    prompts : sequence of Prompts
        One block each a round.
    rounds : int
        At least 1.
    """
    blocks: list[list[tuple[dict[str, float], dict[str, float]]]] = [[] for _ in prompts]
    for turn in range(rounds):
        for found, block in zip(blocks, prompts, strict=True):
            if turn % 2:
                their_block = theirs(block)
                our_block = ours(block)
            else:
                our_block = ours(block)
                their_block = theirs(block)
            found.append((our_block, their_block))
    return [_row(block, found) for found, block in zip(blocks, prompts, strict=True)]


def _row(prompts: Prompts, blocks: Sequence[tuple[dict[str, float], dict[str, float]]]) -> Row:
    ours, theirs = zip(*blocks, strict=True)
    ratios = []
    for name in ("p50_us", "p99_us"):
        each = [a[name] / b[name] for a, b in blocks]
        ratios.append(Ratio(median(each), min(each), max(each)))
    kind = "seen" if prompts.warm_up is None else "new"
    return Row(
        prompts.words,
        kind,
        len(prompts.timed),
        prompts.new_words,
        _medians(ours),
        _medians(theirs),
        ratios[0],
        ratios[1],
    )


def _medians(blocks: Sequence[dict[str, float]]) -> Latency:
    return Latency(*(median(block[name] for block in blocks) for name in ("p50_us", "p99_us")))


def to_text(rows: Sequence[Row]) -> str:
    """As an aligned table, for a terminal."""
    sides = ("ours p50 us", "p99 us", "theirs p50 us", "p99 us", "ratio of p50 (range)", "of p99 (range)")
    columns = ("words", "prompts", "", "new words", *sides)
    lines = [
        (
            str(row.words),
            f"{row.n_prompts:,}",
            row.kind,
            f"{row.new_words:.1%}",
            *(f"{us:,.1f}" for side in (row.ours, row.theirs) for us in (side.p50_us, side.p99_us)),
            *(f"{r.median:.2f} ({r.low:.2f} to {r.high:.2f})" for r in (row.p50_ratio, row.p99_ratio)),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) + 2 for column in zip(columns, *lines, strict=True)]
    return "\n".join(
        "".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in (columns, *lines)
    )


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, help="the .onnx file that router-ml fit wrote")
    parser.add_argument("--litellm-python", required=True, help="Python of an environment that holds litellm")
    parser.add_argument(
        "--prompts",
        type=Path,
        help="text (UTF-8) or Parquet table with a column prompt, to cut the prompts from; common English words if not given",
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=400, help="timed calls of each side in each block")
    parser.add_argument("--random-state", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if min(options.rounds, options.calls) < 1:
        parser.error("--rounds and --calls need to be at least 1.")
    words = read_words(options.prompts) if options.prompts else common_words(options.random_state)
    prompts = [
        each
        for n in LENGTHS
        for each in build_prompts(words, n, calls=options.calls, random_state=options.random_state)
    ]
    ours = our_timer(options.artifact, options.calls)
    with their_timer(options.litellm_python, options.calls) as theirs:
        version = theirs(Prompts(1, ["a"]))["litellm"]
        rows = compare(ours, theirs, prompts, rounds=options.rounds)
    if options.json:
        print(json.dumps({"litellm": version, "rounds": options.rounds, "rows": [asdict(row) for row in rows]}))
    else:
        print(
            f"{to_text(rows)}\n\ntheirs: heuristic_v2 of litellm {version}; medians over {options.rounds} rounds\n"
            f"new: each prompt asked once, of the second half of {options.prompts or 'common words'}, by a router that met "
            f"the first; seen: {options.calls:,} calls over {SEEN} prompts"
        )


if __name__ == "__main__":
    try:
        main()
    except RouterError as exc:
        sys.exit(f"Error: {exc}")
