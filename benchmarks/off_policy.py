"""Off-policy evaluation put to the test: logs simulated from complete traffic, of which the truth is known.

    python -m benchmarks.off_policy TRAIN TEST [--tiers tiers.yaml] [--bar 1.0] [--router router.onnx] --out DIR

A router is fitted on TRAIN. The population is the table TEST: the true value of a policy is its mean over the table's
prompts that every tier answered. Each log draws prompts from it with replacement, and for each one tier, by a random
policy of its own that depends on the prompt's length, source and category. Asked: the 95 % interval of the doubly robust
estimate covers the truth in 93 % of the logs or more, its mean squared error is at most that of IPS, and logs of policies
without chance are refused. Written are ``off_policy.json`` and ``off_policy.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.verdicts import Verdict, to_lines
from router_ml.core.decision import Prediction
from router_ml.core.router import Router
from router_ml.errors import InputError, RouterError, TrafficError
from router_ml.evaluation.off_policy.policies import judge_policies
from router_ml.evaluation.off_policy.report import ROUTER, OffPolicyEvaluation
from router_ml.ladder import Ladder
from router_ml.learning.threads import single_threaded
from router_ml.traffic.labels import Bar
from router_ml.traffic.observations import Observations, observe
from router_ml.workflow import FitOptions, fit, read_traffic
from router_ml.workflow.off_policy import Log, gather_evidence

FLOOR = 0.05
"""No tier is drawn less often than this."""
LEVEL = 0.95
MIN_COVERAGE = 0.93
MIN_ANSWERED = 0.97
"""Each log has full overlap, so that few may be refused. Estimated propensities may come out too near to 0, and more are."""
ESTIMATORS = ("doubly_robust", "snips", "ips", "direct")
_ROW = {
    "policy": pl.String,
    "reward": pl.String,
    "estimator": pl.String,
    "truth": pl.Float64,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """A complete table, what a router expects of it, and what it chooses."""

    tiers: tuple[str, ...]
    seen: Observations
    prediction: Prediction
    choice: NDArray[np.intp]

    @classmethod
    def of(cls, router: Router, path: Path) -> Population:
        """The prompts of a file that every tier answered."""
        seen = observe(read_traffic([path]).traffic, router.ladder)
        seen = seen.take(seen.complete)
        if len(seen) == 0:
            raise InputError(
                f"No prompt of {path} was answered by every tier, so the truth isn't known. Give a smaller ladder."
            )
        prompts = seen.prompt.tolist()
        names = router.ladder.names
        choice = np.array([names.index(d.tier) for d in router.route_batch(prompts)], dtype=np.intp)
        return cls(names, seen, router.predict(prompts), choice)

    def truth(self, policy: str, reward: str) -> float:
        """The mean of a policy over the table; a constant one is called as in the report."""
        table = getattr(self.seen, reward)
        if policy == ROUTER:
            return float(table[np.arange(len(table)), self.choice].mean())
        return float(table[:, self.tiers.index(policy.removeprefix("always "))].mean())

    def log(self, rows: NDArray[np.intp], tiers: NDArray[np.intp], chance: NDArray[np.float64]) -> Log:
        """The log that holds the given prompts, each answered by the given tier."""
        tried = np.eye(len(self.tiers), dtype=bool)[tiers]
        quality, cost_usd = (np.where(tried, t, np.nan) for t in (self.seen.quality[rows], self.seen.cost_usd[rows]))
        slices = self.seen.source.astype(np.object_) + "/" + self.seen.category.astype(np.object_)
        session_id = self.seen.session_id.astype(np.object_)
        return Log(
            self.seen.prompt[rows], session_id[rows], slices[rows], quality, cost_usd, np.where(tried, chance, np.nan)
        )

    def judge(self, log: Log, rows: NDArray[np.intp], *, estimated: bool, random_state: int) -> OffPolicyEvaluation:
        """Evaluate on a log as the workflow does, with its propensities or without; raises TrafficError where it can't tell of the router."""
        fields = dataclasses.fields(self.prediction)
        prediction = Prediction(*(getattr(self.prediction, field.name)[rows] for field in fields))
        seen = dataclasses.replace(log, propensity=None) if estimated else log
        choice = self.choice[rows]
        evidence = gather_evidence(seen, self.tiers, prediction, choice, level=LEVEL, random_state=random_state)
        return judge_policies(evidence, choice, setting="default").require_router()


