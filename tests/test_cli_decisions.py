"""Commands on promises, limits, explanations and logs with one model a prompt."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
from click.testing import CliRunner, Result

from router_ml.cli import main
from router_ml.datasets import TIERS_PATH, simulate


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


class Fitted(NamedTuple):
    router: Path
    log: Path
    report: dict[str, object]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A router with promises and neighbours, and a log that another policy wrote."""
    folder = tmp_path_factory.mktemp("decisions")
    simulate(900, random_state=0).write_parquet(folder / "traffic.parquet")
    simulate(500, random_state=1, logged=True).write_parquet(folder / "log.parquet")
    done = run(
        *(
            "-q",
            "fit",
            folder / "traffic.parquet",
            "--tiers",
            TIERS_PATH,
            "--learner",
            "logistic",
            "--no-track",
            "--json",
        ),
        *("--max-loss", 0.1, "--neighbours", "--out", folder / "router.onnx"),
    )
    assert done.exit_code == 0, done.output
    return Fitted(folder / "router.onnx", folder / "log.parquet", json.loads(done.stdout))


def test_fit_reports_its_promises(fitted: Fitted) -> None:
    assert {(p["kind"], p["limit"]) for p in fitted.report["promises"]} >= {("loss", 0.02), ("loss", 0.1)}  # type: ignore[attr-defined, index]


def test_inspect_names_reference_tier_promises_and_novelty(fitted: Fitted) -> None:
    page = run("inspect", fitted.router).stdout
    assert "reference tier: full" in page
    assert "quality loss against the reference tier <= 0.1" in page
    assert "novelty: above" in page


def test_route_takes_a_promise(fitted: Fitted) -> None:
    assert run("route", fitted.router, "What is the capital of Peru?", "--max-loss", 0.1).exit_code == 0


def test_a_promise_that_was_not_made_is_refused_with_what_there_is(fitted: Fitted) -> None:
    done = run("route", fitted.router, "Hello", "--max-loss", 0.001)
    assert done.exit_code == 2
    assert "certifies no max_loss as strict as 0.001" in done.stderr


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (("--max-cost-usd", 0), "the ceiling is $0.000000"),
        (("--max-loss", 0), "Invalid value for '--max-loss'"),
        (("--delta", 0), "Invalid value for '--delta'"),
    ],
)
def test_a_zero_is_not_left_out(fitted: Fitted, option: tuple[str, int], says: str) -> None:
    result = run("route", fitted.router, "Hello", *option)
    assert result.exit_code != 0
    assert says in result.output


@pytest.mark.parametrize(("option", "policy"), [("--threshold", "threshold"), ("--lam", "utility")])
def test_a_parameter_may_be_zero(fitted: Fitted, option: str, policy: str) -> None:
    decision = json.loads(run("route", fitted.router, "Hello", option, 0, "--json").stdout)
    assert (decision["policy"], decision["parameter"]) == (policy, 0)


def test_a_request_says_itself_what_it_needs(fitted: Fitted) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 10**9, "tools": [{"type": "function"}]}
    for command in ("route", "explain"):
        result = CliRunner().invoke(main, [command, str(fitted.router), "-"], input=json.dumps(body) + "\n")
        assert "1,000,000,000 for the answer" in result.output


def test_what_is_asked_for_on_the_command_line_adds_to_that(fitted: Fitted) -> None:
    body = {"prompt": "Hello", "max_tokens": 10**9, "tools": [{"type": "function"}]}
    result = CliRunner().invoke(
        main,
        ["route", str(fitted.router), "-", "--output-tokens", "5", "--require", "vision"],
        input=json.dumps(body) + "\n",
    )
    assert result.exit_code == 0, result.output


def test_nothing_on_stdin_is_nothing_to_explain(fitted: Fitted) -> None:
    result = CliRunner().invoke(main, ["explain", str(fitted.router), "-"], input="\n")
    assert (result.exit_code, "Nothing is on stdin" in result.output) == (2, True)


def test_a_query_that_no_tier_may_take_names_each_tiers_reason(fitted: Fitted) -> None:
    done = run("route", fitted.router, "Hello", "--max-cost-usd", 1e-9)
    assert done.exit_code == 1
    assert done.stderr.count("the ceiling is") == 3


