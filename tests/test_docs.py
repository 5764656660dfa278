"""The docs: their links lead somewhere, their words are defined, and what they say of the tree is so."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted((ROOT / "docs").glob("*.md"))

TERMS = [
    *("tier", "ladder", "traffic", "quality bar", "label", "reference tier", "policy", "operating point", "menu"),
    *("guarantee", "cascade", "propensity", "zero router", "oracle", "AIQ", "gap_closed", "artifact", "decision"),
]

_FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:")
_PATH = re.compile(r"`([\w./-]+(?:\.py|\.mjs|\.json|\.yaml|\.toml|\.md))`")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    for link in _LINK.findall(prose(page)):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        is_broken = not target.exists() or bool(anchor and target.suffix == ".md" and anchor not in anchors(target))
        if not _SCHEME.match(link) and is_broken:
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_of_the_repository(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_a_link_to_nothing_is_broken(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# The page\n[a](page.md#the-page) [b](page.md#no) [c](no.md) [d](https://no.example)\n```\n[e](no)\n```\n"
    )
    assert list(broken_links(page)) == ["page.md#no", "no.md"]


@pytest.mark.parametrize("term", TERMS)
def test_glossary_defines(term: str) -> None:
    sections = prose(ROOT / "docs" / "glossary.md").replace("\n### ", "\n## ").split("\n## ")
    definitions = {title.strip("` "): text.strip() for title, _, text in (s.partition("\n") for s in sections)}
    assert definitions.get(term, "").endswith(".")


def test_architecture_names_every_package() -> None:
    package = ROOT / "router_ml"
    packages = {init.parent.relative_to(package).as_posix() for init in package.rglob("__init__.py")} - {"."}
    named = set(re.findall(r"`([\w./-]+)`", prose(ROOT / "docs" / "architecture.md")))
    assert packages - named == set()


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md"])
def test_files_that_are_named_are_there(name: str) -> None:
    """By their path from the root or from the package; NAME is the reader's to choose, and some are a user's own."""
    own = {"tiers.yaml", "judge.yaml", "endpoints.yaml", "traffic.yaml"}
    named = {path for path in _PATH.findall(prose(ROOT / name)) if "NAME" not in path} - own
    # A bare name is that of a file of the package which the same row or sentence names.
    bare = {path for path in named if "/" not in path}
    assert named
    assert {
        path for path in named - bare if not any((ROOT / base / path).exists() for base in ("", "router_ml"))
    } == set()
    assert {path for path in bare if not any(ROOT.glob(path)) and not any((ROOT / "router_ml").rglob(path))} == set()


def test_architecture_draws_the_layers_of_the_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    drawing = _FENCED.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))[0].splitlines()[1:-1]
    drawn = [re.split(r" {2,}", line)[0] for line in drawing]
    assert drawn == [layer.replace("router_ml.", "").replace(" : ", ", ") for layer in layers]


def test_citation_is_valid_and_repeats_no_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()  # what the format requires
    assert citation["title"] == "router-ml"
    assert citation["authors"] == [{"name": "The router-ml contributors"}]
    assert not {"version", "date-released"} & citation.keys()


def test_the_node_client_has_the_version_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    client = json.loads((ROOT / "clients" / "node" / "package.json").read_text(encoding="utf-8"))
    assert client["version"] == project["version"]


def test_the_decisions_are_numbered_and_indexed() -> None:
    page = ROOT / "docs" / "decisions.md"
    headings = re.findall(r"^## (\d+\. .+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    index = re.findall(r"^(\d+\. )\[(.+)\]\(#", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert [number + title for number, title in index] == headings
    assert [int(heading.partition(".")[0]) for heading in headings] == list(range(1, len(headings) + 1))
