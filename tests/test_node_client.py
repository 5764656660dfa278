"""The client for Node decides as the Python core does. Skipped where node, npm or the packages it needs can't be had."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from router_ml.core.artifact import SCHEMA_VERSION
from router_ml.core.router import Decision, Router
from router_ml.core.text import MAX_CHARS, RENDER_VERSION, Query, render

pytestmark = pytest.mark.slow

CLIENT = Path(__file__).parents[1] / "clients" / "node"

DRIVER = """
const [client, method] = process.argv.slice(1);
const { Router, render } = await import(client);
let input = "";
for await (const part of process.stdin.setEncoding("utf8")) input += part;
const { artifact, queries, options } = JSON.parse(input);
const router = method === "render" ? undefined : await Router.load(artifact);
const answers = [];
for (const query of queries) {
  try {
    answers.push(router === undefined ? render(query) : await router.route(query, options));
  } catch (error) {
    answers.push({ error: error.name });
  }
}
console.log(JSON.stringify(answers));
"""

GOLDEN = Path(__file__).parent / "golden" / "decisions.json"

GOLDEN_DRIVER = """
import { readFile } from "node:fs/promises";
const [client, golden] = process.argv.slice(1);
const { decide, prediction } = await import(client);
const { metadata, rows } = JSON.parse(await readFile(golden, "utf8"));
const decisions = rows.map((row) => {
  const { policy, needs, ignore_novelty, n_chars, p_meets, quality, output_tokens, novelty } = row;
  const may = metadata.ladder.map(({ name }) => row.allowed?.includes(name) ?? true);
  const predicted = prediction(metadata, { p_meets, quality, output_tokens, novelty }, n_chars);
  return decide(metadata, predicted, { policy, may, needs, ignore_novelty });
});
console.log(JSON.stringify(decisions));
"""

HARD = [
    "<s>a</s> b <unk><s> c <s>",
    "\u2581 \u2581\u2581x \u2581",
    "\u3000Tiefe\u00a0Grüße,\x1c你好 世界\u2028e\u0301 👩\u200d👩\u200d👧 \ue000 \ufeffend\n",
    "def f(x):\n\treturn [x, '!', {\"a\": 1.5e-3}]\r\n",
    "=" * 77,
    "é" * (MAX_CHARS + 1),
    "😀 \n" * MAX_CHARS,
]

CONVERSATIONS: list[Query] = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": None}],
    [{"role": "user", "content": ["a", {"type": "text", "text": "b"}, {"type": "image_url"}, {}]}],
    [
        {
            "role": "assistant",
            "tool_calls": [
                {"function": {"name": "f", "arguments": {"b": [1, True, None], "a": {"é": 'x"\n'}}}},
                {"name": "g", "arguments": '{"a":1}'},
                {},
            ],
        },
        {"role": "tool", "content": "42"},
    ],
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``router.mjs`` where its packages are: beside it, or else in a folder that they are installed into."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None:
        pytest.skip("node isn't installed.")
    if (CLIENT / "node_modules").is_dir():
        return CLIENT / "router.mjs"
    if npm is None:
        pytest.skip("npm isn't installed, and clients/node has no node_modules.")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "router.mjs"):
        shutil.copy(CLIENT / name, folder)
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=0"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        pytest.skip("npm install took more than 3 minutes; run it in clients/node.")
    if done.returncode != 0:
        pytest.skip(f"npm install failed; run it in clients/node. It says: {done.stderr[-300:]}")
    return folder / "router.mjs"


@pytest.fixture(scope="module")
def router(artifact: Path) -> Router:
    return Router.load(artifact)


@pytest.fixture(scope="module")
def prompts(sample_traffic: pl.DataFrame) -> list[str]:
    """200 prompts of the sample traffic."""
    return sample_traffic["prompt"].unique(maintain_order=True).head(200).to_list()


def ask(client: Path, method: str, queries: list[Any], artifact: Path | None = None, **options: Any) -> list[Any]:
    """What the client answers to each query: a decision or a rendered text, or the name of its error."""
    call = json.dumps({"artifact": str(artifact), "queries": queries, "options": options})
    command = ["node", "--input-type=module", "-e", DRIVER, client.as_uri(), method]
    done = subprocess.run(command, input=call, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_same(got: list[dict[str, Any]], expected: list[Decision]) -> None:
    assert [(g["tier"], g["model"], g["policy"], g["reason"]) for g in got] == [
        (e.tier, e.model, e.policy, e.reason) for e in expected
    ]
    for field, tolerance in {"p_meets": 1e-4, "quality": 1e-4, "parameter": 0}.items():
        assert [g[field] for g in got] == pytest.approx([getattr(e, field) for e in expected], abs=tolerance)
    assert [g["cost_usd"] for g in got] == pytest.approx([e.cost_usd for e in expected], rel=1e-4)


def test_the_golden_decisions_are_the_clients_too(client: Path) -> None:
    """tests/core/test_golden.py replays them through the core."""
    command = ["node", "--input-type=module", "-e", GOLDEN_DRIVER, client.as_uri(), str(GOLDEN)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = json.loads(GOLDEN.read_text(encoding="utf-8"))["rows"]
    got = [(row["why"], d["tier"], d["reason"]) for row, d in zip(rows, json.loads(done.stdout), strict=True)]
    assert got == [(row["why"], row["tier"], row["reason"]) for row in rows]


@pytest.mark.parametrize(
    "options", [{}, {"threshold": 0.8}, {"lam": 20.0}, {"at": "5pt"}, {"allowed": ["mini", "full"]}]
)
def test_node_decides_as_python_does(
    client: Path, artifact: Path, router: Router, prompts: list[str], options: dict[str, Any]
) -> None:
    assert_same(ask(client, "route", prompts, artifact, **options), router.route_batch(prompts, **options))


def test_hard_texts_and_conversations_go_to_the_same_tiers(client: Path, artifact: Path, router: Router) -> None:
    queries = [*HARD, *CONVERSATIONS]
    assert_same(ask(client, "route", queries, artifact), router.route_batch(queries))


def test_texts_are_rendered_the_same(client: Path) -> None:
    queries = [*HARD, *CONVERSATIONS]
    got = [(r["text"], r["nChars"]) for r in ask(client, "render", queries)]
    assert got == [tuple(render(q)) for q in queries]


@pytest.mark.parametrize("query", ["", " \u3000\n", "a\0b", "\ud800", 1, {"role": "user"}, [{"content": "x"}]])
def test_what_is_no_query_is_refused(client: Path, query: Any) -> None:
    assert ask(client, "render", [query]) == [{"error": "QueryError"}]


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"lam": -1}, {"policy": "cheap"}, {"allowed": ["huge"]}])
def test_an_option_out_of_range_is_refused(client: Path, artifact: Path, options: dict[str, Any]) -> None:
    assert ask(client, "route", ["Hello"], artifact, **options) == [{"error": "InputError"}]


def test_a_damaged_artifact_is_refused(client: Path, artifact: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    content = bytearray(artifact.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(AssertionError, match=r"ArtifactError.*damaged"):
        ask(client, "route", ["Hello"], damaged)


@pytest.mark.parametrize(("name", "value"), [("SCHEMA_VERSION", SCHEMA_VERSION), ("RENDER_VERSION", RENDER_VERSION)])
def test_the_client_reads_this_releases_versions(name: str, value: str) -> None:
    assert f'const {name} = "{value}";' in (CLIENT / "router.mjs").read_text(encoding="utf-8")
