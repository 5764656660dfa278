"""A real HTTP server that speaks OpenAI's protocol, and fails as real ones do; and traffic to replay against it."""

from __future__ import annotations

import asyncio
import email
import hashlib
import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pytest

from router_ml.ladder import Ladder, Tier
from router_ml.traffic.schema import SCHEMA


@dataclass
class Bought:
    """One answer that the server made, and would bill."""

    key: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    share: float = 1.0


@dataclass
class OpenAIServer:
    """An OpenAI-compatible server on loopback.

    `fault_rate` of the requests go wrong, in one of the ways `faults`: "429", "500", "hang" before an answer is made; "half-closed",
    "malformed", "hang after" once it is. It bills each answer that it makes, whether it arrives or not; with
    `dedupe` it makes one for an ``Idempotency-Key`` once, and answers from that afterwards.
    """

    faults: tuple[str, ...] = ()
    fault_rate: float = 0.0
    dedupe: bool = True
    delay_s: float = 0.0
    answer_headers: dict[str, str] = field(default_factory=dict)
    refuse: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    usage: bool = True
    content: str | Callable[[dict[str, Any]], str] | None = None
    """What it answers (of the request, where that matters); None: `answer_to`."""
    finish: str = "stop"
    retry_after_ms: int = 5
    hold_after: float = math.inf
    """So many requests are answered; the others wait for `released`."""
    released: threading.Event = field(default_factory=threading.Event)
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    bought: list[Bought] = field(default_factory=list)
    requests: list[tuple[float, str, dict[str, str]]] = field(default_factory=list)
    """Arrival time, path and headers of each."""
    statuses: list[int] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    open_now: int = 0
    most_open: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    polls_until_done: int = 1
    expire: bool = False
    _answers: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def buys(self) -> Counter[str]:
        """How often each call was bought."""
        return Counter(b.key for b in self.bought)

    def billed_usd(self, ladder: Ladder) -> float:
        """What the provider would ask for."""
        prices = {t.model: ladder.prices()[:, i] for i, t in enumerate(ladder)}
        return sum(float(prices[b.model] @ [b.prompt_tokens, b.completion_tokens, 1]) * b.share for b in self.bought)

    @staticmethod
    def answer_to(model: str, messages: list[dict[str, Any]]) -> str:
        """What it answers: a function of the model and the messages."""
        return hashlib.sha256(json.dumps([model, messages]).encode()).hexdigest()

    def start(self) -> None:
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()

        def serve() -> None:
            server = self._loop.run_until_complete(asyncio.start_server(self._connection, "127.0.0.1", 0, limit=2**20))
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            self._loop.run_forever()

        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        async def cancel() -> None:
            others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *rows = head.strip().split("\r\n")
                method, target, _ = line.split(" ")
                headers = {k.lower(): v.strip() for k, v in (r.split(":", 1) for r in rows)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append((time.monotonic(), target, headers))
                self.open_now += 1
                self.most_open = max(self.most_open, self.open_now)
                try:
                    await self._respond(writer, method, target, headers, body)
                finally:
                    self.open_now -= 1
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _respond(
        self, writer: asyncio.StreamWriter, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> None:
        path = target.split("?")[0].removeprefix("/v1")
        fault = self.rng.choice(self.faults) if self.faults and self.rng.random() < self.fault_rate else None
        if self.delay_s:
            await asyncio.sleep(self.rng.uniform(0, self.delay_s))
        while len(self.requests) > self.hold_after and not self.released.is_set():
            await asyncio.sleep(0.01)
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "429":
            await self._send(writer, 429, _error("slow down"), {"retry-after-ms": str(self.retry_after_ms)})
            return
        if fault == "500":
            await self._send(writer, 500, _error("oops"))
            return
        status, answer = self._act(method, path, headers, body)
        if fault == "hang after":
            await asyncio.sleep(3600)
        extra = self.answer_headers if status == 200 else {}
        await self._send(writer, status, answer, extra, fault)

    def _act(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if path == "/chat/completions":
            request = json.loads(body)
            self.bodies.append(request)
            for text, (status, error) in self.refuse.items():
                if text in request["messages"][-1]["content"]:
                    return status, json.dumps(error).encode()
            return 200, json.dumps(self._complete(headers.get("idempotency-key", ""), request)).encode()
        if path == "/files":
            message = email.message_from_bytes(b"Content-Type: " + headers["content-type"].encode() + b"\n\n" + body)
            (file,) = [p for p in message.get_payload() if p.get_filename()]
            return 200, json.dumps({"id": self._store(file.get_payload(decode=True)), "object": "file"}).encode()
        if path.startswith("/files/"):
            return 200, self.files[path.split("/")[2]]
        if path == "/batches" and method == "POST":
            return 200, json.dumps(self._make_batch(json.loads(body))).encode()
        if path == "/batches":
            listed = {"object": "list", "data": list(self.batches.values())[::-1], "has_more": False}
            return 200, json.dumps(listed).encode()
        if path.startswith("/batches/"):
            return 200, json.dumps(self._poll(path.split("/")[2])).encode()
        return 404, _error("no such path")

    def _complete(self, key: str, request: dict[str, Any], share: float = 1.0) -> dict[str, Any]:
        if self.dedupe and key and key in self._answers:
            return self._answers[key]
        answer = self.answer_to(request["model"], request["messages"])
        content = self.content(request) if callable(self.content) else self.content
        limit = request.get("max_tokens") or request["max_completion_tokens"]
        bought = Bought(
            key,
            request["model"],
            sum(len(m["content"].split()) for m in request["messages"]),
            int(answer[:4], 16) % limit + 1,
            share,
        )
        self.bought.append(bought)
        usage = {"prompt_tokens": bought.prompt_tokens, "completion_tokens": bought.completion_tokens}
        self._answers[key] = {
            "id": f"chatcmpl-{key[:8]}",
            "object": "chat.completion",
            "created": 1_790_000_000,
            "model": request["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": self.finish,
                    "message": {"role": "assistant", "content": answer if content is None else content},
                }
            ],
            **({"usage": usage} if self.usage else {}),
        }
        return self._answers[key]

    def _store(self, content: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    def _make_batch(self, request: dict[str, Any]) -> dict[str, Any]:
        name = f"batch_{len(self.batches)}"
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "status": "in_progress",
            "endpoint": request["endpoint"],
            "input_file_id": request["input_file_id"],
            "metadata": request.get("metadata"),
            "polls": 0,
        }
        return self.batches[name]

    def _poll(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        batch["polls"] += 1
        if batch["status"] == "in_progress" and batch["polls"] >= self.polls_until_done:
            self._run_batch(batch)
        return batch

    def _run_batch(self, batch: dict[str, Any]) -> None:
        output, errors = [], []
        lines = self.files[batch["input_file_id"]].splitlines()
        expired = len(lines) // 2 if self.expire else len(lines)
        for i, line in enumerate(lines):
            request = json.loads(line)
            refused = [v for text, v in self.refuse.items() if text in request["body"]["messages"][-1]["content"]]
            row: dict[str, Any] = {"id": f"r{i}", "custom_id": request["custom_id"], "response": None, "error": None}
            if i >= expired:
                errors.append({**row, "error": {"code": "batch_expired", "message": "too late"}})
            elif refused:
                errors.append({**row, "response": {"status_code": refused[0][0], "body": refused[0][1]}})
            else:
                # Batches don't look at what was bought live.
                answer = self._complete(f"{batch['id']}/{request['custom_id']}", request["body"], share=0.5)
                output.append({**row, "response": {"status_code": 200, "body": answer}})
        self.expire = False
        batch["status"] = "completed" if expired == len(lines) else "expired"
        batch["request_counts"] = {"total": len(lines), "completed": len(output), "failed": len(errors)}
        for name, rows in (("output_file_id", output), ("error_file_id", errors)):
            if rows:
                batch[name] = self._store(b"".join(json.dumps(r).encode() + b"\n" for r in rows))

    async def _send(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        fault: str | None = None,
    ) -> None:
        if fault == "malformed":
            body = body[: len(body) // 2]
        rows = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in rows.items())
        if fault == "half-closed":
            body = body[: self.rng.randrange(len(body))]
        self.statuses.append(status)
        writer.write(head.encode() + b"\r\n" + body)
        await writer.drain()
        if fault == "half-closed":
            raise ConnectionResetError


def _error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "x", "code": None}}).encode()


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    running = OpenAIServer()
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def ladder() -> Ladder:
    """Two tiers, 100 to 1 in price."""
    return Ladder((Tier("mini", "mini-model", 10.0, 40.0), Tier("full", "full-model", 1000.0, 4000.0)))


@pytest.fixture(scope="session")
def make_traffic() -> Callable[[int], pl.DataFrame]:
    """Traffic of so many prompts, each answered by a third model."""

    def make(n: int) -> pl.DataFrame:
        rows = [
            {
                "prompt_id": f"p{i:05d}",
                "prompt": f"Question number {i}: what is {i} times {i + 1}?",
                "model": "old-model",
                "response": "An answer of some words.",
                "quality": 1.0,
                "input_tokens": 9,
                "output_tokens": 6,
                "session_id": f"s{i // 3}",
                "source": "here",
                "category": "sums",
            }
            for i in range(n)
        ]
        return pl.DataFrame(rows, schema=SCHEMA)

    return make


@pytest.fixture
def traffic(make_traffic: Callable[[int], pl.DataFrame]) -> pl.DataFrame:
    return make_traffic(12)