def test_explain_shows_each_tier_and_similar_prompts(fitted: Fitted) -> None:
    page = run("explain", fitted.router, "What is the capital of Peru?").stdout
    assert all(tier in page for tier in ("nano", "mini", "full"))
    assert "Novelty" in page
    assert page.count("  like ") == 5


def test_explain_as_json_has_the_decision(fitted: Fitted) -> None:
    content = json.loads(run("explain", fitted.router, "Hello", "--forbid", "full", "--json").stdout)
    assert content["decision"]["tier"] != "full"
    assert [t["why_not"] for t in content["tiers"]] == [None, None, "not allowed"]


def test_a_report_repeats_what_was_promised_and_for_which_traffic(fitted: Fitted, tmp_path: Path) -> None:
    simulate(200, random_state=2).write_parquet(tmp_path / "held-out.parquet")
    lines = run("-q", "evaluate", fitted.router, tmp_path / "held-out.parquet", "--resamples", 10).stdout.splitlines()
    assert any(line.startswith("Guarantees: with probability 1 - delta") for line in lines)
    assert any(re.match(r"quality loss +0\.05 ", line) for line in lines)


def test_a_log_is_judged_off_policy(fitted: Fitted) -> None:
    done = run("-q", "evaluate", fitted.router, fitted.log, "--off-policy", "--json")
    assert done.exit_code == 0, done.output
    assert "Doubly robust" in run("-q", "evaluate", fitted.router, fitted.log, "--off-policy").stdout


def test_the_setting_that_is_asked_for_is_judged_off_policy(fitted: Fitted) -> None:
    asked = ("--threshold", 0, "--ignore-novelty")
    done = run("-q", "evaluate", fitted.router, fitted.log, "--off-policy", *asked, "--json")
    found = json.loads(done.stdout)
    assert found["setting"] == "policy threshold, parameter 0, ignore_novelty=True"
    assert found["share"] == [1, 0, 0]


def test_a_setting_is_no_matter_of_traffic_that_every_tier_answered(fitted: Fitted) -> None:
    done = run("evaluate", fitted.router, fitted.log, "--threshold", 0.5)
    assert done.exit_code == 2
    assert "are for --off-policy" in done.stderr


def test_a_log_that_cannot_answer_for_the_router_fails_and_tells_what_it_knows(fitted: Fitted, tmp_path: Path) -> None:
    one = simulate(200, random_state=2).filter(pl.col("model") == "gpt-4.1-mini").with_columns(propensity=pl.lit(1.0))
    one.write_parquet(tmp_path / "one.parquet")
    done = run("-q", "evaluate", fitted.router, tmp_path / "one.parquet", "--off-policy", "--json")
    assert done.exit_code == 1
    assert "Error: This log can't answer for the router" in done.stderr
    found = json.loads(done.stdout)
    assert found["router"]["quality"] is None
    assert [c["quality"] is None for c in found["constants"]] == [True, False, True]
    forced = run("-q", "evaluate", fitted.router, tmp_path / "one.parquet", "--off-policy", "--allow", "mini")
    assert forced.exit_code == 0, forced.output


def test_a_ceiling_of_nothing_is_a_ceiling(fitted: Fitted) -> None:
    done = run("route", fitted.router, "Hello", "--max-cost-usd", 0)
    assert done.exit_code == 1
    assert done.stderr.count("the ceiling is") == 3


def test_an_exploration_plan_keeps_its_budget(fitted: Fitted) -> None:
    done = run("-q", "explore", fitted.router, fitted.log, "--budget-usd", 1, "--prompts", 1000, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["extra_cost_usd"] <= 1


def test_off_policy_has_no_html_report(fitted: Fitted, tmp_path: Path) -> None:
    done = run("evaluate", fitted.router, fitted.log, "--off-policy", "--report", tmp_path / "r.html")
    assert done.exit_code == 2


@pytest.mark.slow
def test_a_partial_log_is_fitted_and_says_what_it_is_worth(fitted: Fitted, tmp_path: Path) -> None:
    log = pl.read_parquet(fitted.log).drop("propensity")
    log.write_parquet(tmp_path / "log.parquet")
    done = run("fit", tmp_path / "log.parquet", "--learner", "logistic", "--no-track", "--out", tmp_path / "r.onnx")
    assert done.exit_code == 0, done.output
    assert "weighted by propensities estimated from the prompts" in done.stderr
