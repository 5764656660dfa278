"""Asks an LLM judge through the ``openai`` client: within a budget, several calls at a time, never twice for the same."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen

from router_ml.errors import InputError, MissingExtraError, RouterError
from router_ml.judge.cache import vote_key
from router_ml.judge.grading import Grader, Means
from router_ml.judge.prompts import Messages, read_verdict
from router_ml.ladder import Ladder, Tier
from router_ml.traffic.prices import list_price

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["Ballot", "LLMGrader", "Vote", "ask"]

_GIVE_UP = 10
"""Calls that fail one after the other, with none between them that works, before the judge is given up."""
_OWN = frozenset(
    [
        "model",
        "messages",
        "response_format",
        "max_completion_tokens",
        "max_tokens",
        "temperature",
        "n",
        "stream",
        "tools",
    ]
)
"""Fields of a request that the verdict and the budget rest on."""


@dataclass(frozen=True)
class LLMGrader(Grader):
    """What the LLM graders have in common: which model, where, and how it is asked.

    Parameters
    ----------
    model : str
        The judge.
    base_url : str, optional
        Of an OpenAI-compatible API; without it ``OPENAI_BASE_URL``, or OpenAI's.
    api_key_env : str
        Name of the environment variable that holds the key.
    votes : int
        How often each question is asked. Without a `temperature` (or with 0) votes may all be the same.
    temperature : float, optional
        Sent only where given, since some models refuse it.
    max_output_tokens : int
        Bound of a reply, reasoning included.
    max_tokens_parameter : {"max_completion_tokens", "max_tokens"}
        What the API calls that bound. A server that doesn't know the name may ignore it, and the budget with it.
    input_usd_per_mtok, output_usd_per_mtok : float, optional
        Prices in USD per million tokens; without them the list price (``genai-prices``).
    rubric : str, optional
        What to judge by; without it a general one.
    max_chars : int
        Longer texts keep their head and their tail.
    timeout_s : float
    max_retries : int
        Of calls that came back with 408, 409, 429 or 5xx, or didn't come back.
    concurrency : int
        Calls under way at the same time.
    extra_body : mapping
        Further fields of the request, e.g. ``{reasoning_effort: low}``; none that the judge sets itself.
    """

    batch: ClassVar[int] = 128

    model: Annotated[str, MinLen(1)]
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    votes: Annotated[int, Ge(1), Le(100)] = 1
    temperature: Annotated[float, Ge(0), Le(2)] | None = None
    max_output_tokens: Annotated[int, Ge(16)] = 1024
    max_tokens_parameter: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    input_usd_per_mtok: Annotated[float, Ge(0)] | None = None
    output_usd_per_mtok: Annotated[float, Ge(0)] | None = None
    rubric: Annotated[str, MinLen(1)] | None = None
    max_chars: Annotated[int, Ge(100)] = 24_000
    timeout_s: Annotated[float, Gt(0)] = 120.0
    max_retries: Annotated[int, Ge(0), Le(20)] = 4
    concurrency: Annotated[int, Ge(1), Le(256)] = 8
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def check(self, means: Means) -> None:
        """Raise InputError where the judge has no price or no key, or nothing may be spent on it."""
        clash = sorted(_OWN.intersection(self.extra_body))
        if clash:
            raise InputError(
                f"extra_body of the grader {self.kind!r} sets {clash}, which the judge sets itself; leave it out."
            )
        per_input, per_output = self.prices()
        if means.budget.max_usd <= 0 and per_input + per_output > 0:
            raise InputError(f"The judge {self.model!r} costs money and nothing may be spent; set max_usd.")
        if not os.environ.get(self.api_key_env):
            raise InputError(
                f"The judge {self.model!r} needs a key: the environment variable {self.api_key_env} is empty. Set it "
                "(to anything, for a server that asks for none), or name another with api_key_env."
            )

    def prices(self) -> tuple[float, float]:
        """USD per input token and per output token; raises InputError where they aren't known."""
        tier = Tier(self.model, self.model, self.input_usd_per_mtok, self.output_usd_per_mtok)
        priced = tier if tier.priced else list_price(tier)
        if priced is None:
            raise InputError(
                f"No price is known for the judge {self.model!r}; give input_usd_per_mtok and output_usd_per_mtok (0 for a model of your own)."
            )
        per_input, per_output, _ = Ladder((priced,)).prices()[:, 0]
        return float(per_input), float(per_output)

    def client(self, tally: Tally) -> OpenAI:
        """A client that retries, and counts what it sends."""
        try:
            import openai
        except ImportError as exc:
            raise MissingExtraError("train", "An LLM judge") from exc
        return openai.OpenAI(
            api_key=os.environ[self.api_key_env],
            base_url=self.base_url,
            timeout=self.timeout_s,
            max_retries=self.max_retries,
            http_client=openai.DefaultHttpxClient(
                event_hooks={"request": [tally.on_request], "response": [tally.on_response]}
            ),
        )

    def request(self, messages: Messages, response_format: Mapping[str, Any]) -> dict[str, Any]:
        """The body of a request."""
        temperature = {} if self.temperature is None else {"temperature": self.temperature}
        return {
            "model": self.model,
            "messages": messages,
            "response_format": response_format,
            self.max_tokens_parameter: self.max_output_tokens,
            **temperature,
            **self.extra_body,
        }


@dataclass(frozen=True, slots=True)
class Ballot:
    """A question to the judge: the request, and which of its votes is wanted."""

    request: Mapping[str, Any]
    vote: int


