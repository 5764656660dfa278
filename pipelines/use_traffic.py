"""Say in traffic.yaml what the pipeline reads: ``python -m pipelines.use_traffic [TRAFFIC [TIERS [BAR]]]``; "" is the default."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from router_ml.errors import RouterError
from router_ml.ladder import Ladder
from router_ml.traffic.labels import Bar
from router_ml.workflow import hash_files

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
    text = _HEADER + yaml.safe_dump(content, sort_keys=False)
    path = Path("traffic.yaml")
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except RouterError as exc:
        sys.exit(f"Error: {exc}")
