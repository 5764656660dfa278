"""A replay that is killed at random moments, against a server that fails at random: nothing lost, nothing bought twice.

The suite kills it a few times; ``ROUTER_ML_KILLS=20`` kills it twenty times (with ``--log-cli-level=INFO`` for the figures).
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import random
import runpy
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from router_ml.ladder import Ladder

logger = logging.getLogger(__name__)

N_KILLS = int(os.environ.get("ROUTER_ML_KILLS", "4"))
PROMPTS_PER_KILL = 25
MAX_TOKENS = 64
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["openai", "router_ml.replay.replay"])
FAULTS = ("429", "500", "hang", "half-closed", "malformed", "hang after")

DRIVER = """
import json
import polars as pl
from router_ml.ladder import Ladder
from router_ml.replay import ReplayOptions, Retries, read_endpoints, replay

ladder = Ladder.from_yaml(f"{folder}/tiers.yaml")
table, report = replay(
    pl.read_parquet(f"{folder}/traffic.parquet"),
    ladder,
    read_endpoints(f"{folder}/endpoints.yaml", ladder),
    journal=f"{folder}/journal.sqlite",
    options=ReplayOptions(retries=Retries(attempts=100, first_s=0.01, most_s=0.05), **options),
)
table.write_parquet(f"{folder}/out.parquet")
ended = {"open": report.n_open, "spent_usd": report.spent_usd, "stopped": report.stopped}
with open(f"{folder}/report.json", "w") as file:
    json.dump(ended, file)
"""


@dataclass
class Ended:
    """How a replay ended that was killed on the way."""

    n_kills: int
    report: dict[str, Any]
    table: pl.DataFrame


def run_and_kill(
    folder: Path,
    server: Any,
    ladder: Ladder,
    traffic: pl.DataFrame,
    *,
    kill_within: int = PROMPTS_PER_KILL,
    **options: Any,
) -> Ended:
    """Run the replay in a process of its own, kill it N_KILLS times at random moments, then let it end."""
    ladder.to_yaml(folder / "tiers.yaml")
    defaults = {"base_url": server.base_url, "max_tokens": MAX_TOKENS, "concurrency": 6, "timeout_s": 0.5}
    defaults["idempotent"] = server.dedupe
    (folder / "endpoints.yaml").write_text(yaml.safe_dump({"defaults": defaults}))
    traffic.write_parquet(folder / "traffic.parquet")
    driver = folder / "driver.py"
    driver.write_text(DRIVER)
    rng, n_kills = random.Random(1), 0
    while True:
        # Each process is forked from one that has imported what it needs, which takes longer than all of its work.
        process = PROCESSES.Process(
            target=runpy.run_path, args=(str(driver), {"folder": str(folder), "options": options})
        )
        process.start()
        if n_kills < N_KILLS:
            # Some requests after it began, so that a slow machine kills at work, too.
            kill_at = len(server.requests) + rng.randrange(kill_within)
            while process.is_alive() and len(server.requests) < kill_at:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.1))
            if process.is_alive():
                process.kill()
                n_kills += 1
        process.join()
        if process.exitcode == 0:
            report = json.loads((folder / "report.json").read_text())
            return Ended(n_kills, report, pl.read_parquet(folder / "out.parquet"))
        assert process.exitcode == -signal.SIGKILL


@pytest.fixture
def failing(server: Any) -> Any:
    server.faults, server.fault_rate, server.delay_s = FAULTS, 0.3, 0.02
    return server


@pytest.mark.slow
def test_kills_lose_no_answer_and_buy_none_twice(
    failing: Any, ladder: Ladder, make_traffic: Any, tmp_path: Path
) -> None:
    traffic = make_traffic(PROMPTS_PER_KILL * N_KILLS)

    ended = run_and_kill(tmp_path, failing, ladder, traffic, max_usd=1e6)

    new = ended.table.filter(pl.col("model") != "old-model")
    expected = {
        (p, m): failing.answer_to(m, [{"role": "user", "content": text}])
        for p, text in traffic.select("prompt_id", "prompt").iter_rows()
        for m in ladder.models
    }
    logger.info(
        f"{ended.n_kills} kills, {len(expected)} calls, {len(failing.requests)} requests, {len(failing.bought)} bought, "
        f"billed ${failing.billed_usd(ladder):.4f}, counted ${ended.report['spent_usd']:.4f}",
    )
    assert ended.n_kills == N_KILLS
    assert {(p, m): r for p, m, r in new.select("prompt_id", "model", "response").iter_rows()} == expected
    assert set(failing.buys().values()) == {1}
    assert len(failing.bought) == len(expected)
    assert ended.report["spent_usd"] == pytest.approx(failing.billed_usd(ladder))


@pytest.mark.slow
@pytest.mark.parametrize("dedupe", [True, False])
def test_kills_never_exceed_the_budget(
    failing: Any, ladder: Ladder, make_traffic: Any, tmp_path: Path, dedupe: bool
) -> None:
    failing.dedupe = dedupe
    traffic = make_traffic(PROMPTS_PER_KILL * N_KILLS)
    # Enough for a part of the calls: a full-tier call costs about 0.14, at worst 0.38.
    budget = 0.07 * PROMPTS_PER_KILL * N_KILLS

    ended = run_and_kill(tmp_path, failing, ladder, traffic, max_usd=budget)

    billed = failing.billed_usd(ladder)
    logger.info(
        f"{ended.n_kills} kills: budget ${budget:.4f}, billed ${billed:.4f}, counted ${ended.report['spent_usd']:.4f}",
    )
    assert billed <= ended.report["spent_usd"] + 1e-9 <= budget + 1e-9
    assert "budget" in ended.report["stopped"]


@pytest.mark.slow
def test_batches_survive_kills(
    server: Any, ladder: Ladder, make_traffic: Callable[[int], pl.DataFrame], tmp_path: Path
) -> None:
    server.faults, server.fault_rate, server.delay_s = ("500", "half-closed", "malformed"), 0.3, 0.1
    server.polls_until_done = 3
    traffic = make_traffic(50)

    ended = run_and_kill(tmp_path, server, ladder, traffic, kill_within=8, batch=True, poll_s=0.05)

    assert ended.n_kills >= 1
    assert ended.table.filter(pl.col("model") != "old-model").height == 100
    assert len(server.bought) == 100
    assert ended.report["spent_usd"] == pytest.approx(server.billed_usd(ladder))
