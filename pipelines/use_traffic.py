"""Say in traffic.yaml which traffic the pipeline reads: ``python -m pipelines.use_traffic [TRAFFIC [TIERS]]``."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from router_ml.errors import RouterError
from router_ml.workflow import hash_files

_HEADER = "# The traffic that the pipeline reads; null: the bundled sample of simulated traffic.\n"


def main(traffic: str = "", tiers: str = "") -> None:
    """Write the file only where it changes, with the data's hash, so that a change of the data is seen."""
    content = {
        "path": str(Path(traffic).resolve()) if traffic else None,
        "sha256": hash_files([traffic]) if traffic else None,
        "tiers": str(Path(tiers).resolve()) if tiers else None,
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
