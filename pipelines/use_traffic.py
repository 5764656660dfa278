"""Say in traffic.yaml what the pipeline reads: ``python -m pipelines.use_traffic [TRAFFIC [TIERS [BAR]]]``; "" is the default."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import yaml

from router_ml.errors import RouterError
from router_ml.ladder import Ladder
from router_ml.traffic.calls import spoken
from router_ml.traffic.labels import Bar
from router_ml.traffic.read import scan
from router_ml.workflow import FitOptions, hash_files
from router_ml.workflow.durations import fit_seconds

_OTHER_STAGES_S = 40.0
_HEADER = (
    "# What the pipeline reads, written by 'make demo'; null: the bundled sample, its ladder, the bar of params.yaml.\n"
)


def main(traffic: str = "", tiers: str = "", bar: str = "") -> None:
    """Write the file only where it changes, with the data's hash, so that a change of the data is seen."""
    if tiers:
        Ladder.from_yaml(tiers)
    if bar:
        Bar.parse(bar)
    content = {
        "path": str(Path(traffic).resolve()) if traffic else None,
        "sha256": hash_files([traffic]) if traffic else None,
        "tiers": str(Path(tiers).resolve()) if tiers else None,
        "bar": bar or None,
    }
    say_how_long(traffic)
    text = _HEADER + yaml.safe_dump(content, sort_keys=False)
    path = Path("traffic.yaml")
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def say_how_long(traffic: str) -> None:
    """Tell on stderr about how long `dvc repro` takes where none of its stages is done yet."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    if traffic:
        n = scan([traffic]).select(pl.col("prompt").n_unique()).collect().item()
    else:
        n = params["ingest"]["sample_prompts"]
    options = FitOptions(learner=params["train"]["learner"], cascade=params["train"]["cascade"])
    start_s, per_prompt_s = fit_seconds(options)
    seconds = _OTHER_STAGES_S + start_s + (1 - params["ingest"]["test_share"]) * n * per_prompt_s
    print(f"The pipeline on {n:,} prompts takes about {spoken(seconds)} on a free core.", file=sys.stderr)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except RouterError as exc:
        sys.exit(f"Error: {exc}")
