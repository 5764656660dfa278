"""How a simulated prompt is put together: seeded picks from tables of fragments, and the ways in which users type."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")

_SLOT = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"\b[a-z]{5,}\b")

# Spread of an observable feature (a count, a place in a table) around what the latent difficulty alone would give.
_SHOW_NOISE = 0.10

SLOTS: dict[str, tuple[str, ...]] = {
    "person": (
        "Ana", "Bela", "Chidi", "Dora", "Emre", "Farah", "Goran", "Hana", "Ines", "Jonas", "Kaori", "Lena", "Mateo",
        "Nadia", "Omar", "Petra", "Quinn", "Rosa", "Sven", "Tomas", "Uma", "Vera", "Wim", "Yusuf", "Zoe",
    ),
    "company": (
        "Alder & Pine", "Bluecrate", "Cindermill", "Dovetail Freight", "Eastgate Foods", "Fernhollow", "Greyline",
        "Harborwick", "Ironleaf", "Junipero Labs", "Kestrel Water", "Lumenfold", "Mossbank", "Northquay", "Oakenshaw",
    ),
    "town": (
        "Aldermere", "Brackwater", "Corran Bay", "Dunhollow", "Eastmarch", "Fenwick Cross", "Gullhaven", "Hollin Ford",
        "Iverness Mill", "Kingsreach", "Larkfield", "Millbrook", "Norrowby", "Otterburn Quay", "Pellham",
    ),
    "product": (
        "cordless drill", "espresso machine", "standing desk", "noise-cancelling headset", "robot vacuum",
        "trail jacket", "smart thermostat", "folding bike", "rice cooker", "e-reader", "air purifier", "camping stove",
        "mechanical keyboard", "baby monitor", "electric kettle",
    ),
    "dept": (
        "finance", "logistics", "support", "marketing", "legal", "procurement", "the data team", "facilities",
        "quality assurance", "human resources", "the platform team", "sales operations",
    ),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
    "month": (
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December",
    ),
    "time": ("8:15", "9:00", "9:45", "10:30", "11:20", "13:00", "14:10", "15:30", "16:45", "18:05", "21:40"),
    "n": tuple(str(i) for i in range(2, 60)),
    "big": tuple(f"{i:,}" for i in range(1_150, 48_000, 437)),
    "pct": tuple(f"{i / 2:g}%" for i in range(3, 97)),
    "money": tuple(f"${i:,}" for i in range(140, 98_000, 613)),
    "ref": tuple(f"{a}-{i}" for a in ("A", "INV", "TK", "R", "PO", "CR") for i in range(1041, 9800, 271)),
    "system": (
        "billing service", "search index", "message queue", "login gateway", "export job", "image cache",
        "payments webhook", "scheduler", "reporting replica", "feature-flag store", "mail relay", "audit log",
    ),
}  # fmt: skip

_OPENERS = (
    "Hi, ", "Hey! ", "Hello there. ", "Quick one: ", "Good morning. ", "Please help. ", "I'm stuck on this. ",
    "For work: ", "New task. ", "Not sure how to word this, but: ", "One more thing: ", "Could you help me out? ",
)  # fmt: skip
_CLOSERS = (
    " Thanks!", " Thank you in advance.", " No preamble please.", " Be concise.", " Many thanks.",
    " Keep it readable.", " I need it today.", " Just the result.", " Let me know if something is unclear.",
    " Cheers",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks, and the text, data or code that they paste with it (empty: none)."""

    ask: str
    material: str = ""


def pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    """One of `items`, each equally likely."""
    return items[int(rng.random() * len(items))]


def pick_some(rng: np.random.Generator, items: Sequence[T], k: int) -> list[T]:
    """`k` different ones of `items` (all where there are fewer, none where `k` <= 0), in random order."""
    return [items[int(i)] for i in rng.permutation(len(items))[: max(k, 0)]]


def pick_graded(rng: np.random.Generator, items: Sequence[T], difficulty: float) -> T:
    """One of `items`, which run from easy to hard: near the place that `difficulty` in [0, 1] points to."""
    place = (difficulty + _SHOW_NOISE * float(rng.standard_normal())) * len(items)
    return items[min(max(int(place), 0), len(items) - 1)]


def count(rng: np.random.Generator, difficulty: float, low: int, high: int) -> int:
    """A whole number in [low, high] that grows with `difficulty` in [0, 1]."""
    share = difficulty + _SHOW_NOISE * float(rng.standard_normal())
    return min(max(round(low + (high - low) * share), low), high)


def fill(rng: np.random.Generator, template: str, slots: Mapping[str, Sequence[str]] | None = None) -> str:
    """`template` with every ``{slot}`` replaced by a pick from `slots`, or from `SLOTS` where `slots` lacks it.

    Raises
    ------
    KeyError
        If a slot of the template is in neither table.
    """
    own = slots or {}
    return _SLOT.sub(lambda found: pick(rng, own.get(found[1]) or SLOTS[found[1]]), template)


def listing(items: Sequence[str]) -> str:
    """The items as English prose: ``a, b and c``.

    >>> listing(["a", "b", "c"])
    'a, b and c'
    """
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def demands(
    rng: np.random.Generator, table: Sequence[str], k: int, slots: Mapping[str, Sequence[str]] | None = None
) -> str:
    """`k` different demands of `table`, as sentences or as a list of dashes, led by white space; "" where `k` <= 0."""
    chosen = [fill(rng, item, slots) for item in pick_some(rng, table, k)]
    if len(chosen) >= 3 and rng.random() < 0.5:
        return pick(rng, ("\nRequirements:\n", "\nConstraints:\n", "\n")) + "\n".join(f"- {item}" for item in chosen)
    return "".join(f" {item}" for item in chosen)


def in_user_style(rng: np.random.Generator, request: Request) -> str:
    """The request as some user would type it: with a greeting, in lower case, with typos, material first or last."""
    ask = request.ask
    manner = rng.random()
    if manner < 0.14:
        ask = ask.lower().rstrip(".")
    elif manner < 0.26:
        ask = pick(rng, _OPENERS) + ask
    elif manner < 0.36:
        ask = ask + pick(rng, _CLOSERS)
    if rng.random() < 0.10:
        ask = with_typos(rng, ask, n_typos=1 + int(rng.random() * 2))
    if not request.material:
        return ask
    first, last = (request.material, ask) if rng.random() < 0.2 else (ask, request.material)
    return f"{first}\n\n{last}"


def with_typos(rng: np.random.Generator, text: str, *, n_typos: int) -> str:
    """`text` with two neighbouring letters swapped inside up to `n_typos` of its lower-case words."""
    words = list(_WORD.finditer(text))
    letters = list(text)
    for word in pick_some(rng, words, n_typos):
        at = word.start() + 1 + int(rng.random() * (len(word[0]) - 2))
        letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)
