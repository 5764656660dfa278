"""``judge.yaml``: which grader for which slice of the traffic."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import polars as pl
from annotated_types import Ge, MinLen

from router_ml.errors import InputError
from router_ml.judge.registry import build_grader
from router_ml.judge.settings import STRICT, read_settings

__all__ = ["JudgeConfig", "Rule"]

MAX_CHARS = 1_000_000


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: the rows that it is for, and the grader for them.

    Parameters
    ----------
    grader : str
        A kind of :data:`router_ml.judge.registry.GRADERS`.
    name : str, optional
        What the rule is called in reports; without it the grader's kind.
    when : mapping
        Of ``source``, ``category`` and ``model``: the value, or list of values, that a row has to have. Empty: every
        row.
    reference : str
        The column of the references that holds what this grader compares with.
    settings : mapping
        The grader's.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    grader: str
    name: Annotated[str, MinLen(1)] | None = None
    when: Mapping[Literal["source", "category", "model"], str | tuple[str, ...]] = field(default_factory=dict)
    reference: str = "reference"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the rule is called."""
        return self.name or self.grader

    def matches(self) -> pl.Expr:
        """Whether a row is for this rule."""
        parts = [
            pl.col(column).is_in([values] if isinstance(values, str) else list(values)).fill_null(False)
            for column, values in self.when.items()
        ]
        return pl.all_horizontal(pl.lit(True), *parts)


@dataclass(frozen=True, slots=True)
class JudgeConfig:
    """All of ``judge.yaml``. The first rule that matches a row grades it; a row that none matches stays as it is.

    Parameters
    ----------
    rules : tuple of Rule
    references : str, optional
        A file (Parquet, CSV, JSON lines) with ``prompt_id`` and the columns that the rules name; a relative path counts
        from the folder of ``judge.yaml``. Without it the columns are looked for in the traffic table.
    max_usd : float
        What LLM judges may spend in one run, together.
    allow_code_execution : bool
        Whether answers may be run as programs; read :mod:`router_ml.judge.sandbox` first.
    overwrite : bool
        Also grade rows that have a quality. One that can't be graded then has none any more.
    max_chars : int
        Longer answers aren't judged.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    rules: Annotated[tuple[Rule, ...], MinLen(1)]
    references: str | None = None
    max_usd: Annotated[float, Ge(0)] = 0.0
    allow_code_execution: bool = False
    overwrite: bool = False
    max_chars: Annotated[int, Ge(1)] = MAX_CHARS

    @property
    def traffic_columns(self) -> tuple[str, ...]:
        """Columns of the traffic table that the rules compare with: none where there is a file of references."""
        return () if self.references is not None else tuple(dict.fromkeys(rule.reference for rule in self.rules))

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read plain values; raises InputError naming what is wrong, in graders' settings too."""
        config = read_settings(cls, document, "the judge")
        labels = [rule.label for rule in config.rules]
        twice = sorted({name for name in labels if labels.count(name) > 1})
        if twice:
            raise InputError(
                f"Two rules of the judge are called {', '.join(map(repr, twice))}; give each a name of its own."
            )
        for rule in config.rules:
            try:
                build_grader(rule.grader, rule.settings)
            except InputError as exc:
                raise InputError(f"Rule {rule.label!r}: {exc}") from exc
        return config

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read ``judge.yaml``; raises InputError naming the file and what is wrong."""
        import yaml

        path = Path(path)
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as exc:
            why = " ".join(str(exc).split())  # YAML's errors run over several lines
            raise InputError(f"The judge {path} can't be read: {why}. Mend it, or give another file.") from exc
        if not isinstance(document, dict):
            raise InputError(
                f"{path} needs to be a mapping with a key 'rules' that holds a list, each with a 'grader'."
            )
        try:
            config = cls.from_dict(document)
        except InputError as exc:
            raise InputError(f"{path}: {exc}") from exc
        if config.references is None:
            return config
        return dataclasses.replace(config, references=str(path.parent / config.references))
