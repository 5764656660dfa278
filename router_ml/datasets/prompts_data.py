"""Prompts about messy or structured data: extraction to JSON, classification and conversion between formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np

from router_ml.datasets.writing import Request, count, demands, fill, listing, pick, pick_graded, pick_some

_EXTRACTION_ASKS = (
    "Extract {fields} as JSON.",
    "Pull {fields} out of the text and return JSON only.",
    "Return a JSON object with the keys {fields}.",
    "Turn this into JSON with {fields}.",
    "From the message below, get {fields}. Output valid JSON.",
    "Parse this for our importer. Keys: {fields}.",
)
# A field of a record, and the ways in which it turns up in prose.
_FIELDS: dict[str, tuple[str, ...]] = {
    "order_id": ("Order {ref}", "ref. {ref}", "our number {ref}"),
    "quantity": ("{n} pieces", "{n} units", "a total of {n}"),
    "item": ("of the {product}", "{product} (new model)", "one line: {product}"),
    "unit_price": ("at {money} each", "priced {money}", "list price {money}"),
    "discount": ("less {pct}", "with {pct} off as agreed", "rebate {pct}"),
    "delivery_day": ("to arrive by {day}", "delivery on {day}", "not before {day}"),
    "contact": ("ask for {person}", "attn. {person}", "{person} signs for it"),
    "supplier": ("from {company}", "supplied by {company}", "via {company}"),
    "city": ("to the depot in {town}", "ship to {town}", "{town} site"),
    "department": ("charged to {dept}", "cost centre: {dept}", "on behalf of {dept}"),
    "deadline": ("invoice due in {n} days", "net {n}", "payable at the end of {month}"),
    "weight_kg": ("{n} kg gross", "about {n} kilos", "weighs {n} kg"),
    "window": ("between {time} and {time}", "slot {time}", "after {time}"),
    "priority": ("urgent", "no rush", "normal priority", "as soon as possible"),
}
_EXTRACTION_DEMANDS = (
    "Use null where something is missing.",
    "Write days as ISO weekday numbers.",
    "Amounts as numbers without currency signs.",
    "Nest price and discount under 'terms'.",
    "Group the records by supplier, then by city.",
    "Where a later record corrects an earlier one, keep only the later.",
    "Add a 'confidence' between 0 and 1 for each field.",
    "Add 'source_span' with the start and end offset of each value.",
    "Compute 'line_total' after the discount, rounded to cents.",
    "Keys in snake_case, sorted alphabetically.",
    "It has to validate against JSON Schema draft 2020-12 with additionalProperties false.",
)
_LABEL_SETS: tuple[tuple[str, ...], ...] = (
    ("positive", "negative"),
    ("spam", "not spam"),
    ("positive", "neutral", "negative"),
    ("bug", "feature request", "question"),
    ("billing", "delivery", "technical", "other"),
    ("urgent", "this week", "whenever", "no action"),
    ("praise", "complaint", "suggestion", "question", "irrelevant"),
    ("refund", "exchange", "repair", "status", "cancellation", "fraud suspicion"),
    ("sarcasm", "irony", "understatement", "literal praise", "literal complaint", "mixed"),
    ("warranty claim", "goodwill claim", "statutory claim", "contractual penalty", "no claim", "unclear", "duplicate"),
    ("causal claim", "correlation", "anecdote", "forecast", "value judgement", "definition", "hedged claim", "none"),
)
_CLASSIFICATION_ASKS = (
    "Classify as {labels}.",
    "Which of these fits: {labels}?",
    "Label the text: {labels}.",
    "Is this {labels}? One word.",
    "Assign one of {labels} to the following.",
    "Sort the message into one of our queues ({labels}).",
)
_CLASSIFICATION_DEMANDS = (
    "Give a probability for each label.",
    "Several labels may apply; list all that do.",
    "Name the words that decided it.",
    "Ignore the greeting and the signature.",
    "If two labels tie, prefer the one that costs {company} less.",
    "Judge what the writer wants, not what they say.",
    "Also say which label an inattentive reader would choose, and why it is wrong.",
)
# From plain to ambiguous.
_MESSAGES = (
    "Love this {product}, best purchase in years!",
    "Terrible. The {product} broke after {n} days.",
    "Congratulations, you won {money}, click here within {n} minutes.",
    "How do I reset my {product}?",
    "I was charged {money} twice for {ref}.",
    "Please add a dark mode to the {system}.",
    "The {product} is okay, nothing special, does what it should.",
    "Where is my parcel {ref}? It was meant to come on {day}.",
    "Your colleague {person} was very kind, but I still have no refund of {money}.",
    "Not sure if it's me or the {system}, but since {day} every second upload is empty.",
    "Works fine as long as you never need the one feature that it was advertised for.",
    "Oh great, another update of the {system}. Just what my {day} was missing.",
    "I'm not saying that I want my {money} back, I'm saying that {company} might want to offer it.",
    "If the second {product} is as durable as the first, I look forward to writing to you again in {n} days.",
    "Since we changed the {system}, complaints fell by {pct}; {person} says that people just gave up.",
    "One could hardly call the answer of {dept} slow, given the standards that {dept} has set.",
)
_FORMATS = (
    "CSV", "JSON", "a Markdown table", "YAML", "an HTML table", "TOML", "XML", "an INI file", "JSON Lines",
    "a LaTeX table", "Protocol Buffers text format", "an S-expression", "Turtle (RDF)",
)  # fmt: skip
_CONVERSION_ASKS = (
    "Convert this to {format}.",
    "Turn the data below into {format}.",
    "I need this as {format}.",
    "Reformat as {format}, nothing else:",
    "Please give me {format} from this.",
    "Our importer wants {format}. Convert.",
)
_CONVERSION_DEMANDS = (
    "Sort by the first column.",
    "Quote only where it is required.",
    "Drop rows with empty values.",
    "Use ISO dates.",
    "Numbers without thousands separators.",
    "Nest the rows under their department.",
    "Merge rows with the same id and sum the amounts.",
    "Add attributes for the types, with units.",
    "Keep the order of the keys and escape every character outside ASCII.",
    "Add a total per group, computed by you.",
    "It must survive a round trip without loss.",
)
_COLUMNS: dict[str, str] = {
    "id": "{ref}", "owner": "{person}", "department": "{dept}", "amount": "{money}", "share": "{pct}", "day": "{day}",
    "place": "{town}", "vendor": "{company}", "asset": "{product}", "count": "{big}", "system": "{system}",
    "start": "{time}",
}  # fmt: skip


def extraction(rng: np.random.Generator, difficulty: float) -> Request:
    """Records in prose, of which fields go to JSON: more records, fields and rules the harder."""
    keys = pick_some(rng, tuple(_FIELDS), count(rng, difficulty, 2, 11))
    ask = fill(rng, pick(rng, _EXTRACTION_ASKS), {"fields": (listing(keys),)})
    shown = [*keys, *(key for key in _FIELDS if key not in keys and rng.random() < 0.2)]
    records = [_record(rng, shown, difficulty) for _ in range(count(rng, difficulty, 1, 8))]
    return Request(ask + demands(rng, _EXTRACTION_DEMANDS, count(rng, difficulty, 0, 5)), "\n".join(records))


def _record(rng: np.random.Generator, keys: Sequence[str], difficulty: float) -> str:
    """One record in prose, its parts out of order; a few are missing in hard ones."""
    parts = [fill(rng, pick(rng, _FIELDS[key])) for key in pick_some(rng, keys, len(keys))]
    kept = [part for part in parts if rng.random() > 0.25 * difficulty] or parts[:1]
    return pick(rng, (", ", "; ", " - ")).join(kept) + "."


def classification(rng: np.random.Generator, difficulty: float) -> Request:
    """Messages to label: more labels, subtler messages and more rules the harder."""
    labels = pick_graded(rng, _LABEL_SETS, difficulty)
    ask = fill(rng, pick(rng, _CLASSIFICATION_ASKS), {"labels": (pick(rng, (", ", " / ", " or ")).join(labels),)})
    texts = [fill(rng, pick_graded(rng, _MESSAGES, difficulty)) for _ in range(count(rng, difficulty, 1, 6))]
    body = texts[0] if len(texts) == 1 else "\n".join(f"{i}. {text}" for i, text in enumerate(texts, start=1))
    return Request(ask + demands(rng, _CLASSIFICATION_DEMANDS, count(rng, difficulty, -1, 4)), body)


def conversion(rng: np.random.Generator, difficulty: float) -> Request:
    """A small data set to bring into another format: more rows, columns and rules the harder."""
    columns = pick_some(rng, tuple(_COLUMNS), count(rng, difficulty, 2, 8))
    rows = [[fill(rng, _COLUMNS[name]) for name in columns] for _ in range(count(rng, difficulty, 2, 14))]
    ask = fill(rng, pick(rng, _CONVERSION_ASKS), {"format": (pick_graded(rng, _FORMATS, difficulty),)})
    ask += demands(rng, _CONVERSION_DEMANDS, count(rng, difficulty, 0, 5))
    return Request(ask, pick(rng, _LAYOUTS)(columns, rows))


def _as_delimited(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(";".join(line) for line in (columns, *rows))


def _as_json(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=1)


def _as_listing(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(", ".join(f"{name}: {value}" for name, value in zip(columns, row, strict=True)) for row in rows)


def _as_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (columns, ["---"] * len(columns), *rows))


_LAYOUTS: tuple[Callable[[Sequence[str], Sequence[Sequence[str]]], str], ...] = (
    _as_delimited,
    _as_json,
    _as_listing,
    _as_table,
)
