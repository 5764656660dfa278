"""OpenAI's Batch API: the output files joined to the input files on ``custom_id``, since only the input holds the prompt.

An input line is ``{custom_id, method, url, body}``, an output or error line ``{id, custom_id, response: {status_code, request_id, body},
error}``. Files may come in any order, of several batches too: where the same ``custom_id`` was given to different prompts, which one
an answer belongs to can't be known, and it is rejected.

References
----------
https://platform.openai.com/docs/guides/batch
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from router_ml.errors import TrafficError
from router_ml.importers.base import Importer, ImportOptions, Join, Record, Row, SkippedError, has_all_of
from router_ml.importers.chat import call_row, failure_of, prompt_of
from router_ml.importers.fields import at, mapping

__all__ = ["OPENAI_BATCH"]

_NO_TEXT = ("/embeddings", "/images", "/moderations", "/videos", "/audio")


def _custom_id(record: Record) -> str:
    found = record.get("custom_id")
    return found if isinstance(found, str) else ""


def _keep(record: Record) -> tuple[Sequence[str], Record] | None:
    body = record.get("body")
    if "response" in record or "error" in record or not isinstance(body, Mapping):
        return None
    url = record.get("url")
    if isinstance(url, str) and any(name in url for name in _NO_TEXT):
        kept: Record = {"prompt": None, "no_text": True}
    else:
        kept = {"prompt": prompt_of(body), "model": body.get("model"), "metadata": body.get("metadata")}
    return (_custom_id(record),), kept


def _keys(record: Record) -> Sequence[str]:
    return (_custom_id(record),)


def _parse(record: Record, options: ImportOptions, kept: Sequence[Record]) -> Iterable[Row]:
    if not ("response" in record or "error" in record):
        raise TrafficError(
            "got neither a line of a batch's input (custom_id, body) nor of its output (custom_id, response)"
        )
    if not kept:
        raise TrafficError(
            "prompt: no input line with its custom_id is in the files given; give the batch's input file too"
        )
    asked, body = dict(kept[0]), mapping(at(record, "response", "body"))
    if not _agree(kept, "prompt"):
        raise TrafficError(
            "prompt: its custom_id stands for different prompts in the input files; import one batch at a time"
        )
    if not _agree(kept, "model") and (options.model_from == "request" or "model" not in body):
        raise TrafficError(
            "model: its custom_id stands for different models in the input files; import one batch at a time"
        )
    if not _agree(kept, "metadata"):
        asked["metadata"] = None
    if asked.get("no_text"):
        raise SkippedError("an answer that is no text (an embedding, an image, a moderation)")
    failure = failure_of(body, at(record, "response", "status_code"))
    if failure is None and (record.get("error") or not body):
        failure = "the call failed"
    prompt = asked.get("prompt")
    request = {**asked, "messages": prompt} if isinstance(prompt, list) else asked
    return (call_row(request, body, options, feedback=(record,), failure=failure),)


def _agree(kept: Sequence[Record], name: str) -> bool:
    return all(record.get(name) == kept[0].get(name) for record in kept)


OPENAI_BATCH = Importer(
    name="openai-batch",
    summary="OpenAI Batch API: input and output files, joined on custom_id",
    parse=_parse,
    knows=has_all_of(("custom_id", "body"), ("custom_id", "response")),
    join=Join(keep=_keep, keys=_keys, unused="a batch request without an answer in the files"),
)
