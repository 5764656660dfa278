"""Every module that a stage of dvc.yaml uses is one of its dependencies, and every dependency is used."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import grimp
import pytest
import yaml

from router_ml import workflow

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("router_ml")


def called(stage: str) -> set[str]:
    """The modules of router_ml that a stage's script imports, or reaches through ``workflow``."""
    tree = ast.parse((ROOT / "pipelines" / f"{stage}.py").read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("router_ml."):
            found.add(node.module or "")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "workflow":
            found.add(getattr(workflow, node.attr).__module__)
    return found


def used(stage: str) -> set[str]:
    """The files that a stage runs, as paths from the repository's root."""
    modules = set(called(stage))
    for module in called(stage):
        modules |= graph().find_upstream_modules(module)
    # Packages' own files say what is exported, and do nothing.
    paths = {ROOT / Path(*m.split(".")).with_suffix(".py") for m in modules}
    return {str(p.relative_to(ROOT)) for p in paths if p.exists()}


def code(stage: str) -> list[str]:
    return [d for d in STAGES[stage]["deps"] if d.startswith("router_ml")]


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_uses_reruns_it(stage: str) -> None:
    lacking = [f for f in used(stage) if not any(f == d or f.startswith(f"{d}/") for d in code(stage))]
    assert not lacking


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_else_reruns_a_stage(stage: str) -> None:
    files = used(stage)
    assert [d for d in code(stage) if not any(f == d or f.startswith(f"{d}/") for f in files)] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_its_own_script_and_on_what_stages_share(stage: str) -> None:
    assert {f"pipelines/{stage}.py", "pipelines/stage.py"} <= set(STAGES[stage]["deps"])


def test_each_stages_output_is_read_by_a_later_one_or_is_the_result() -> None:
    outs = {o for s in STAGES.values() for o in s.get("outs", [])}
    read = {d for s in STAGES.values() for d in s["deps"]}
    assert outs - read == {"reports/report.html", "reports/report.txt"}
