"""RouterBench's wide table, as CSV or Parquet: one row a prompt, and for each model its score, response and cost.

Columns: ``sample_id``, ``prompt``, ``eval_name``, and for each model ``NAME`` (the score, in [0, 1]), ``NAME|model_response`` and
``NAME|total_cost`` (USD). The published files are pickles, which aren't read, since a pickle may run code. Prompts and responses
that stand there as Python lists of strings (``['...']``) are taken out of them.

References
----------
https://arxiv.org/abs/2403.12031, https://huggingface.co/datasets/withmartian/routerbench
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from router_ml.errors import TrafficError
from router_ml.importers.base import Importer, ImportOptions, Record, Row
from router_ml.importers.fields import blank

__all__ = ["ROUTERBENCH"]

_RESPONSE, _COST = "|model_response", "|total_cost"
_STRING = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_LIST_OF_STRINGS = re.compile(rf"\[{_STRING}(?:, {_STRING})*\]", re.DOTALL)


def _parse(record: Record, options: ImportOptions, kept: Sequence[Record]) -> Iterable[Row]:  # noqa: ARG001
    models = dict.fromkeys(
        name.removesuffix(suffix) for name in record for suffix in (_RESPONSE, _COST) if name.endswith(suffix)
    )
    if not models or "prompt" not in record:
        raise TrafficError("got no column 'prompt', or none that ends in '|model_response' or '|total_cost'")
    prompt = _text(record["prompt"])
    return [
        {
            "prompt": prompt,
            "model": model,
            "response": _text(record.get(model + _RESPONSE)),
            "quality": options.scale.quality(record.get(model)),
            "cost_usd": record.get(model + _COST),
            "source": "routerbench",
            "category": record.get("eval_name"),
        }
        for model in models
        if not all(blank(record.get(model + suffix)) for suffix in ("", _RESPONSE, _COST))
    ]


def _text(value: Any) -> Any:
    # Only a flat list of strings is evaluated, so nothing nested reaches the parser.
    if isinstance(value, str) and _LIST_OF_STRINGS.fullmatch(value):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes that Python doesn't know
                return "\n\n".join(ast.literal_eval(value))
        except (ValueError, SyntaxError, TypeError):
            return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "\n\n".join(value)
    return value


def _knows(record: Record) -> bool:
    return "prompt" in record and any(name.endswith((_RESPONSE, _COST)) for name in record)


ROUTERBENCH = Importer(
    name="routerbench", summary="RouterBench's wide table, as CSV or Parquet", parse=_parse, knows=_knows
)
