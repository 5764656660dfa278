"""Do certified thresholds keep their promise? Many resplits of held-out traffic, the real artifact, and the truth beside.

    python -m benchmarks.guarantees train.parquet test.parquet --router router.onnx --out benchmark/

The population is the test table: half of its prompts, drawn anew each time, are the calibration set, a certified policy's true loss is
its mean over the whole table, and a promise is broken where that is above the limit. Hindsight is the policy of largest saving whose
loss over the whole table is within the limit. A half drawn without replacement is more like the whole than independent prompts would
be, so ``--replace`` draws with it: then the table is the distribution, and delta is put to the test to the full.

Asked: no promise is broken more often than delta and two standard errors; with ``--least-saving 0.6``, also that what is certified at a loss of 0.02 keeps
so much of the saving in hindsight. (It is asked of MMLU-Pro; a small table can't keep it.) Exits with 1 where one of them isn't seen.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.verdicts import Verdict, to_lines
from router_ml import workflow
from router_ml.core.guarantee import GuaranteeKind
from router_ml.core.policy import Policy, Rule
from router_ml.core.router import Router
from router_ml.evaluation.guarantees.promises import CalibrationSet, make_promises, policy_grid
from router_ml.evaluation.tradeoff import Expectations
from router_ml.traffic.labels import Bar, meets
from router_ml.traffic.observations import observe
from router_ml.workflow.certify import can_test_exactly

LIMITS = (0.01, 0.02, 0.05)
DELTAS = (0.05, 0.1)
SAVING_LIMIT = 0.02
"""The loss at which ``--least-saving`` is asked."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How one promise fared over the resplits.

    Attributes
    ----------
    kind, limit, delta
        What was promised.
    certified : float
        Share of the resplits in which some policy was certified.
    broken : float
        Share in which the certified policy's true loss is above the limit.
    allowed : float
        delta, and two standard errors of a share over so many resplits.
    saving : float
        Mean saving over the whole table, against the reference tier; 0 where nothing was certified.
    hindsight : float
        The saving of the best policy that keeps the limit.
    """

    kind: str
    limit: float
    delta: float
    certified: float
    broken: float
    allowed: float
    saving: float
    hindsight: float

    @property
    def holds(self) -> bool:
        """Whether it was kept."""
        return bool(self.broken <= self.allowed)

    @property
    def share(self) -> float:
        """Of the saving in hindsight; NaN where there was none."""
        return self.saving / self.hindsight if self.hindsight > 0 else math.nan


def measure(
    population: CalibrationSet,
    policies: Sequence[Policy],
    rule: Rule,
    *,
    resplits: int,
    random_state: int,
    replace: bool = False,
    progress: bool = False,
) -> list[Kept]:
    """Certify on half of the prompts, again and again, and compare with the truth over all."""
    reference = rule.reference
    picked = population.choices(rule, policies)
    truth = {kind: loss.mean(axis=0) for kind, loss in population.losses(picked, reference).items()}
    saving = population.saving(picked, reference)
    # A share of answers under the bar that some policy can keep: the reference tier's own, and so much more.
    own = float(1 - population.meets[:, reference].mean())
    limits: dict[GuaranteeKind, tuple[float, ...]] = {
        "loss": LIMITS,
        "violation": tuple(min(own + limit, 0.99) for limit in LIMITS),
    }
    rng = np.random.default_rng(random_state)
    found: dict[tuple[GuaranteeKind, float, float], list[int | None]] = {}
    index_of = {policy: k for k, policy in enumerate(policies)}
    for seed in tqdm(range(resplits), desc="resplits", disable=not progress):
        n = len(population.quality)
        rows = rng.choice(n, n // 2, replace=replace)
        promises = make_promises(
            dataclasses.replace(population.take(rows), unit=np.arange(len(rows))),
            policies,
            rule,
            limits=limits,
            deltas=DELTAS,
            random_state=seed,
        )
        for p in promises:
            found.setdefault((p.kind, p.limit, p.delta), []).append(index_of[p.policy] if p.certified else None)
    return [_kept(key, indices, truth[key[0]], saving) for key, indices in found.items()]


def _kept(
    key: tuple[GuaranteeKind, float, float],
    indices: list[int | None],
    truth: NDArray[np.float64],
    saving: NDArray[np.float64],
) -> Kept:
    kind, limit, delta = key
    n = len(indices)
    certified = [k for k in indices if k is not None]
    within = truth <= limit
    return Kept(
        kind,
        limit,
        delta,
        certified=len(certified) / n,
        broken=sum(truth[k] > limit for k in certified) / n,
        allowed=delta + 2 * math.sqrt(delta * (1 - delta) / n),
        saving=float(sum(saving[k] for k in certified) / n),
        hindsight=float(saving[within].max()) if within.any() else 0.0,
    )


def verdicts(rows: list[Kept], least_saving: float | None) -> list[Verdict]:
    """Whether the promises were kept and, if asked, weren't vacuous."""
    found = [Verdict(f"broken promises of {len(rows)}", sum(not r.holds for r in rows), "at most", 0)]
    if least_saving is not None:
        found += [
            Verdict(
                f"share of the saving in hindsight, loss {r.limit:g}, delta {r.delta:g}",
                r.share,
                "at least",
                least_saving,
            )
            for r in rows
            if (r.kind, r.limit) == ("loss", SAVING_LIMIT)
        ]
    return found


