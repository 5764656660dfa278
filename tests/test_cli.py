"""The command line: the whole path on a small sample, and one clear line for whatever is wrong."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import onnx
import polars as pl
import pytest
from click.testing import CliRunner, Result

from router_ml.cli import main
from router_ml.core.artifact import SCHEMA_KEY
from router_ml.core.router import Router
from router_ml.datasets import TIERS_PATH, sample_ladder, simulate
from router_ml.ladder import Ladder

BAD_ROW = 7
"""The row, counted from 1, whose quality is 1.7 in the traffic that the path below starts from."""


def run(*arguments: object, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], input=stdin)


class Path300(NamedTuple):
    """300 simulated prompts of which one row is bad, and what the commands made of them."""

    traffic: Path
    router: Path
    fit: Result


@pytest.fixture(scope="module")
def path300(tmp_path_factory: pytest.TempPathFactory) -> Path300:
    folder = tmp_path_factory.mktemp("cli")
    traffic, router = folder / "traffic.parquet", folder / "router.onnx"
    assert run("sample", "--out", traffic, "--n-prompts", 300).exit_code == 0
    quality = pl.when(pl.int_range(pl.len()) == BAD_ROW - 1).then(1.7).otherwise("quality")
    pl.read_parquet(traffic).with_columns(quality=quality).write_parquet(traffic)
    return Path300(
        traffic,
        router,
        run(
            *("-q", "fit", traffic, "--tiers", TIERS_PATH, "--learner", "logistic"),
            *("--out", router, "--no-track", "--json"),
        ),
    )


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return simulate(60, random_state=0)


def lines_of(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# Help


@pytest.mark.parametrize("command", [None, *sorted(main.commands)])
def test_help_holds_an_example(command: str | None) -> None:
    page = run(*([command] if command else []), "--help").output.replace("Usage: ", "")
    assert any(line.strip().startswith(f"router-ml {command or ''}".strip()) for line in page.splitlines())


@pytest.mark.parametrize("command", [None, *sorted(main.commands)])
def test_help_shows_no_markup(command: str | None) -> None:
    assert "\\b" not in run(*([command] if command else []), "--help").output


def test_each_command_is_listed_once_with_a_summary_that_is_whole() -> None:
    listed = [
        line.split()[0] for line in run("--help").output.splitlines() if line.startswith("  ") and "  " in line[2:]
    ]
    assert sorted(name for name in listed if name in main.commands) == sorted(main.commands)
    assert "..." not in run("--help").output.split("Get traffic")[1].replace("CSV, ...", "")


def test_commands_are_listed_in_the_order_of_their_use() -> None:
    page = run("--help").output
    places = [
        page.index(f"\n  {name} ") for name in ("sample", "ingest", "replay", "judge", "fit", "evaluate", "route")
    ]
    assert places == sorted(places)


@pytest.mark.parametrize("command", sorted(main.commands))
def test_each_option_says_what_it_does(command: str) -> None:
    assert not [p.name for p in main.commands[command].params if isinstance(p, click.Option) and not p.help]


def test_ctrl_c_is_exit_code_130(artifact: Path) -> None:
    command = [sys.executable, "-m", "router_ml.cli", "route", str(artifact), "-"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write('"Hello"\n')
        process.stdin.flush()
        process.stdout.readline()  # It is at work now.
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr.strip()) == (130, "Interrupted.")


# The path


def test_fit_goes_on_past_one_bad_row(path300: Path300) -> None:
    assert path300.fit.exit_code == 0, path300.fit.output


@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_evaluate_says_how_long_it_takes_before_it_reads(quiet: list[str], path300: Path300) -> None:
    said = run(*quiet, "evaluate", path300.router, path300.traffic, "--resamples", 10).stderr
    assert (" prompts takes about" in said) == (not quiet)


def test_fit_prints_one_json_object(path300: Path300) -> None:
    assert json.loads(path300.fit.stdout)["rejected"] == 1


def test_the_rejects_name_the_row_and_the_reason(path300: Path300) -> None:
    with Path(json.loads(path300.fit.stdout)["rejects"]).open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "file": str(path300.traffic),
        "row": str(BAD_ROW),
        "reason": "quality: got 1.7, needed a number in [0, 1]",
    }


def test_fit_leaves_only_what_it_says(path300: Path300) -> None:
    left = {p.name for p in path300.router.parent.iterdir() if p.suffix in (".onnx", ".tmp", ".csv")}
    assert left == {"router.onnx", "router.rejects.csv"}


def test_evaluate_prints_one_json_object(path300: Path300) -> None:
    result = run("-q", "evaluate", path300.router, path300.traffic, "--resamples", 10, "--json")
    assert json.loads(result.stdout)["n_prompts"] == 299


def test_route_prints_the_tier_and_why(path300: Path300) -> None:
    decision = Router.load(path300.router).route("Hello")
    assert (
        run("route", path300.router, "Hello").stdout == f"{decision.tier}\t{decision.model}\n{decision.explanation}\n"
    )


def test_route_takes_the_knobs(path300: Path300) -> None:
    result = run("route", path300.router, "Hello", "--allow", "mini", "--allow", "full", "--threshold", "0", "--json")
    assert json.loads(result.stdout)["tier"] == "mini"


def test_route_reads_every_form_of_a_json_line(path300: Path300) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    queries = ["Hello", messages, {"prompt": "Hello"}, {"messages": messages}]
    result = run("route", path300.router, "-", stdin="\n\n".join(map(json.dumps, queries)))
    assert [d["p_meets"] for d in lines_of(result)] == [Router.load(path300.router).route("Hello").p_meets] * 4


def test_inspect_prints_the_metadata(path300: Path300) -> None:
    tiers = json.loads(run("inspect", path300.router, "--json").stdout)["ladder"]
    assert [t["name"] for t in tiers] == ["nano", "mini", "full"]


def test_inspect_begins_with_the_headline_and_the_menu_and_names_the_tiers(path300: Path300) -> None:
    page = run("inspect", path300.router).stdout
    assert "of what always using full costs" in page.splitlines()[0]
    assert all(word in page for word in ("tier nano: gpt-4.1-nano", "1pt *", "0.5pt", "bar: quality >= 0.8"))
    assert "None" not in page
    assert not set("{}[]") & set(page)


def test_label_counts_every_prompt(path300: Path300, tmp_path: Path) -> None:
    result = run("-q", "label", path300.traffic, "--tiers", TIERS_PATH, "--out", tmp_path / "labels.parquet", "--json")
    assert (
        sum(json.loads(result.stdout)["labels"].values()) == pl.read_parquet(tmp_path / "labels.parquet").height == 300
    )


def test_label_shares_are_of_the_categorys_own_prompts(path300: Path300, tmp_path: Path) -> None:
    page = run("-q", "label", path300.traffic, "--tiers", TIERS_PATH, "--out", tmp_path / "labels.parquet").stdout
    rows = [line for line in page.split("share of the category")[1].splitlines() if line.endswith("%")]
    shares: dict[str, float] = {}
    for row in rows:
        category, *_, share, _ = row.replace(":", " ").split()
        shares[category] = shares.get(category, 0.0) + float(share)
    assert len(shares) > 5
    assert all(total == pytest.approx(100, abs=0.3) for total in shares.values())


def test_embed_writes_a_row_a_prompt(path300: Path300, tmp_path: Path) -> None:
    run("-q", "embed", path300.traffic, "--out", tmp_path / "embeddings.parquet")
    assert pl.read_parquet(tmp_path / "embeddings.parquet").columns == ["prompt_id", "n_chars", "embedding", "tokens"]


@pytest.mark.parametrize("command", ["label", "embed"])
def test_rejects_are_named_with_their_reasons(command: str, frame: pl.DataFrame, tmp_path: Path) -> None:
    bad = frame.with_columns(quality=pl.when(pl.int_range(pl.len()) == 1).then(7.0).otherwise("quality"))
    bad.write_parquet(tmp_path / "traffic.parquet")
    done = run(command, tmp_path / "traffic.parquet", "--out", tmp_path / "out.parquet")
    assert f"Left out, with the reasons: {tmp_path / 'out.rejects.csv'}" in done.stdout
    assert "row 2: quality: got 7.0" in done.stderr


def test_the_ladder_of_a_sample_is_written_beside_it(tmp_path: Path) -> None:
    said = run("sample", "--out", tmp_path / "s.parquet", "--n-prompts", 20).stdout
    assert f"their ladder: {tmp_path / 's.tiers.yaml'}" in said
    assert Ladder.from_yaml(tmp_path / "s.tiers.yaml") == sample_ladder()


def test_logged_sample_has_one_row_a_prompt(tmp_path: Path) -> None:
    run("sample", "--out", tmp_path / "logged.parquet", "--n-prompts", 20, "--logged")
    assert pl.read_parquet(tmp_path / "logged.parquet").height == 20


# What is wrong is said in one line


def check_refused(result: Result, says: str) -> None:
    """Exit code 1 or 2, and one line on stderr that begins with "Error" and holds `says`."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in (1, 2)
    lines = result.stderr.strip().splitlines()
    errors = [line for line in lines if line.startswith("Error")]
    assert errors == lines[-1:], result.stderr
    assert len(lines) == 1 or lines[0].startswith("Usage: ")
    assert says in errors[0]


