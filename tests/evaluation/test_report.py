from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

import router_ml.evaluation
from router_ml.errors import MissingExtraError
from router_ml.evaluation import draw_figures, evaluate, html_report, text_report

PNG = b"\x89PNG not really"
TIERS = ["<script>alert(1)</script>", "mistralai/mixtral-8x7b-chat", "full"]


@pytest.fixture
def evaluation(draw):
    world = draw(np.random.default_rng(0), 120, 0.0)
    meets = world.quality.copy()
    meets[:5, 0] = np.nan
    kinds = {"source": np.array([f"kind {k % 20}" for k in range(120)])}
    return evaluate(
        world.quality_hat, world.quality_hat, world.cost_hat, world.quality, world.cost, tiers=TIERS,
        default_choice=np.arange(120) % 3, meets=meets, random_state=0, n_resamples=20, slices=kinds,
    )  # fmt: skip


def test_the_page_begins_with_the_headline_and_escapes_names(evaluation):
    page = html_report(evaluation, {}, title="A <b>router</b>", facts={"data": "<i>traffic</i>"})
    body = page.split("<body>")[1].strip()
    assert body.startswith('<p class="headline no-better">NO BETTER than the zero router')
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<i>traffic" not in page
    assert "<h1>A &lt;b&gt;router" in page


def test_the_page_needs_no_other_file(evaluation):
    page = html_report(evaluation, {"frontier": PNG, "something else": PNG}, title="A router")
    assert re.findall(r'(?:src|href)="([^"]{0,22})', page) == ["data:image/png;base64,"] * 2
    assert not re.search(r"https?://|@import|url\(", page)
    assert page.index('alt="frontier"') < page.index('alt="something else"')
    assert 'name="viewport"' in page


def test_the_text_begins_with_the_headline_and_its_tables_are_aligned(evaluation):
    text = text_report(evaluation)
    first = " ".join(text.split("\n\n")[0].split())
    assert first == evaluation.headline
    table = text.split("ROUTER AND CONTROLS\n")[1].split("\n\n")[0].splitlines()
    end = table[1].index("  ")
    assert all(line[end : end + 2] == "  " for line in table[: 2 + len(evaluation.controls)])
    assert text.endswith("\n")


def test_the_text_holds_every_part(evaluation):
    text = " ".join(text_report(evaluation).split())
    for part in ("zero router", "oracle", "random mix", "gap_closed", "cost_save_95", "APGR", "ECE", "BY SOURCE"):
        assert part in text
    assert "5 prompts are left out" in text
    assert "The 15 most frequent of 20 values." in text
    assert "nan" not in text


def test_the_public_names_are_sorted_and_exist():
    names = router_ml.evaluation.__all__
    assert names == sorted(names)
    assert all(hasattr(router_ml.evaluation, name) for name in names)


def test_what_is_missing_is_said_with_the_line_that_installs_it(evaluation, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"HTML report .* pip install 'router-ml\[train\]'"):
        html_report(evaluation, {}, title="A router")
    with pytest.raises(MissingExtraError, match="Drawing figures"):
        draw_figures(evaluation)


def test_importing_loads_neither_matplotlib_nor_jinja2():
    code = "import sys, router_ml.evaluation; print(sorted({'matplotlib', 'jinja2', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
