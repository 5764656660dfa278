"""The Batch API's input files: which calls go into the next batches, and their lines."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from router_ml.replay.budget import Budget
from router_ml.replay.journal import Batch, Journal, prompt_hash
from router_ml.replay.run import Lane
from router_ml.replay.stopping import Stop

__all__ = ["write_files"]

_MAX_REQUESTS, _MAX_BYTES = 50_000, 100_000_000
"""Of one file. OpenAI takes 50,000 requests and 200 MB (https://platform.openai.com/docs/api-reference/batch/create); the
client holds a file in memory while it sends it."""


def write_files(
    calls: Iterator[tuple[Lane, str, str]], journal: Journal, budget: Budget, stop: Stop, folder: Path
) -> dict[str, str]:
    """Put the next calls into the journal and into a file a model, called as its batch; stop where the budget holds not even one.

    Returns
    -------
    dict of str to str
        The batches' names, by model.
    """
    names: dict[str, str] = {}
    files: dict[str, IO[bytes]] = {}
    counts: Counter[str] = Counter()
    held = 0.0
    with ExitStack() as stack, journal.transaction():
        for lane, prompt, key in calls:
            model, body = lane.model, lane.body(prompt)
            line = _line(key, body)
            usd = lane.worst_usd(body) * lane.endpoint.batch_price
            if counts[model] == _MAX_REQUESTS or (model in files and files[model].tell() + len(line) > _MAX_BYTES):
                break  # the rest is the next round's
            if not budget.fits(held + usd):
                if not names:
                    stop.because(f"the next call may cost ${usd:.4f}, which the budget doesn't hold any more")
                break
            if model not in names:
                names[model] = f"{journal.nonce[:8]}-{uuid.uuid4().hex[:16]}"
                files[model] = stack.enter_context((folder / names[model]).open("wb"))
                journal.add_batch(Batch(names[model], model, None))
            journal.start(key, prompt_hash(prompt), model, usd, batch=names[model])
            files[model].write(line)
            counts[model] += 1
            held += usd
    return names


def _line(key: str, body: Mapping[str, Any]) -> bytes:
    request = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(request).encode() + b"\n"
