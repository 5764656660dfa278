"""Whether a router's probabilities and its novelty mean what they say.

    python -m pipelines.benchmark_signals test.parquet --router router.onnx --other other.parquet --out benchmark/

On prompts that the router was not fitted on: ECE and Brier score of `p_meets` per tier, beside the ECE that noise alone would make; and how well
novelty tells other traffic from these prompts (AUROC), and how much of each goes to the safe tier. ``--other FILE:text`` takes only rows whose source or
category holds the text.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml import workflow
from router_ml.core.router import Router
from router_ml.evaluation.calibration import calibration_error
from router_ml.traffic.labels import Bar, meets
from router_ml.traffic.observations import observe


def calibration_rows(router: Router, test: Path) -> list[dict[str, Any]]:
    """Of each tier: its error of calibration, with intervals, and the floor of noise."""
    seen = observe(workflow.read_traffic([test]).traffic, router.ladder)
    met = meets(seen.quality, router.ladder, Bar(**router.metadata.bar))
    p = router.predict(seen.prompt.tolist()).p_meets
    rows = []
    for t, tier in enumerate(router.ladder.names):
        error = calibration_error(p[:, t], met[:, t], random_state=0)
        rows.append(
            {
                "tier": tier,
                "n": int((~np.isnan(met[:, t])).sum()),
                "ece": error.ece.estimate,
                "low": error.ece.low,
                "high": error.ece.high,
                "floor": error.floor,
                "floor_high": error.floor_high,
                "brier": error.brier.estimate,
            }
        )
    return rows


def novelty_rows(router: Router, test: Path, others: tuple[str, ...]) -> list[dict[str, Any]]:
    """Of the test prompts and of each other file: the share above the threshold, and the AUROC against the test prompts."""
    from sklearn.metrics import roc_auc_score

    threshold = math.inf if router.metadata.novelty_threshold is None else router.metadata.novelty_threshold
    own = _novelty(router, str(test))
    rows = [{"traffic": test.name, "n": len(own), "auroc": None, "above": float((own > threshold).mean())}]
    for other in others:
        theirs = _novelty(router, other)
        label = np.repeat([0, 1], [len(own), len(theirs)])
        auroc = float(roc_auc_score(label, np.concatenate([own, theirs])))
        rows.append(
            {
                "traffic": Path(other).name,
                "n": len(theirs),
                "auroc": auroc,
                "above": float((theirs > threshold).mean()),
            }
        )
    return rows


def _novelty(router: Router, source: str) -> NDArray[np.float32]:
    path, _, text = source.partition(":")
    table = workflow.read_traffic([path]).traffic.unique("prompt_id", keep="first", maintain_order=True)
    if text:
        found = pl.any_horizontal(pl.col("source", "category").fill_null("").str.contains(text, literal=True))
        table = table.filter(found)
    return router.predict(table["prompt"].to_list()).novelty


@click.command()
@click.argument("test", type=click.Path(exists=True, path_type=Path))
@click.option("--router", "artifact", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--other", "others", multiple=True, help="Other traffic, FILE or FILE:text; several times.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
def main(test: Path, artifact: Path, others: tuple[str, ...], out: Path) -> None:
    """Measure an artifact; it must not have been fitted on TEST."""
    router = Router.load(artifact)
    calibration, novelty = calibration_rows(router, test), novelty_rows(router, test, others)
    lines = [
        f"# Signals of {artifact.name} on {test.name}",
        "",
        "| tier | prompts | ECE | 95 % interval | noise alone | at most | Brier |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {r['tier']} | {r['n']:,} | {r['ece']:.4f} | {r['low']:.3f} to {r['high']:.3f} | {r['floor']:.4f} | "
            f"{r['floor_high']:.4f} | {r['brier']:.4f} |"
            for r in calibration
        ),
        "",
        "| traffic | prompts | AUROC of novelty | above the threshold |",
        "|---|---|---|---|",
        *(
            f"| {r['traffic']} | {r['n']:,} | {'' if r['auroc'] is None else format(r['auroc'], '.3f')} | {r['above']:.1%} |"
            for r in novelty
        ),
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "signals.md").write_text("\n".join(lines) + "\n")
    (out / "signals.json").write_text(json.dumps({"calibration": calibration, "novelty": novelty}, indent=2))
    click.echo("\n".join(lines))


if __name__ == "__main__":
    main()
