"""What the default decision saves and gives up on new prompts, beside a blind mix and the best choice in hindsight.

    python -m benchmarks.default_decision traffic.parquet [more.parquet ...] [--tiers tiers.yaml] [--bar 1.0]
        --out benchmark/

The traffic, of which every tier answered each prompt, is split 60/40 several times by a hash of the text, near
duplicates and sessions on one side. On each training side everything is done as `router-ml fit` does it without
options: the search for a learner, the menu, the default. On the test side stand, for each operating point: the quality
lost and the cost saved against the reference tier, what a blind mix of single tiers of the same cost loses, and the
largest saving of any epsilon whose loss there is no larger (hindsight).

Asked of the default, as means over the splits: a loss of at most its own limit and a fifth; three quarters of the
saving in hindsight; and a loss that isn't above the blind mix's by more than two standard errors. Exits with 1 where
one of them isn't seen.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from benchmarks.contest import Split, split_rows
from benchmarks.verdicts import Verdict, to_lines
from router_ml import workflow
from router_ml.core.menu import OperatingPoint, point_name
from router_ml.core.policy import Reference, Rule, Shortfall
from router_ml.evaluation.tradeoff import Expectations, Outcomes, measure_menu
from router_ml.ladder import Ladder
from router_ml.learning.encoders import load_encoder
from router_ml.traffic.labels import Bar
from router_ml.traffic.split import connected_groups
from router_ml.workflow.embed import Embedded

LEAST_SHARE = 0.75
"""Of the saving in hindsight."""
_SLACK = 1.2
"""Times the limit, that a mean loss may be."""
_EPSILONS = np.concatenate(([0.0], np.geomspace(1e-4, 10, 600)))


@dataclass(frozen=True, slots=True)
class Seen:
    """One operating point on one split's test side.

    Attributes
    ----------
    name, learner : str
    limit : float
        The most expected quality that it may lose.
    loss, loss_low, loss_high, saving, saving_low, saving_high : float
    mix_loss : float
        NaN where no mix costs so little.
    hindsight : float
        The largest saving of any epsilon whose loss is no larger.
    n : int
    """

    name: str
    learner: str
    limit: float
    loss: float
    loss_low: float
    loss_high: float
    saving: float
    saving_low: float
    saving_high: float
    mix_loss: float
    hindsight: float
    n: int


def measure(prepared: workflow.Prepared, embedded: Embedded, options: workflow.FitOptions, split: Split) -> list[Seen]:
    """Fit on one side and measure every operating point on the other."""
    trained = workflow.train(
        prepared.observations.take(split.train), embedded.take(split.train), prepared.ladder, options
    )
    seen, told = prepared.observations.take(split.test), embedded.take(split.test)
    said = trained.model.predict(told.inputs)
    tokens = trained.input_tokens.base + trained.input_tokens.per_char * told.n_chars[:, None]
    cost_usd = prepared.ladder.cost_usd(tokens, said.output_tokens)
    expected = Expectations(said.p_meets, said.quality, cost_usd, said.novelty)
    names = prepared.ladder.names
    rule = Rule(
        Reference(), names, names.index(trained.reference), trained.reference_cost_usd, trained.model.novelty.threshold
    )
    outcomes = Outcomes(seen.quality, seen.cost_usd, rule.reference, connected_groups(seen.prompt, seen.session_id))
    choices = np.array([expected.choices(replace(rule, policy=Shortfall(float(e)))) for e in _EPSILONS])
    losses, savings = (
        outcomes.losses(choices).mean(axis=1),
        outcomes.saved_usd(choices).mean(axis=1) / outcomes.reference_cost_usd,
    )
    points = measure_menu(trained.menu, rule, expected, outcomes, random_state=split.seed)
    return [_seen(point, trained.model.name, losses, savings) for point in points]


def _seen(point: OperatingPoint, learner: str, losses: np.ndarray, savings: np.ndarray) -> Seen:
    found = point.expected
    assert found is not None  # it was just measured
    within = losses <= found.quality_drop + 1e-12
    best = max(float(savings[within].max()) if within.any() else 0.0, found.saving)
    return Seen(
        name=point.name,
        learner=learner,
        limit=point.max_quality_drop or 0.0,
        loss=found.quality_drop,
        loss_low=found.quality_drop_low,
        loss_high=found.quality_drop_high,
        saving=found.saving,
        saving_low=found.saving_low,
        saving_high=found.saving_high,
        mix_loss=float("nan") if found.mix_quality_drop is None else found.mix_quality_drop,
        hindsight=best,
        n=found.n,
    )


def verdicts(rows: Sequence[Seen]) -> list[Verdict]:
    """What is asked of one operating point's rows, one a split."""
    loss, limit = float(np.mean([r.loss for r in rows])), rows[0].limit
    hindsight = float(np.mean([r.hindsight for r in rows]))
    share = float(np.mean([r.saving for r in rows])) / hindsight if hindsight > 0 else 1.0
    # A standard error of one split's loss; the splits share prompts, so that their mean's is hardly smaller.
    error = float(np.mean([(r.loss_high - r.loss_low) / (2 * 1.96) for r in rows]))
    above = float(np.nanmean([r.loss - r.mix_loss for r in rows]))
    return [
        Verdict("mean loss", loss, "at most", _SLACK * limit),
        Verdict("share of the saving in hindsight", share, "at least", LEAST_SHARE),
        Verdict("loss above a blind mix's of the same cost", above, "at most", 2 * error),
    ]


