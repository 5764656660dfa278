"""What the importers' tests share: records in, a traffic table out."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from router_ml.importers import ImportOptions, ImportResult, import_traffic


class Imported:
    """Imports records or files into a fresh folder, accepting any share of rejects."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.result = folder, None
        self.out = folder / "out" / "traffic.parquet"

    def __call__(self, name: str, *sources: Any, **options: Any) -> pl.DataFrame:
        """Each source: a path or URL, bytes (a file's content), or a list of records (written as JSON lines)."""
        paths = [self._file(i, source) for i, source in enumerate(sources)]
        self.result: ImportResult | None = import_traffic(
            name, paths, self.out, options=ImportOptions(**options), max_rejects=1
        )
        return pl.read_parquet(self.result.out)

    def _file(self, i: int, source: Any) -> Path | str:
        if isinstance(source, Path | str):
            return source
        path = self.folder / f"log-{i}"
        path.write_bytes(source if isinstance(source, bytes) else json_lines(source))
        return path

    def rejects(self) -> list[tuple[int, str]]:
        """Row and reason of what the last import left out."""
        path = self.out.with_name("traffic.rejects.csv")
        if not path.exists():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return [(int(row["row"]), row["reason"]) for row in csv.DictReader(file)]


def json_lines(records: Sequence[Any]) -> bytes:
    return b"\n".join(json.dumps(r).encode() for r in records)


@pytest.fixture
def imported(tmp_path: Path) -> Imported:
    return Imported(tmp_path)


class Completions(BaseHTTPRequestHandler):
    """Chat completions: "Two.", a call of the first tool where there is one, and status 400 for "Fail."."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        message: dict[str, Any] = {"role": "assistant", "content": "Two."}
        if asked.get("tools"):
            function = {"name": asked["tools"][0]["function"]["name"], "arguments": '{"city": "Oslo"}'}
            message = {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": function}],
            }
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": f"{asked['model']}-2025-04-14",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10},
        }
        failed = asked["messages"][-1]["content"] == "Fail."
        body = json.dumps({"error": {"message": "no"}} if failed else answer).encode()
        self.send_response(400 if failed else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def openai_client() -> Iterator[Any]:
    """The real client of a server on loopback that answers chat completions."""
    import openai

    with ThreadingHTTPServer(("127.0.0.1", 0), Completions) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="-", max_retries=0) as client:
            yield client
        server.shutdown()
        thread.join()
