"""Importers by name."""

from __future__ import annotations

from collections.abc import Mapping

from router_ml._plugins import Plugins
from router_ml.errors import InputError
from router_ml.importers.base import Importer
from router_ml.importers.helicone import HELICONE
from router_ml.importers.langfuse import LANGFUSE
from router_ml.importers.litellm import LITELLM
from router_ml.importers.mlflow import MLFLOW
from router_ml.importers.openai_batch import OPENAI_BATCH
from router_ml.importers.openai_stored import OPENAI_STORED
from router_ml.importers.openrouter import OPENROUTER
from router_ml.importers.otel import OTEL
from router_ml.importers.routellm import ROUTELLM
from router_ml.importers.routerbench import ROUTERBENCH
from router_ml.importers.table import TABLE

__all__ = ["ALIASES", "IMPORTERS", "get_importer"]

IMPORTERS: Mapping[str, Importer] = Plugins(
    "router_ml.importers",
    {
        importer.name: importer
        for importer in (
            OPENAI_BATCH,
            OPENAI_STORED,
            OPENROUTER,
            HELICONE,
            LITELLM,
            LANGFUSE,
            OTEL,
            MLFLOW,
            ROUTERBENCH,
            ROUTELLM,
            TABLE,
        )
    },
)
"""Every importer by its format: ours, then those of entry points in the group ``router_ml.importers``."""

ALIASES: Mapping[str, str] = dict.fromkeys(("csv", "jsonl", "parquet"), TABLE.name)
"""Other names of formats: how a table is written is told by its content."""


def get_importer(name: str) -> Importer:
    """The importer of a format; raises InputError for a name that isn't known."""
    name = ALIASES.get(name, name)
    if name not in IMPORTERS:
        raise InputError(f"There is no format {name!r}; choose from {', '.join(IMPORTERS)}.")
    return IMPORTERS[name]
