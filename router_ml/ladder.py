"""Tiers and the ladder they form: names, models, prices, limits; read from and written to ``tiers.yaml``."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_ml.errors import LadderError

__all__ = ["CAPABILITIES", "Ladder", "Tier"]

CAPABILITIES = ("tools", "vision", "json_schema")
"""What a tier can be said to support."""

_MTOK = 1_000_000


@dataclass(frozen=True, slots=True)
class Tier:
    """One rung of the ladder.

    Parameters
    ----------
    name : str
        Short name, unique in its ladder.
    model : str
        The model behind the tier, as the traffic names it.
    input_usd_per_mtok, output_usd_per_mtok : float or None
        Prices in USD per million tokens, >= 0; None: not known yet.
    request_usd : float
        Fixed price of a call in USD, >= 0.
    context_window : int or None
        Tokens that prompt and answer may take together; None: not known.
    supports : tuple of str or None
        Some of :data:`CAPABILITIES`, and no others; None: not known.
    price_source : str
        Where the prices come from: ``"given"``, ``"genai-prices"``, ``"estimated"`` (from logged costs), ``"unknown"``.

    Raises
    ------
    LadderError
        If a value is of the wrong type or out of its range.
    """

    name: str
    model: str
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    request_usd: float = 0.0
    context_window: int | None = None
    supports: tuple[str, ...] | None = None
    price_source: str = "given"

    def __post_init__(self) -> None:
        for field in ("name", "model"):
            value = getattr(self, field)
            if not isinstance(value, str) or not value.strip():
                raise LadderError(f"A tier's {field} is {value!r}; it needs to be a non-empty string.")
        for field in ("input_usd_per_mtok", "output_usd_per_mtok", "request_usd"):
            value = getattr(self, field)
            if value is None and field != "request_usd":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
                raise LadderError(
                    f"Tier {self.name!r}: {field} is {value!r}; a price needs to be a number >= 0, in USD."
                )
        window = self.context_window
        if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
            raise LadderError(
                f"Tier {self.name!r}: context_window is {window!r}; it needs to be a whole number of tokens >= 1."
            )
        if (self.input_usd_per_mtok is None) != (self.output_usd_per_mtok is None):
            raise LadderError(f"Tier {self.name!r} has one of the two token prices; give both, or neither.")
        unknown = [c for c in self.supports or () if c not in CAPABILITIES]
        if unknown:
            raise LadderError(
                f"Tier {self.name!r} supports {unknown}, which isn't known; choose from {list(CAPABILITIES)}."
            )

    @property
    def priced(self) -> bool:
        """Whether both token prices are known."""
        return self.input_usd_per_mtok is not None and self.output_usd_per_mtok is not None

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Self:
        """Build a tier from one entry of ``tiers.yaml``; ``name`` may be left out and is then the model's."""
        if not isinstance(entry, Mapping):
            raise LadderError(f"A tier is {entry!r}; it needs to be a mapping with at least 'model'.")
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(str(k) for k in entry if k not in known)
        if unknown:
            raise LadderError(f"A tier has the unknown key(s) {unknown}; the keys are {sorted(known)}.")
        if "model" not in entry:
            raise LadderError(
                f"The tier {dict(entry)!r} names no model; add 'model: <the name that the traffic uses>'."
            )
        values = {k: v for k, v in entry.items() if v is not None}
        supports = values.pop("supports", None)
        if isinstance(supports, str) or not isinstance(supports, Sequence | None):
            raise LadderError(f"A tier's 'supports' is {supports!r}; it needs to be a list, e.g. [tools, vision].")
        return cls(**{"name": values["model"], **values}, supports=None if supports is None else tuple(supports))

    def to_dict(self) -> dict[str, Any]:
        """The tier as plain values, the inverse of :meth:`from_dict`."""
        return {**dataclasses.asdict(self), "supports": None if self.supports is None else list(self.supports)}


