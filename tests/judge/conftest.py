"""A judge's server on loopback, speaking chat completions over real HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Script = Callable[[dict[str, Any], int], Any]
"""Given a request and its number (from 0): the reply's text, or (status, body), or "hang", or "cut"."""


class JudgeServer(ThreadingHTTPServer):
    """Answers by a script; keeps the requests, the most that were under way at once, and what was billed."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: Script = lambda request, n: verdict(score=5)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.usage: dict[str, int] | None = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        self.n_billed = 0
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.released = threading.Event()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: Any) -> None:
        """A client that went away is none of our business."""


class Handler(BaseHTTPRequestHandler):
    server: JudgeServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            n = len(server.requests)
            server.requests.append(request)
            server.keys.append(self.headers["Authorization"])
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            self.reply(server.script(request, n))
        finally:
            with server.lock:
                server.at_once -= 1

    def reply(self, said: Any) -> None:
        if said == "hang":
            self.server.released.wait(20)
            self.close_connection = True
            return
        status, body = said if isinstance(said, tuple) else (200, completion(said, self.server.usage))
        data = json.dumps(body).encode()
        if status == 200:
            with self.server.lock:
                self.server.n_billed += 1
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data) + (100 if said == "cut" else 0)))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = said == "cut"

    def log_message(self, *_: Any) -> None:
        pass


def completion(text: str, usage: dict[str, int] | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": "judge",
        "choices": [choice],
        "usage": usage,
    }


def verdict(**field: Any) -> str:
    return json.dumps({"reasoning": "so", **field})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-test")
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with JudgeServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()
