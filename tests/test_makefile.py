"""What `make` says before it does anything."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make where it can install nothing."""
    command = ["make", "PYTHON=false", "VENV=absent", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("given", [[], ["TRAIN=a.parquet"], ["TEST=a.parquet"], ["TRAIN= ", "TEST= "]])
def test_trust_says_which_files_to_give(given: list[str]) -> None:
    done = make("trust", *given)
    assert done.returncode == 2
    assert "make trust TRAIN=train.parquet TEST=test.parquet" in done.stderr
