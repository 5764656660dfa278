"""What a routing decision takes: ours beside LiteLLM's ``heuristic_v2``, on the same prompts, in turns.

    python -m pipelines.latency_comparison router.onnx --litellm-python PATH [--prompts FILE] [--json]

PATH is the Python of an environment that holds litellm (see ``litellm_heuristic.py``). Timed are a whole
``Router.route()``, from the string to the decision, and the tier prediction that ``heuristic_v2`` makes of the string;
what LiteLLM's router does around it (its hooks, the log record) is left out, in its favour. Both sides take turns in
blocks of calls, so that whatever else the machine does falls on both, and the ratio is taken within each round.
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

from pipelines import litellm_heuristic
from pipelines.litellm_heuristic import time_calls
from router_ml.core.router import Router
from router_ml.errors import InputError, RouterError

LENGTHS = (12, 50, 200, 800)
"""Prompt lengths in words."""
DISTINCT = 24
"""Prompts of each length."""
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
    """The comparison at one length."""

    words: int
    ours: Latency
    theirs: Latency
    p50_ratio: Ratio
    p99_ratio: Ratio


def build_prompts(words: Sequence[str], n_words: int, *, random_state: int) -> list[str]:
    """`DISTINCT` prompts of `n_words` words: stretches of a text that is long enough for them, else drawn words.

    Raises
    ------
    InputError
        No words.
    """
    if not words:
        raise InputError("the text for the prompts holds no word; needed plain text. Give another file.")
    rng = random.Random(random_state)
    if len(words) >= n_words + DISTINCT:
        starts = rng.sample(range(len(words) - n_words + 1), DISTINCT)
        return [" ".join(words[start : start + n_words]) for start in starts]
    return [" ".join(rng.choices(words, k=n_words)) for _ in range(DISTINCT)]


@contextmanager
def their_timer(python: str, calls: int) -> Iterator[Callable[[Sequence[str]], dict[str, float]]]:
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

    def ask(prompts: Sequence[str]) -> dict[str, float]:
        with suppress(BrokenPipeError):  # where it ended before, readline tells
            print(json.dumps({"prompts": list(prompts)}), file=requests, flush=True)
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


def compare(
    ours: Callable[[Sequence[str]], dict[str, float]],
    theirs: Callable[[Sequence[str]], dict[str, float]],
    prompts: dict[int, list[str]],
    *,
    rounds: int,
) -> list[Row]:
    """Time both sides in turns; who is first alternates from round to round.

    Parameters
    ----------
    ours, theirs : callable
        Time a block of calls over the given prompts: ``p50_us`` and ``p99_us``.
    prompts : mapping of length in words to prompts
    rounds : int
        At least 1.
    """
    blocks: dict[int, list[tuple[dict[str, float], dict[str, float]]]] = {n_words: [] for n_words in prompts}
    for turn in range(rounds):
        for n_words, texts in prompts.items():
            if turn % 2:
                their_block = theirs(texts)
                our_block = ours(texts)
            else:
                our_block = ours(texts)
                their_block = theirs(texts)
            blocks[n_words].append((our_block, their_block))
    return [_row(n_words, found) for n_words, found in blocks.items()]


def _row(n_words: int, blocks: Sequence[tuple[dict[str, float], dict[str, float]]]) -> Row:
    ours, theirs = zip(*blocks, strict=True)
    ratios = []
    for name in ("p50_us", "p99_us"):
        each = [a[name] / b[name] for a, b in blocks]
        ratios.append(Ratio(median(each), min(each), max(each)))
    return Row(n_words, _medians(ours), _medians(theirs), *ratios)


def _medians(blocks: Sequence[dict[str, float]]) -> Latency:
    return Latency(*(median(block[name] for block in blocks) for name in ("p50_us", "p99_us")))


def to_text(rows: Sequence[Row]) -> str:
    """As an aligned table, for a terminal."""
    columns = ("words", "ours p50 us", "p99 us", "theirs p50 us", "p99 us", "ratio of p50 (range)", "of p99 (range)")
    lines = [
        (
            str(row.words),
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
    parser.add_argument("--prompts", type=Path, help="text to cut the prompts from; plain English words if not given")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=400, help="timed calls of each side in each block")
    parser.add_argument("--random-state", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if min(options.rounds, options.calls) < 1:
        parser.error("--rounds and --calls need to be at least 1.")
    words = options.prompts.read_text(encoding="utf-8").split() if options.prompts else _WORDS.split()
    prompts = {n: build_prompts(words, n, random_state=options.random_state) for n in LENGTHS}
    router = Router.load(options.artifact)
    with their_timer(options.litellm_python, options.calls) as theirs:
        version = theirs(prompts[LENGTHS[0]])["litellm"]
        rows = compare(
            lambda texts: time_calls(router.route, texts, options.calls), theirs, prompts, rounds=options.rounds
        )
    if options.json:
        print(json.dumps({"litellm": version, "rounds": options.rounds, "rows": [asdict(row) for row in rows]}))
    else:
        print(f"{to_text(rows)}\n\ntheirs: heuristic_v2 of litellm {version}; medians over {options.rounds} rounds")


if __name__ == "__main__":
    try:
        main()
    except RouterError as exc:
        sys.exit(f"Error: {exc}")