def to_markdown(rows: list[Kept], asked: list[Verdict], title: str) -> str:
    """A table, with the verdicts first."""
    lines = [
        f"# {title}",
        "",
        *to_lines(asked),
        "",
        "| promise | limit | delta | certified | broken | allowed | saving | in hindsight | share of it |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        share = "-" if math.isnan(r.share) else f"{r.share:.0%}"
        lines.append(
            f"| {r.kind} | {r.limit:.3f} | {r.delta:g} | {r.certified:.0%} | {r.broken:.1%} | {r.allowed:.1%} | {r.saving:.1%} | "
            f"{r.hindsight:.1%} | {share} |"
        )
    return "\n".join(lines) + "\n"


@click.command()
@click.argument("train", type=click.Path(exists=True, path_type=Path))
@click.argument("test", type=click.Path(exists=True, path_type=Path))
@click.option("--router", "artifact", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--resplits", default=500, show_default=True, type=click.IntRange(min=10))
@click.option("--replace", is_flag=True, help="Draw with replacement: independent prompts.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--least-saving",
    type=click.FloatRange(0, 1),
    help=f"Ask for this share of the saving in hindsight at a loss of {SAVING_LIMIT}; not asked where not given.",
)
def main(
    train: Path,
    test: Path,
    artifact: Path,
    out: Path,
    resplits: int,
    replace: bool,
    seed: int,
    least_saving: float | None,
) -> None:
    """Measure an artifact's promises; it must have been fitted on TRAIN alone."""
    router = Router.load(artifact)
    metadata = router.metadata
    rule = metadata.rule()
    known = observe(workflow.read_traffic([train]).traffic, router.ladder)
    policies = policy_grid(Expectations.of(router.predict(known.prompt.tolist())), rule)
    exact = can_test_exactly(known)
    seen = observe(workflow.read_traffic([test]).traffic, router.ladder)
    seen = seen.take(seen.complete)
    population = CalibrationSet(
        expected=Expectations.of(router.predict(seen.prompt.tolist())),
        quality=seen.quality,
        meets=meets(seen.quality, router.ladder, Bar(**metadata.bar)),
        cost_usd=seen.cost_usd,
        bound=1.0,
        note="",
        slices={},
        exact=exact,
    )
    rows = measure(
        population,
        policies,
        rule,
        resplits=resplits,
        random_state=seed,
        replace=replace,
        progress=True,
    )
    asked = verdicts(rows, least_saving)
    out.mkdir(parents=True, exist_ok=True)
    title = f"Promises of {artifact.name} on {test.name}, {resplits} {'draws' if replace else 'resplits'}"
    text = to_markdown(rows, asked, title)
    (out / "guarantees.md").write_text(text)
    found = {"asked": [v.to_dict() for v in asked], "promises": [asdict(r) | {"holds": r.holds} for r in rows]}
    (out / "guarantees.json").write_text(json.dumps(found, indent=2))
    click.echo(text)
    sys.exit(0 if all(v.held for v in asked) else 1)


if __name__ == "__main__":
    main()