def refused_fit(folder: Path, frame: pl.DataFrame, says: str, *options: object) -> None:
    """Fit on the frame is refused, and leaves the folder as it was."""
    frame.write_parquet(folder / "traffic.parquet")
    before = sorted(folder.iterdir())
    check_refused(
        run("-q", "fit", folder / "traffic.parquet", "--out", folder / "router.onnx", "--no-track", *options), says
    )
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.clear(), "holds no rows"),
        (lambda f: f.drop("prompt"), "lacks the column(s) ['prompt']"),
        (lambda f: f.drop("model"), "lacks the column(s) ['model']"),
        (lambda f: f.drop("quality"), "No row has a quality"),
        (lambda f: f.with_columns(quality=pl.lit(1.7)), "row 1: quality: got 1.7, needed a number in [0, 1]"),
        (lambda f: f.with_columns(quality=pl.lit(None, pl.Float64)), "No row has a quality"),
        (lambda f: f.with_columns(cost_usd=pl.lit(float("nan"))), "row 1: cost_usd: got NaN"),
        (lambda f: f.with_columns(prompt=pl.lit(" ")), "row 1: prompt: got nothing"),
        (lambda f: f.with_columns(prompt=pl.lit("a\0")), "row 1: prompt: holds NUL"),
        (lambda f: f.filter(model="gpt-4.1"), "one tier only"),
        (lambda f: f.with_columns(quality=pl.when(model="gpt-4.1").then(None).otherwise("quality")), "['gpt-4.1']"),
        (lambda f: f.with_columns(quality=pl.lit(1.0)), "every prompt has the label"),
        (lambda f: f.with_columns(quality=pl.lit(0.0)), "'none'"),
        (lambda f: f.head(9), "at least 20"),
    ],
    ids=[
        "empty",
        "no-prompt",
        "no-model",
        "no-quality",
        "out-of-range",
        "unjudged",
        "nan-cost",
        "blank",
        "nul",
        "one-tier",
        "unjudged-tier",
        "all-met",
        "none-met",
        "few",
    ],
)
def test_traffic_that_cannot_be_learned_from(
    change: Callable[[pl.DataFrame], pl.DataFrame], says: str, frame: pl.DataFrame, tmp_path: Path
) -> None:
    refused_fit(tmp_path, change(frame), says)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--learner", "forest"], "forest"),
        (["--bar", "high"], "high"),
        (["--bar", "1.5"], "1.5"),
        (["--bar", "0.95x", "--reference", "huge"], "huge"),
        (["--bar", "0.5", "--reference", "huge"], "huge"),
        (["--max-loss", "1.5"], "--max-loss"),
        (["--max-loss", "0.1", "--max-violation", "0.1"], "max_loss or max_violation"),
        (["--max-quality-drop", "1"], "--max-quality-drop"),
        (["--tiers", "missing.yaml"], "missing.yaml"),
    ],
)
def test_options_out_of_range(options: list[str], says: str, frame: pl.DataFrame, tmp_path: Path) -> None:
    refused_fit(tmp_path, frame, says, *options)


