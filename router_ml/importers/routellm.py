"""RouteLLM's tables, as CSV or Parquet.

- Benchmarks (MMLU, GSM8K): ``prompt``, for each model a column of its name (whether its answer was right), and perhaps ``NAME_response``.
- Judged pairs (``routellm/gpt4_dataset``): ``prompt``, ``source``, ``gpt4_response``, ``mixtral_response``, ``mixtral_score``. The score of 1 to 5 is
  mapped to [0, 1] in equal steps; GPT-4's answer, against which it was given, has no quality of its own.

References
----------
https://arxiv.org/abs/2406.18665, https://github.com/lm-sys/RouteLLM
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from router_ml.errors import TrafficError
from router_ml.importers.base import Importer, ImportOptions, Record, Row
from router_ml.importers.feedback import Scale
from router_ml.importers.fields import blank, first

__all__ = ["ROUTELLM"]

STRONG, WEAK = "gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"
_STARS = Scale.parse("stars")
_RESPONSE = "_response"
_NOT_MODELS = ("prompt", "source", "category")


def _parse(record: Record, options: ImportOptions, kept: Sequence[Record]) -> Iterable[Row]:  # noqa: ARG001
    if "prompt" not in record:
        raise TrafficError(f"prompt: got no such column, but {[str(name)[:40] for name in list(record)[:20]]}")
    common = {"prompt": record["prompt"], "source": "routellm", "category": record.get("category")}
    if "mixtral_score" in record:
        judged = {
            "model": WEAK,
            "response": record.get("mixtral_response"),
            "quality": _STARS.quality(record["mixtral_score"]),
        }
        origin = record.get("source")
        category = first(origin[0] if isinstance(origin, list) and origin else origin, common["category"])
        rows = [judged, {"model": STRONG, "response": record.get("gpt4_response")}]
        return [{**common, **row, "category": category} for row in rows if not blank(row["response"])]
    models = [name for name in record if name and name not in _NOT_MODELS and not name.endswith(_RESPONSE)]
    if not models:
        raise TrafficError("model: got no column beside the prompt that names one")
    return [
        {
            **common,
            "model": name,
            "response": record.get(name + _RESPONSE),
            "quality": options.scale.quality(record[name]),
        }
        for name in models
        if not blank(record[name])
    ]


def _knows(record: Record) -> bool:
    return "prompt" in record and bool(record.keys() & {"mixtral_score", STRONG, WEAK})


ROUTELLM = Importer(
    name="routellm", summary="RouteLLM's benchmark and judged tables, as CSV or Parquet", parse=_parse, knows=_knows
)