def to_markdown(name: str, rows: Sequence[Seen], asked: Sequence[Verdict], default: str) -> str:
    """The verdicts, a table of all operating points (means over the splits), and one of the default on each split."""
    lines = [f"# The default on {name}", "", *to_lines(list(asked)), ""]
    lines += [
        "| at | loss, points | saved | a blind mix of that cost loses | saved in hindsight |",
        "|---|---|---|---|---|",
    ]
    for at in dict.fromkeys(r.name for r in rows):
        own = [r for r in rows if r.name == at]
        loss, saving, mix, best = (
            float(np.nanmean([getattr(r, f) for r in own])) for f in ("loss", "saving", "mix_loss", "hindsight")
        )
        lines.append(f"| {at} | {100 * loss:.2f} | {saving:.1%} | {100 * mix:.2f} | {best:.1%} |")
    lines += [
        "",
        f"| split ({default}) | learner | loss, points (95 %) | saved (95 %) | mix | hindsight | prompts |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {k} | {r.learner} | {100 * r.loss:.2f} ({100 * r.loss_low:.1f} to {100 * r.loss_high:.1f}) | "
        f"{r.saving:.1%} ({r.saving_low:.1%} to {r.saving_high:.1%}) | {100 * r.mix_loss:.2f} | {r.hindsight:.1%} | {r.n:,} |"
        for k, r in enumerate(r for r in rows if r.name == default)
    ]
    return "\n".join(lines) + "\n"


@click.command()
@click.argument("traffic", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--tiers", type=click.Path(exists=True, path_type=Path), help="The ladder (YAML).")
@click.option("--bar", default="1.0", show_default=True)
@click.option("--splits", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--learner", default="auto", show_default=True)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
def main(traffic: tuple[Path, ...], tiers: Path | None, bar: str, splits: int, learner: str, out: Path) -> None:
    """Measure the default decision of TRAFFIC's router on several splits."""
    options = workflow.FitOptions(bar=Bar.parse(bar), learner=learner)
    ladder = None if tiers is None else Ladder.from_yaml(tiers)
    prepared = workflow.prepare(workflow.read_traffic(traffic).traffic, ladder, options.bar)
    prepared = replace(prepared, observations=prepared.observations.take(prepared.observations.complete))
    embedded = workflow.embed_prompts(prepared.observations.prompt.tolist(), load_encoder(options.encoder))
    rows: list[Seen] = []
    for seed in tqdm(range(splits), desc="splits"):
        rows += measure(prepared, embedded, options, split_rows(prepared.observations, seed))
    default = point_name(options.max_quality_drop)
    asked = verdicts([r for r in rows if r.name == default])
    out.mkdir(parents=True, exist_ok=True)
    name = ", ".join(p.stem for p in traffic)
    text = to_markdown(name, rows, asked, default)
    (out / "default.md").write_text(text, encoding="utf-8")
    found = {"asked": [v.to_dict() for v in asked], "points": [asdict(r) for r in rows]}
    (out / "default.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
    click.echo(text)
    sys.exit(0 if all(v.held for v in asked) else 1)


if __name__ == "__main__":
    main()