def test_tiers_that_name_a_model_nobody_tried(frame: pl.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "tiers.yaml").write_text("tiers: [{model: gpt-4.1}, {model: untried}]", encoding="utf-8")
    refused_fit(tmp_path, frame, "['untried']", "--tiers", tmp_path / "tiers.yaml")


def test_tiers_that_are_no_yaml(frame: pl.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "tiers.yaml").write_text("tiers: [\n  {model: a\n", encoding="utf-8")
    refused_fit(tmp_path, frame, "tiers.yaml", "--tiers", tmp_path / "tiers.yaml")


@pytest.mark.parametrize("name", ["missing.parquet", "text.parquet", "text.txt"])
def test_files_that_are_no_traffic(name: str, tmp_path: Path) -> None:
    for present in ("text.parquet", "text.txt"):
        (tmp_path / present).write_text("hello\n", encoding="utf-8")
    check_refused(run("-q", "fit", tmp_path / name, "--out", tmp_path / "router.onnx", "--no-track"), name)


@pytest.mark.parametrize(
    "command",
    [
        ["fit", "", "--out", "router.onnx"],
        ["fit", "a.parquet", " ", "--out", "router.onnx"],
        ["label", "", "--out", "labels.parquet"],
        ["embed", "", "--out", "embeddings.parquet"],
        ["ingest", "table", "", "--out", "traffic.parquet"],
        ["embed", "a.parquet", "--cache", "", "--out", "embeddings.parquet"],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_wrong_usage(command: list[str]) -> None:
    result = run(*command)
    check_refused(result, "The path is empty")
    assert result.exit_code == 2


@pytest.mark.parametrize("command", ["label", "embed"])
def test_other_commands_leave_nothing_either(command: str, frame: pl.DataFrame, tmp_path: Path) -> None:
    frame.drop("prompt").write_parquet(tmp_path / "traffic.parquet")
    check_refused(run("-q", command, tmp_path / "traffic.parquet", "--out", tmp_path / "out.parquet"), "['prompt']")
    assert [p.name for p in tmp_path.iterdir()] == ["traffic.parquet"]


def test_an_output_that_cannot_be_written(frame: pl.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    frame.write_parquet(tmp_path / "traffic.parquet")
    check_refused(
        run("-q", "label", tmp_path / "traffic.parquet", "--out", tmp_path / "file" / "labels.parquet"),
        "can't be written",
    )


def test_evaluate_on_traffic_without_the_routers_models(path300: Path300, frame: pl.DataFrame, tmp_path: Path) -> None:
    frame.with_columns(model=pl.lit("other")).write_parquet(tmp_path / "other.parquet")
    check_refused(run("-q", "evaluate", path300.router, tmp_path / "other.parquet"), "gpt-4.1-nano")


def another_schema(path: Path) -> bytes:
    model = onnx.load(path)
    next(p for p in model.metadata_props if p.key == SCHEMA_KEY).value = "99"
    return model.SerializeToString()


def foreign(path: Path) -> bytes:
    model = onnx.load(path)
    del model.metadata_props[:]
    return model.SerializeToString()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b" \n"])
def test_bench_refuses_a_file_that_is_no_text(content: bytes, path300: Path300, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_bytes(content)
    check_refused(run("-q", "bench", path300.router, "--prompts", tmp_path / "prompts.txt"), "prompts.txt")


def test_bench_bounds_its_threads(path300: Path300) -> None:
    check_refused(run("bench", path300.router, "--threads", 1_000_000), "--threads")


def test_bench_prints_json_alone_on_stdout(path300: Path300) -> None:
    result = run("bench", path300.router, "--calls", 10, "--threads", 20, "--seconds", 1, "--json")
    assert json.loads(result.stdout)["latencies"][-1]["n_calls"] == 10
    assert "bench" in result.stderr


@pytest.mark.parametrize("command", ["route", "inspect", "evaluate"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda p: p.read_bytes()[:-100], "truncated"),
        (another_schema, "schema version '99'"),
        (foreign, "isn't a router-ml artifact"),
        (lambda p: b"hello\n", "broken.onnx"),
    ],
    ids=["truncated", "another-schema", "foreign", "text"],
)
def test_files_that_are_no_artifact(
    command: str, damage: Callable[[Path], bytes], says: str, path300: Path300, tmp_path: Path
) -> None:
    (tmp_path / "broken.onnx").write_bytes(damage(path300.router))
    more = {"route": ["Hello"], "inspect": [], "evaluate": [path300.traffic]}[command]
    check_refused(run("-q", command, tmp_path / "broken.onnx", *more), says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([""], "empty"),
        ([" \n"], "empty"),
        (["Hello", "--threshold", "2"], "--threshold"),
        (["Hello", "--allow", "huge"], "'huge'"),
        (["Hello", "--threshold", "1", "--lam", "1"], "'threshold' and 'lam' are given together"),
        (["Hello", "--at", "3pt"], "'3pt'"),
    ],
)
def test_prompts_and_policies_that_cannot_be_used(path300: Path300, arguments: list[str], says: str) -> None:
    check_refused(run("route", path300.router, *arguments), says)


