"""MLflow: the calls of models in traces, of a tracking server or a store by its URI, or of traces as JSON (``Trace.to_json()``).

The URI is a tracking URI (``sqlite:///mlflow.db``, ``http://host:5000``); ``#NAME`` behind it picks an experiment, without it all are read.
A row is a span of type CHAT_MODEL or LLM; where a framework's span holds the client's, that is the client's. Inputs and outputs are
the span's own, since the previews in a trace's info are cut.

For ``quality_from``: the name of a feedback. One that was given to a trace, not to a span, is taken where the trace has a single call:
of several, none is known to be what it judged.

References
----------
https://mlflow.org/docs/latest/genai/concepts/trace/
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from router_ml.errors import MissingExtraError, TrafficError
from router_ml.importers.base import Found, Importer, ImportOptions, Record, Row, SkippedError
from router_ml.importers.chat import call_row
from router_ml.importers.fields import at, decode, elapsed_ms, first, mapping, number, utc
from router_ml.importers.streams import body_of

__all__ = ["MLFLOW"]

_GENERATIONS = ("CHAT_MODEL", "LLM")
_FAILED = ("STATUS_CODE_ERROR", "ERROR")


def _unpack(record: Record) -> Iterable[Record]:
    """One record for each call in a trace: its span beside the trace's info."""
    traces = record.get("traces")
    if isinstance(traces, list) and "info" not in record:
        return (call for trace in traces for call in _calls(mapping(trace)))
    return _calls(record)


def _calls(trace: Record) -> Iterator[Record]:
    spans = at(trace, "data", "spans")
    spans = [span for span in spans if isinstance(span, Mapping)] if isinstance(spans, list) else []
    generations = [span for span in spans if _type_of(span) in _GENERATIONS]
    parents = [first(span.get("parent_span_id"), span.get("parent_id")) for span in generations]
    outer = {parent for parent in parents if isinstance(parent, str)}
    inner = [span for span in generations if outer.isdisjoint(_ids_of(span))]
    for span in inner:
        yield {"info": trace.get("info"), "span": span, "alone": len(inner) == 1}
    if not inner:
        yield {"info": trace.get("info")}


def _parse(record: Record, options: ImportOptions, kept: Sequence[Record]) -> Iterable[Row]:  # noqa: ARG001
    span, info = mapping(record.get("span")), mapping(record.get("info"))
    if not span:
        raise SkippedError("a trace without a call of a model")
    request, response = _bodies(span)
    failed = first(at(span, "status", "code"), span.get("status_code")) in _FAILED
    row = call_row(request, response, options, failure="the call failed" if failed else None)
    tokens, named = _attribute(span, "mlflow.chat.tokenUsage"), _attribute(span, "mlflow.llm.model")
    asked = [request.get("model"), _attribute(span, "model"), named]
    answered = [response.get("model"), named, request.get("model"), _attribute(span, "model")]
    start, end = (_seconds(first(span.get(f"{edge}_unix_nano"), span.get(edge))) for edge in ("start_time", "end_time"))
    known = {
        "model": first(*(asked if options.model_from == "request" else answered)),
        "quality": None if failed else _quality(record, span, info, options),
        "input_tokens": at(tokens, "input_tokens"),
        "output_tokens": at(tokens, "output_tokens"),
        "cost_usd": at(_attribute(span, "mlflow.llm.cost"), "total_cost"),
        "latency_ms": elapsed_ms(start, end),
        "created_at": utc(start),
        "session_id": at(mapping(info.get("trace_metadata")), "mlflow.trace.session"),
    }
    return ({**row, **{name: value for name, value in known.items() if value is not None}},)


def _bodies(span: Record) -> tuple[Record, Record]:
    asked, answered = _attribute(span, "mlflow.spanInputs"), _attribute(span, "mlflow.spanOutputs")
    messages = asked if isinstance(asked, list) else [{"role": "user", "content": asked}]
    request = asked if isinstance(asked, Mapping) else {"messages": messages}
    generated = at(answered, "generations", 0, 0)  # LangChain's
    if isinstance(generated, Mapping):
        answered = first(generated.get("text"), at(generated, "message", "content"))
    response = answered if isinstance(answered, Mapping) else body_of(answered) or {"content": answered}
    if not any(key in response for key in ("choices", "content", "output", "data")) and at(response, "role"):
        response = {"choices": [{"message": response}]}
    return request, response


