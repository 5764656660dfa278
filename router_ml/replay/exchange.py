"""One attempt: a chat completion sent, and an answer or a failure back. The only file that sends calls with the ``openai`` client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from router_ml.errors import MissingExtraError
from router_ml.replay.answers import Answer, Failure, failed_status, read_answer
from router_ml.replay.endpoints import Endpoint

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["Connection", "Exchanged", "as_failure"]

_NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"}
"""Names of the HTTP client's errors (httpx, or httpx2) after which no request has left."""

_MAX_REASON = 300


@dataclass(frozen=True, slots=True)
class Exchanged:
    """An answer, the milliseconds it took, and its response's headers."""

    answer: Answer
    latency_ms: float
    headers: Mapping[str, str]


class Connection:
    """A client for one endpoint; close it with ``await connection.close()``.

    Our own loop retries, since each attempt has to be paid for out of the budget and noted in the journal before it is sent.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        try:
            from openai import AsyncOpenAI
        except ImportError as exc:
            raise MissingExtraError("train", "replay") from exc
        self._key = endpoint.api_key()
        self.client: AsyncOpenAI = AsyncOpenAI(
            api_key=self._key, base_url=endpoint.base_url, max_retries=0, timeout=endpoint.timeout_s
        )
        self._timeout_s = endpoint.timeout_s

    async def close(self) -> None:
        """Close the client's connections."""
        await self.client.close()

    def clean(self, text: str) -> str:
        """A text from the server, without the key that it may echo."""
        return text.replace(self._key, "[key]") if len(self._key) >= 8 else text

    async def ask(self, body: Mapping[str, Any], key: str, attempt: int) -> Exchanged:
        """Send one call.

        Parameters
        ----------
        body : mapping
            The request's body.
        key : str
            Sent as ``Idempotency-Key``, the same for each attempt; with the attempt's number as ``X-Client-Request-Id``, by which a
            provider finds one request.
        attempt : int

        Raises
        ------
        Failure
            Whose words are the server's: see :meth:`reason`.
        """
        headers = {"Idempotency-Key": key, "X-Client-Request-Id": f"{key}-{attempt}"}
        extra = {k: v for k, v in body.items() if k not in ("model", "messages")}
        began = time.perf_counter()
        try:
            # The client's own timeout is of each read: a server that sends a byte now and then would hold it for ever.
            async with asyncio.timeout(self._timeout_s):
                raw = await self.client.chat.completions.with_raw_response.create(
                    model=body["model"], messages=body["messages"], extra_body=extra, extra_headers=headers
                )
            latency_ms = (time.perf_counter() - began) * 1000
            answer = read_answer(raw.content, raw.headers)
        except Failure:
            raise
        except Exception as exc:
            raise as_failure(exc) from None
        clean = Answer(self.clean(answer.text), answer.input_tokens, answer.output_tokens, answer.finish)
        return Exchanged(clean, latency_ms, raw.headers)

    def reason(self, failure: Failure) -> str:
        """The failure's reason, short and without the key. Cut after it is cleaned: no half of a key is left at its end."""
        return self.clean(failure.reason)[:_MAX_REASON]


def as_failure(exc: Exception) -> Failure:
    """What an exception of the client (or of the timeout around it) means; any other is raised as it is."""
    import openai

    if isinstance(exc, openai.APIStatusError):
        return failed_status(exc.status_code, exc.body, exc.response.headers)
    if isinstance(exc, TimeoutError):
        return Failure("no answer in time", unsure=True)
    if isinstance(exc, openai.APIConnectionError):
        cause = type(exc.__cause__).__name__
        late = isinstance(exc, openai.APITimeoutError)
        sent = cause not in _NOT_SENT
        what = "no answer in time" if late and sent else "connection lost" if sent else "no connection"
        return Failure(f"{what} ({cause})", unsure=sent)
    if isinstance(exc, openai.APIError):
        return Failure(f"not a usable response ({type(exc).__name__})", unsure=True)
    raise exc
