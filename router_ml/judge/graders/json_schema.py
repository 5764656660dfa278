"""An answer that has to be JSON of a given schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from router_ml.errors import InputError, MissingExtraError
from router_ml.judge.graders.fences import fenced
from router_ml.judge.graders.pattern import TIMEOUT_S, pattern
from router_ml.judge.grading import Grade, Item, SingleGrader

__all__ = ["JsonSchema"]


@dataclass(frozen=True)
class JsonSchema(SingleGrader):
    """1 where the answer is JSON that the schema takes; else 0.

    NaN and Infinity aren't JSON. References to other documents aren't fetched.

    Parameters
    ----------
    schema : mapping, optional
        The JSON Schema; without it, each prompt's reference is one, as JSON.
    fenced : bool
        JSON in a fenced block will do: the last one is taken.
    """

    kind: ClassVar[str] = "json_schema"
    needs_reference: ClassVar[bool] = False

    schema: Mapping[str, Any] | None = None
    fenced: bool = True

    def __post_init__(self) -> None:
        if self.schema is not None:
            _validator(json.dumps(self.schema))

    def grade(self, item: Item) -> Grade:
        """Grade one answer."""
        schema = item.reference if self.schema is None else json.dumps(self.schema)
        if schema is None:
            return Grade(None, "no schema: neither in the settings nor as the reference")
        try:
            validator = _validator(schema)
        except InputError as exc:
            return Grade(None, str(exc))
        blocks = fenced(item.response, "json") if self.fenced else []
        try:
            value = json.loads(blocks[-1] if blocks else item.response, parse_constant=_refuse)
        except (ValueError, RecursionError) as exc:
            return Grade(0.0, f"not JSON: {exc!s:.120}")
        return _validated(validator, value)


def _validated(validator: Any, value: object) -> Grade:
    from referencing.exceptions import Unresolvable

    try:
        error = next(validator.iter_errors(value), None)
    except Unresolvable as exc:
        return Grade(None, f"the schema refers to what it doesn't hold: {exc!s:.120}")
    except TimeoutError:
        return Grade(None, "a pattern of the schema took too long on this answer")
    except RecursionError:
        return Grade(0.0, "nested too deeply")
    return Grade(1.0, "valid") if error is None else Grade(0.0, f"{error.json_path}: {error.message!s:.160}")


def _refuse(name: str) -> None:
    raise ValueError(f"{name} isn't JSON")


@lru_cache(maxsize=256)
def _validator(schema_text: str) -> Any:
    try:
        from jsonschema import validators
        from jsonschema.exceptions import SchemaError
        from referencing import Registry
    except ImportError as exc:
        raise MissingExtraError("train", "Judging answers by a JSON schema") from exc
    try:
        schema = json.loads(schema_text)
        if not isinstance(schema, dict):
            raise ValueError(f"it is a {type(schema).__name__}, not an object")
        base = validators.validator_for(schema, default=validators.Draft202012Validator)
        base.check_schema(schema)
    except (ValueError, RecursionError, SchemaError) as exc:
        why = exc.message if isinstance(exc, SchemaError) else str(exc)
        raise InputError(f"The JSON schema {schema_text:.80} can't be used: {why:.200}.") from exc
    # An empty registry, so that nothing is fetched; and patterns that can't run for ever.
    bounded: Any = validators.extend(base, {"pattern": _pattern})  # type: ignore[no-untyped-call]
    return bounded(schema, registry=Registry())


def _pattern(validator: Any, wanted: str, value: object, schema: object) -> Iterator[Exception]:  # noqa: ARG001
    from jsonschema.exceptions import ValidationError

    if isinstance(value, str) and pattern(wanted).search(value, timeout=TIMEOUT_S) is None:
        yield ValidationError(f"{value!r:.80} does not match {wanted!r:.80}")