@pytest.mark.parametrize(
    ("stdin", "says"),
    [
        (b'"Hello"\n{"prompt": ', "Line 2"),
        (b'"Hello"\n"caf\xe9"', "Line 2"),
        (b"[" * 100_000, "Line 1"),
        (b"7", "int"),
        (b'""', "empty"),
        (b'"a\\u0000b"', "NUL"),
        (b'"a\\ud800b"', "U+D800"),
        (b'[{"content": "no role"}]', "'role'"),
        (b'{"text": "no prompt"}', "Line 1"),
        (b'"Hello"\n"Hello"\n"a\\u0000b"', "Line 3"),
    ],
)
def test_lines_that_are_no_query_are_refused(path300: Path300, stdin: bytes, says: str) -> None:
    check_refused(run("route", path300.router, "-", stdin=stdin), says)


def test_what_stands_before_a_bad_line_is_answered(path300: Path300) -> None:
    assert len(lines_of(run("route", path300.router, "-", stdin='"Hello"\n"Hello"\nnonsense'))) == 2


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["fit"], ["route", "missing.onnx", "Hello"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "--bar", "abc"],
        ["fit", "--learner", "nope"],
        ["fit", "--max-loss", "0.1", "--max-violation", "0.1"],
        ["label", "--bar", "abc"],
        ["ingest", "carrier-pigeon"],
        ["ingest", "table", "--quality-scale", "bogus"],
        ["ingest", "table", "--redact-kind", "bogus"],
    ],
)
def test_options_that_are_wrong_exit_with_2_before_any_traffic_is_read(arguments: list[str], tmp_path: Path) -> None:
    done = run(*arguments, tmp_path / "missing.parquet", "--out", tmp_path / "out")
    assert done.exit_code == 2, done.output
    assert "missing.parquet" not in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--policy", "reference", "--threshold", "1"],
        ["--max-loss", "0.1", "--max-violation", "0.1"],
        ["--allow", "huge"],
        ["--require", "telepathy"],
    ],
)
@pytest.mark.parametrize("command", ["route", "explain", "evaluate"])
def test_a_decision_asked_for_wrongly_exits_with_2(command: str, options: list[str], path300: Path300) -> None:
    more = {"route": [""], "explain": [""], "evaluate": ["missing.parquet", "--off-policy"]}[command]
    done = run(command, path300.router, *more, *options)
    assert done.exit_code == 2, done.output