def random_policy(rng: np.random.Generator, seen: Observations, n_tiers: int) -> NDArray[np.float64]:
    """Chances [N, T] that depend on length, source and category, none below the floor."""
    length = np.log1p([len(prompt) for prompt in seen.prompt])
    length = (length - length.mean()) / max(float(length.std()), 1e-9)
    _, at = np.unique(np.char.add(seen.source, seen.category), return_inverse=True)
    score = length[:, None] * rng.normal(size=n_tiers) + rng.normal(size=(int(at.max()) + 1, n_tiers))[at]
    share = np.exp(score - score.max(axis=1, keepdims=True))
    return np.asarray(FLOOR + (1 - n_tiers * FLOOR) * share / share.sum(axis=1, keepdims=True))


def simulate_log(
    rng: np.random.Generator, population: Population, chance: NDArray[np.float64], n_rows: int
) -> tuple[Log, NDArray[np.intp]]:
    """Draw prompts with replacement, and a tier for each; gives the log and the prompts' rows."""
    rows = rng.integers(len(population.seen), size=n_rows)
    tiers = (rng.random(n_rows)[:, None] >= chance[rows].cumsum(axis=1)[:, :-1]).sum(axis=1)
    return population.log(rows, tiers.astype(np.intp), chance[rows]), rows


def measure(
    population: Population, *, n_logs: int, n_rows: int, estimated: bool, random_state: int, progress: bool = False
) -> pl.DataFrame:
    """Coverage, bias and mean squared error of each estimator for each policy and reward, over simulated logs.

    Columns ``policy, reward, estimator, n, coverage, bias, mse, width``; ``n`` counts the logs that could answer.
    """
    from tqdm import trange

    found: list[tuple[Any, ...]] = []
    for log_number in trange(n_logs, desc="estimated" if estimated else "logged", unit="log", disable=not progress):
        rng = np.random.default_rng([random_state, log_number])
        chance = random_policy(rng, population.seen, len(population.tiers))
        log, rows = simulate_log(rng, population, chance, n_rows)
        try:
            found += _rows(population, population.judge(log, rows, estimated=estimated, random_state=log_number))
        except TrafficError:
            continue  # refused: counted by its absence
    if not found:
        raise InputError(f"Each of the {n_logs} logs of {n_rows} rows was refused; give more rows.")
    table = pl.DataFrame(found, schema=_ROW, orient="row")
    error = pl.col("value") - pl.col("truth")
    return table.group_by("policy", "reward", "estimator", maintain_order=True).agg(
        n=pl.len(),
        coverage=pl.col("truth").is_between("low", "high").mean(),
        bias=error.mean(),
        mse=(error**2).mean(),
        width=(pl.col("high") - pl.col("low")).mean(),
    )


def refused(population: Population, *, n_logs: int, n_rows: int, random_state: int) -> dict[str, int]:
    """How many logs of policies without chance are refused, of `n_logs` each."""
    n, tiers = len(population.seen), len(population.tiers)
    by_length = np.argsort(np.argsort([len(prompt) for prompt in population.seen.prompt])) * tiers // n
    cases = {
        "always the cheapest tier": (np.zeros(n, dtype=np.intp), False),
        "by length, propensities of 1 logged": (by_length, False),
        "by length, no propensities": (by_length, True),
    }
    counts = dict.fromkeys(cases, 0)
    for name, (tier, estimated) in cases.items():
        for log_number in range(n_logs):
            rng = np.random.default_rng([random_state, log_number])
            log, rows = simulate_log(rng, population, np.eye(tiers)[tier], n_rows)
            try:
                population.judge(log, rows, estimated=estimated, random_state=log_number)
            except TrafficError:
                counts[name] += 1
    return counts


def verdicts(name: str, table: pl.DataFrame, n_logs: int) -> list[Verdict]:
    """What is asked of the doubly robust quality of the router with one kind of propensities."""
    router = table.filter(policy=ROUTER, reward="quality")
    robust, weighted = (router.filter(estimator=e).row(0, named=True) for e in ("doubly_robust", "ips"))
    asked = [
        Verdict(f"{name}: truth covered", robust["coverage"], "at least", MIN_COVERAGE),
        Verdict(f"{name}: mean squared error beside IPS's", robust["mse"], "at most", weighted["mse"]),
    ]
    if name == "logged":
        asked.append(Verdict(f"{name}: logs answered", robust["n"] / n_logs, "at least", MIN_ANSWERED))
    return asked