@dataclass(frozen=True, slots=True)
class Vote:
    """The judge's verdict, or why there is none."""

    verdict: Mapping[str, Any] | None
    error: str = ""


class Tally(threading.local):
    """Requests of this thread that went out and were not refused: each may be billed."""

    sent = 0

    def on_request(self, _: object) -> None:
        """Count one more."""
        self.sent += 1

    def on_response(self, response: Any) -> None:
        """A refusal isn't billed."""
        if response.status_code >= 400:
            self.sent -= 1


def ask(ballots: Sequence[Ballot], judge: LLMGrader, means: Means) -> list[Vote]:
    """Ask for votes: from the cache where they are there, else from the judge, equal ones once.

    Raises
    ------
    InputError
        If the judge's server doesn't know the key or the model.
    RouterError
        If it fails many times in a row. Votes that came before are in the cache.
    """
    tally = Tally()
    with judge.client(tally) as client:
        keys = [vote_key(str(client.base_url), b.request, b.vote) for b in ballots]
        wanted = dict(zip(keys, ballots, strict=True))
        kept = {key: _kept(means.cache.get(key), ballot) for key, ballot in wanted.items()}
        votes = {key: Vote(verdict) for key, verdict in kept.items() if verdict is not None}
        caller = _Caller(client, judge, means, tally)
        missing = {key: ballot for key, ballot in wanted.items() if key not in votes}
        if missing:
            votes |= _all(caller, missing, judge.concurrency)
    return [votes[key] for key in keys]


def _kept(reply: str | None, ballot: Ballot) -> Mapping[str, Any] | None:
    return None if reply is None else read_verdict(reply, ballot.request["response_format"])


def _all(caller: _Caller, missing: Mapping[str, Ballot], concurrency: int) -> Iterable[tuple[str, Vote]]:
    with ThreadPoolExecutor(min(concurrency, len(missing))) as pool:
        calls = [pool.submit(caller.call, key, ballot) for key, ballot in missing.items()]
        try:
            return [(key, call.result()) for key, call in zip(missing, calls, strict=True)]
        except BaseException:
            # Calls under way end and are kept; none is begun.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Caller:
    """Makes single calls, and notices where none works any more."""

    def __init__(self, client: OpenAI, judge: LLMGrader, means: Means, tally: Tally) -> None:
        self.client, self.judge, self.means, self.tally = client, judge, means, tally
        self.prices = judge.prices()
        self._failed_in_a_row = 0
        self._lock = threading.Lock()

    def call(self, key: str, ballot: Ballot) -> Vote:
        import openai

        worst = self._worst(ballot.request)
        reserved = worst * (1 + self.judge.max_retries)
        if not self.means.budget.reserve(reserved):
            return Vote(None, "the budget is used up")
        self.tally.sent = 0
        paid, reply, error = 0.0, None, ""
        try:
            completion = self.client.chat.completions.create(**self._body(ballot.request))
            self.tally.sent -= 1
            paid, reply = self._paid(completion, worst), _text(completion)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as exc:
            raise InputError(
                f"The judge {self.judge.model!r} at {self.client.base_url} refused: {exc}. Check model, base_url and {self.judge.api_key_env}."
            ) from exc
        except (openai.OpenAIError, ValueError) as exc:  # ValueError: a body that isn't JSON
            error = f"the judge's call failed: {exc!s:.200} {exc.__cause__ or ''!s:.200}".strip()
        finally:
            # What went out and never came back whole may have been billed all the same.
            self.means.budget.settle(reserved, paid + self.tally.sent * worst)
        verdict = None if reply is None else read_verdict(reply, ballot.request["response_format"])
        if verdict is not None:
            self.means.cache.put(key, verdict, paid)
        elif not error:
            error = "the judge's reply is no verdict in the asked form"
        self._count(error)
        return Vote(verdict, error)

    def _body(self, request: Mapping[str, Any]) -> dict[str, Any]:
        own = {k: v for k, v in request.items() if k not in self.judge.extra_body}
        return {**own, "extra_body": dict(self.judge.extra_body)}

    def _worst(self, request: Mapping[str, Any]) -> float:
        """The most that one call can cost: no token is shorter than a byte of the request."""
        per_input, per_output = self.prices
        return len(json.dumps(request).encode()) * per_input + self.judge.max_output_tokens * per_output

    def _paid(self, completion: Any, worst: float) -> float:
        per_input, per_output = self.prices
        try:
            usage = completion.usage
            return max(0.0, float(usage.prompt_tokens * per_input + usage.completion_tokens * per_output))
        except (AttributeError, TypeError):  # no usage, or no completion
            return worst

    def _count(self, error: str) -> None:
        with self._lock:
            self._failed_in_a_row = self._failed_in_a_row + 1 if error else 0
            if self._failed_in_a_row >= _GIVE_UP:
                raise RouterError(
                    f"{_GIVE_UP} calls of the judge {self.judge.model!r} failed in a row, the last with: {error}. Mend that and run it again; "
                    "votes that came before are in the cache, if there is one."
                )


def _text(completion: Any) -> str | None:
    """The reply's text, where it is whole. The client doesn't check what the server sends, so anything may be missing."""
    try:
        choice = completion.choices[0]
        content = choice.message.content
        return content if isinstance(content, str) and choice.finish_reason != "length" else None
    except (AttributeError, TypeError, LookupError):
        return None