def test_work_that_fails_exits_with_1(path300: Path300, tmp_path: Path) -> None:
    assert run("route", path300.router, "").exit_code == 1
    assert run("fit", tmp_path / "missing.parquet", "--out", tmp_path / "r.onnx").exit_code == 1


def test_the_module_runs_as_a_process(path300: Path300) -> None:
    command = [sys.executable, "-m", "router_ml.cli", "route", str(path300.router), "-"]
    answer = subprocess.run(command, input=b'"caf\xc3\xa9"\n', capture_output=True, timeout=60, check=True)
    assert json.loads(answer.stdout)["tier"] in Router.load(path300.router).ladder.names


# export


def test_export_makes_a_smaller_artifact_that_routes(path300: Path300, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    done = run("export", path300.router, path300.traffic, "--weights", "int8", "--prune", "--out", out, "--json")

    assert done.exit_code == 0
    assert json.loads(done.stdout)["compression"]["bytes_after"] == out.stat().st_size < path300.router.stat().st_size
    assert run("route", out, "Hello").exit_code == 0


@pytest.mark.parametrize(("options", "says"), [([], "Nothing is asked"), (["--prune"], "needs TRAFFIC")])
def test_export_says_what_is_missing(options: list[str], says: str, path300: Path300, tmp_path: Path) -> None:
    done = run("export", path300.router, *options, "--out", tmp_path / "small.onnx")

    assert done.exit_code == 2
    assert says in done.stderr


def test_export_says_how_to_see_the_loss_in_aiq(path300: Path300, tmp_path: Path) -> None:
    done = run("export", path300.router, "--weights", "int8", "--out", tmp_path / "small.onnx")

    assert "AIQ isn't compared: give traffic" in done.stdout


def test_text_in_is_compared_on_the_prompts_of_the_traffic(path300: Path300, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_extensions", reason="onnxruntime-extensions isn't installed.")
    done = run("export", path300.router, path300.traffic, "--text-in", "--out", tmp_path / "text.onnx", "--json")

    assert done.exit_code == 0
    n_prompts = pl.read_parquet(path300.traffic)["prompt"].n_unique()
    assert json.loads(done.stdout)["text_in"]["n_prompts"] == n_prompts


def test_text_in_on_traffic_that_is_not_there_fails(path300: Path300, tmp_path: Path) -> None:
    done = run("export", path300.router, tmp_path / "none.parquet", "--text-in", "--out", tmp_path / "text.onnx")

    assert done.exit_code == 1
    assert "none.parquet" in done.stderr
    assert not (tmp_path / "text.onnx").exists()


@pytest.mark.parametrize("options", [["--text-in"], ["--weights", "int8"]])
def test_an_artifact_that_takes_text_is_refused_by_name(options: list[str], path300: Path300, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_extensions", reason="onnxruntime-extensions isn't installed.")
    text = tmp_path / "text.onnx"
    run("export", path300.router, "--text-in", "--out", text)

    for done in (run("export", text, *options, "--out", tmp_path / "other.onnx"), run("route", text, "Hello")):
        assert done.exit_code == 1
        assert "takes text" in done.stderr
        assert "router-ml fit" in done.stderr