@dataclass(frozen=True, slots=True)
class Ladder:
    """Tiers in order, cheapest first by mean cost.

    Raises
    ------
    LadderError
        With no tier, or with two tiers of the same name or the same model.
    """

    tiers: tuple[Tier, ...]

    def __post_init__(self) -> None:
        if not self.tiers:
            raise LadderError("The ladder has no tier; it needs at least one.")
        for field in ("name", "model"):
            values = [getattr(t, field) for t in self.tiers]
            twice = sorted({v for v in values if values.count(v) > 1})
            if twice:
                raise LadderError(
                    f"Two tiers have the same {field}: {', '.join(map(repr, twice))}; each {field} may stand once."
                )

    def __len__(self) -> int:
        return len(self.tiers)

    def __iter__(self) -> Iterator[Tier]:
        return iter(self.tiers)

    def __getitem__(self, index: int) -> Tier:
        return self.tiers[index]

    @property
    def names(self) -> tuple[str, ...]:
        """The tiers' names, in ladder order."""
        return tuple(t.name for t in self.tiers)

    @property
    def models(self) -> tuple[str, ...]:
        """The models behind the tiers, in ladder order."""
        return tuple(t.model for t in self.tiers)

    def index(self, name: str) -> int:
        """Position of the tier called `name` (or whose model is called so)."""
        for i, tier in enumerate(self.tiers):
            if name in (tier.name, tier.model):
                return i
        raise LadderError(f"No tier is called {name!r}; the tiers are {', '.join(self.names)}.")

    def prices(self) -> NDArray[np.float64]:
        """USD per input token, per output token and per call: shape [3, T]; a price not known is NaN."""
        rows = [
            (
                math.nan if t.input_usd_per_mtok is None else t.input_usd_per_mtok / _MTOK,
                math.nan if t.output_usd_per_mtok is None else t.output_usd_per_mtok / _MTOK,
                t.request_usd,
            )
            for t in self.tiers
        ]
        return np.array(rows, dtype=np.float64).T

    def cost_usd(self, input_tokens: ArrayLike, output_tokens: ArrayLike) -> NDArray[np.float64]:
        """Cost in USD of calls with so many tokens, both broadcast to [n, T]; shape [n, T]."""
        per_input, per_output, per_call = self.prices()
        return np.asarray(np.asarray(input_tokens) * per_input + np.asarray(output_tokens) * per_output + per_call)

    @classmethod
    def from_dicts(cls, entries: Sequence[Mapping[str, Any]]) -> Self:
        """Build a ladder from the list under ``tiers:``."""
        return cls(tuple(Tier.from_dict(e) for e in entries))

    def to_dicts(self) -> list[dict[str, Any]]:
        """The tiers as plain values, in order."""
        return [t.to_dict() for t in self.tiers]

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read ``tiers.yaml``: one key ``tiers``, a list of tiers with the fields of :class:`Tier`."""
        import yaml

        path = Path(path)
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as exc:
            why = " ".join(str(exc).split())  # YAML's errors run over several lines
            raise LadderError(f"The ladder {path} can't be read: {why}. Mend it, or give another file.") from exc
        if not isinstance(document, dict) or not isinstance(document.get("tiers"), list):
            raise LadderError(
                f"{path} needs a key 'tiers' that holds a list, each with 'model' and, if you like, 'name' and prices."
            )
        unknown = sorted(str(k) for k in document if k != "tiers")
        if unknown:
            raise LadderError(f"{path} has the unknown key(s) {unknown}; the only key is 'tiers'.")
        try:
            return cls.from_dicts(document["tiers"])
        except LadderError as exc:
            raise LadderError(f"{path}: {exc}") from exc

    def to_yaml(self, path: str | Path) -> None:
        """Write the ladder as ``tiers.yaml``."""
        import yaml

        entries = [{k: v for k, v in e.items() if v is not None} for e in self.to_dicts()]
        Path(path).write_text(yaml.safe_dump({"tiers": entries}, sort_keys=False), encoding="utf-8")