@single_threaded()
def run(
    train: Path,
    test: Path,
    out: Path,
    *,
    tiers: Path | None = None,
    bar: Bar | None = None,
    learner: str = "ngram",
    router: Path | None = None,
    n_logs: int = 300,
    n_estimated: int | None = None,
    n_rows: int | None = None,
    n_refusals: int = 20,
    random_state: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """The whole benchmark of one pair of files; the options are those of the command line."""
    out.mkdir(parents=True, exist_ok=True)
    if router is None:
        router = out / "router.onnx"
        options = FitOptions(bar=bar or Bar(1.0), learner=learner, random_state=random_state, progress=progress)
        fit([train], router, ladder=None if tiers is None else Ladder.from_yaml(tiers), options=options, track=False)
    population = Population.of(Router.load(router), test)
    size = n_rows or len(population.seen)
    counts = {"logged": n_logs, "estimated": n_logs if n_estimated is None else n_estimated}
    tables = {
        name: measure(
            population,
            n_logs=count,
            n_rows=size,
            estimated=name == "estimated",
            random_state=random_state,
            progress=progress,
        )
        for name, count in counts.items()
        if count
    }
    refusals = refused(population, n_logs=n_refusals, n_rows=size, random_state=random_state)
    asked = [Verdict(f"logs refused, {name}", count, "at least", n_refusals) for name, count in refusals.items()]
    for name, table in tables.items():
        asked += verdicts(name, table, counts[name])
    found = {
        "test": test.stem,
        "n_prompts": len(population.seen),
        "n_rows": size,
        "n_logs": counts,
        "level": LEVEL,
        "asked": [v.to_dict() for v in asked],
        "estimates": {name: table.to_dicts() for name, table in tables.items()},
    }
    (out / "off_policy.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (out / "off_policy.md").write_text(to_markdown(found, asked), encoding="utf-8")
    return found


def to_markdown(found: dict[str, Any], asked: list[Verdict]) -> str:
    """The figures as a page: the verdicts, then a table for each kind of propensities."""
    lines = [
        f"# Off-policy evaluation on {found['test']}",
        "",
        f"Logs of {found['n_rows']:,} rows, drawn with replacement from {found['n_prompts']:,} prompts, which are the "
        f"population; one tier a prompt, by a random policy. Intervals at {found['level']:.0%}.",
        "",
        *to_lines(asked),
    ]
    for name, rows in found["estimates"].items():
        lines += [
            "",
            f"## Propensities {name}, {found['n_logs'][name]} logs",
            "",
            "| policy | reward | estimator | logs answered | covered, % | bias | root MSE | interval's width |",
            "|---|---|---|---:|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {r['policy']} | {r['reward']} | {r['estimator']} | {r['n']} | {100 * r['coverage']:.1f} | {r['bias']:+.2g} | "
            f"{r['mse'] ** 0.5:.3g} | {r['width']:.3g} |"
            for r in rows
        ]
    return "\n".join(lines) + "\n"


def _rows(population: Population, found: OffPolicyEvaluation) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for reward in ("quality", "cost_usd"):
        for policy in (found.router, *found.constants):
            estimates = getattr(policy, reward)
            if estimates is None:
                continue
            truth = population.truth(policy.name, reward)
            each = {name: getattr(estimates, name) for name in ESTIMATORS}
            rows += [(policy.name, reward, name, truth, e.value, e.low, e.high) for name, e in each.items()]
        if found.gain is not None:
            truth = population.truth(ROUTER, reward) - population.truth(found.gain.against, reward)
            gain = getattr(found.gain, reward)
            best = "router minus the best tier"
            rows.append((best, reward, "doubly_robust", truth, gain.value, gain.low, gain.high))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its page; exit code 1 where something that is asked wasn't seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="traffic to fit the router on")
    parser.add_argument("test", type=Path, help="complete traffic to draw logs from")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--tiers", type=Path, help="the ladder (YAML); without it, the models of the traffic")
    parser.add_argument("--bar", default="1.0", help="quality that an answer has to reach: 0.8, or 0.95x")
    parser.add_argument("--learner", default="ngram")
    parser.add_argument("--router", type=Path, help="an artifact that was fitted on TRAIN, to spare the fit")
    parser.add_argument("--logs", type=int, default=300, help="logs to simulate")
    parser.add_argument("--estimated-logs", type=int, help="of them also without propensities; all where not given")
    parser.add_argument("--rows", type=int, help="prompts in a log; as many as TEST has where not given")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    found = run(
        options.train,
        options.test,
        options.out,
        tiers=options.tiers,
        bar=Bar.parse(options.bar, None),
        learner=options.learner,
        router=options.router,
        n_logs=options.logs,
        n_estimated=options.estimated_logs,
        n_rows=options.rows,
        random_state=options.seed,
        progress=True,
    )
    print((options.out / "off_policy.md").read_text(encoding="utf-8"))
    if not all(verdict["held"] for verdict in found["asked"]):
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except RouterError as exc:
        sys.exit(f"Error: {exc}")