def _quality(record: Record, span: Record, info: Record, options: ImportOptions) -> float | None:
    """Quality by the latest valid feedback of that name for this span, else for the trace."""
    if options.quality_from is None:
        return None
    given: dict[bool, tuple[str, Any]] = {}
    assessments = info.get("assessments")
    for assessment in assessments if isinstance(assessments, list) else []:
        of = at(assessment, "span_id")
        value = at(assessment, "feedback", "value")
        named = at(assessment, "assessment_name") == options.quality_from and at(assessment, "valid") is not False
        if not named or value is None or not (of in _ids_of(span) if of else record.get("alone")):
            continue
        when = first(at(assessment, "last_update_time"), at(assessment, "create_time"))
        when = when if isinstance(when, str) else ""
        if bool(of) not in given or when >= given[bool(of)][0]:
            given[bool(of)] = (when, value)
    found = given.get(True) or given.get(False)
    return options.scale.quality(found[1]) if found else None


def _attribute(span: Record, name: str) -> Any:
    """An attribute's value: MLflow writes each as JSON."""
    value = at(span, "attributes", name)
    try:
        return decode(value) if isinstance(value, str) else value
    except TrafficError:
        return value


def _type_of(span: Record) -> Any:
    kind = at(span, "attributes", "mlflow.spanType")
    return kind.strip('"') if isinstance(kind, str) else None


def _ids_of(span: Record) -> list[str]:
    """A span's id as its trace writes it (in base64; hexadecimal in older versions), and in hexadecimal, as assessments write it."""
    value = first(span.get("span_id"), at(span, "context", "span_id"))
    if not isinstance(value, str):
        return []
    try:
        return [value, base64.b64decode(value, validate=True).hex()]
    except (ValueError, binascii.Error):
        return [value]


def _seconds(nanoseconds: Any) -> float | None:
    value = number(nanoseconds)
    return value / 1e9 if value else None


# ----------------------------------------------------------------------------------------------------------------- Store

_AT_ONCE = 50


def _read(urls: Sequence[str]) -> Iterator[Found]:
    try:
        import mlflow
        import sqlalchemy.exc
        from mlflow.exceptions import MlflowException
    except ImportError as exc:
        raise MissingExtraError("train", "Reading MLflow's traces") from exc
    for url in urls:
        uri, _, experiment = url.partition("#")
        shown = _without_secrets(uri)
        try:
            client = mlflow.MlflowClient(tracking_uri=uri)
            for name, number_of in _experiments(client, unquote(experiment), shown):
                yield from _traces(client, number_of, f"{shown}#{name}")
        except (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError) as exc:
            # Its message may hold the URI, with a password in it.
            reason = str(exc).replace(uri, shown)
            raise TrafficError(f"{shown} can't be read as an MLflow store: {reason:.300}") from None


def _without_secrets(uri: str) -> str:
    try:
        parts = urlsplit(uri)
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
    except ValueError as exc:
        raise TrafficError(f"The tracking URI isn't one: {exc}.") from None
    path = parts.path.removeprefix("/")
    if parts.scheme == "sqlite" and not Path(path).is_file():
        raise TrafficError(f"{shown}: there is no file {path}; MLflow would make an empty store of it.")
    return shown


def _experiments(client: Any, name: str, shown: str) -> Iterator[tuple[str, str]]:
    """Names and ids of the experiments to read."""
    page = client.search_experiments(order_by=["experiment_id ASC"])
    found = [*page]
    while page.token:
        page = client.search_experiments(order_by=["experiment_id ASC"], page_token=page.token)
        found += page
    chosen = [(e.name, e.experiment_id) for e in found if e.name == name or not name]
    if not chosen:
        names = ", ".join(sorted(e.name for e in found)[:20])
        raise TrafficError(f"{shown} has no experiment {name!r}; it has {names}.")
    yield from chosen


def _traces(client: Any, experiment: str, place: str) -> Iterator[Found]:
    row, token = 0, None
    while True:
        asked = {
            "locations": [experiment],
            "max_results": _AT_ONCE,
            "order_by": ["timestamp_ms ASC"],
            "page_token": token,
        }
        infos = client.search_traces(**asked, include_spans=False)
        # Traces whose spans can't be loaded are left out here, with no more than a warning.
        whole = {trace.info.trace_id: trace for trace in client.search_traces(**asked)}
        for listed in infos:
            row += 1
            trace = whole.get(listed.info.trace_id)
            problem = None if trace else f"the spans of trace {listed.info.trace_id} can't be loaded"
            yield Found(place, row, trace.to_dict() if trace else None, problem)
        token = infos.token
        if not token:
            return


def _names(record: Record) -> Iterable[str]:
    """Names of a trace's assessments."""
    assessments = at(mapping(record.get("info")), "assessments")
    return [at(a, "assessment_name") for a in assessments] if isinstance(assessments, list) else []


def _knows(record: Record) -> bool:
    return isinstance(at(record, "data", "spans"), list) and "info" in record


MLFLOW = Importer(
    name="mlflow",
    summary="MLflow's traces: a tracking URI (sqlite:///mlflow.db, http://...; #EXPERIMENT), or JSON",
    parse=_parse,
    unpack=_unpack,
    lists=("traces",),
    names=_names,
    knows=_knows,
    read=_read,
)
