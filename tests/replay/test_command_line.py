"""Logs of one model, to a router: replayed, judged, fitted and routed with on the command line, against a server on loopback."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from click.testing import CliRunner, Result

from router_ml.cli import main
from router_ml.ladder import Ladder
from router_ml.traffic.schema import SCHEMA

N = 60
EASY, HARD = "Please add the numbers {} and {}.", "Multiply in your head, showing no steps: {} times {}"


def run(*arguments: object, stdin: str | None = None) -> Result:
    done = CliRunner().invoke(main, ["-q", *map(str, arguments)], input=stdin)
    assert done.exit_code == 0, done.output
    return done


def question(i: int) -> tuple[str, int]:
    """Every other one is hard."""
    a, b = 10 + i, 90 - i
    return (HARD.format(a, b), a * b) if i % 2 else (EASY.format(a, b), a + b)


def reply(request: dict[str, Any]) -> str:
    """The full model is always right; the judge's verdict is whether the answer is."""
    asked = request["messages"][-1]["content"]
    right = next(str(answer) for text, answer in map(question, range(N)) if text in asked)
    if "response_format" in request:
        given = re.search(r"<answer-(\w+)>\n(.*?)\n</answer-\1>", asked)
        return json.dumps({"reasoning": "so", "score": 5 if given and given[2].endswith(right) else 1})
    return f"That is {right}"


@pytest.fixture
def logged(tmp_path: Path, ladder: Ladder, server: Any) -> Path:
    """The mini model's answers alone, wrong where it is hard, with tiers.yaml and endpoints.yaml beside them."""
    server.content = reply
    rows = [
        {
            "prompt_id": f"p{i:02d}",
            "prompt": text,
            "model": ladder.models[0],
            "response": f"That is {0 if i % 2 else answer}",
            "input_tokens": 12,
            "output_tokens": 4,
        }
        for i, (text, answer) in enumerate(map(question, range(N)))
    ]
    pl.DataFrame(rows, schema=SCHEMA).write_parquet(tmp_path / "logged.parquet")
    ladder.to_yaml(tmp_path / "tiers.yaml")
    defaults = {"base_url": server.base_url, "max_tokens": 16, "timeout_s": 60.0, "idempotent": True}
    (tmp_path / "endpoints.yaml").write_text(yaml.safe_dump({"defaults": defaults}))
    return tmp_path / "logged.parquet"


def replay(logged: Path, *options: object) -> Result:
    folder = logged.parent
    files = (
        "--tiers",
        folder / "tiers.yaml",
        "--endpoints",
        folder / "endpoints.yaml",
        "--out",
        folder / "more.parquet",
    )
    return run("replay", logged, *files, *options)


def by_number(folder: Path, server: Any) -> dict[str, Any]:
    references = pl.DataFrame({"prompt_id": f"p{i:02d}", "sum": str(question(i)[1])} for i in range(N))
    references.write_csv(folder / "right.csv")
    return {"references": "right.csv", "rules": [{"grader": "numeric", "reference": "sum"}]}


def by_llm(folder: Path, server: Any) -> dict[str, Any]:
    settings = {"model": "judge", "base_url": server.base_url, "input_usd_per_mtok": 0.0, "output_usd_per_mtok": 0.0}
    return {"rules": [{"grader": "llm_rubric", "settings": {**settings, "max_retries": 0}}]}


@pytest.mark.parametrize("judge", [by_number, by_llm])
def test_replayed_and_judged_logs_train_a_router(
    judge: Callable[[Path, Any], dict[str, Any]], logged: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    folder = logged.parent
    (folder / "judge.yaml").write_text(yaml.safe_dump(judge(folder, server)))

    replay(logged, "--max-usd", 100)
    run("judge", folder / "more.parquet", "--judge", folder / "judge.yaml", "--out", folder / "judged.parquet")
    tiers, out = ("--tiers", folder / "tiers.yaml"), folder / "router.onnx"
    run("fit", folder / "judged.parquet", *tiers, "--learner", "logistic", "--no-track", "--out", out)
    queries = [EASY.format(1, 2), HARD.format(3, 4)]
    routed = run("route", out, "-", stdin="\n".join(json.dumps({"prompt": q}) for q in queries))

    qualities = pl.read_parquet(folder / "judged.parquet").group_by("model").agg(pl.col("quality").mean())
    assert dict(qualities.iter_rows()) == {"mini-model": 0.5, "full-model": 1.0}
    assert [json.loads(line)["tier"] for line in routed.stdout.splitlines()] == ["mini", "full"]


def test_dry_run_sends_nothing_and_says_the_cost(logged: Path, server: Any) -> None:
    estimate = json.loads(replay(logged, "--dry-run", "--json").stdout)

    # The full tier lacks all, the mini tier none.
    assert [tier["n_calls"] for tier in estimate["tiers"]] == [0, N]
    assert not server.requests
    assert not (logged.parent / "more.parquet").exists()


def test_budget_stops_it_and_a_larger_one_goes_on_where_it_was(logged: Path, server: Any, ladder: Ladder) -> None:
    first = json.loads(replay(logged, "--max-usd", 1, "--json").stdout)
    n_first = len(server.bought)
    second = json.loads(replay(logged, "--max-usd", 100, "--json").stdout)

    assert "budget" in first["stopped"]
    assert 0 < n_first < N
    assert first["spent_usd"] <= 1
    assert second["stopped"] is None
    assert (second["n_known"], second["n_answered"]) == (n_first, N - n_first)
    assert set(server.buys().values()) == {1}
    assert second["spent_usd"] == pytest.approx(server.billed_usd(ladder))


def test_rows_that_cannot_be_used_are_listed_beside_the_output(logged: Path) -> None:
    table = pl.read_parquet(logged)
    broken = table.head(1).with_columns(prompt=pl.lit(" "))
    pl.concat([table, broken]).write_parquet(logged)

    done = replay(logged, "--max-usd", 100, "--choose", "random", "--n-prompts", 5)

    rejects = logged.parent / "more.rejects.csv"
    assert f"Left out, with the reasons: {rejects}" in done.stdout
    assert "prompt: got nothing" in rejects.read_text()
