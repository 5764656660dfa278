"""Importers: the logs that people have, by format, into the traffic table."""

from router_ml.importers.base import Importer, ImportOptions
from router_ml.importers.feedback import Scale
from router_ml.importers.registry import IMPORTERS, get_importer
from router_ml.importers.run import ImportResult, Progress, check_options, import_traffic

__all__ = [
    "IMPORTERS",
    "ImportOptions",
    "ImportResult",
    "Importer",
    "Progress",
    "Scale",
    "check_options",
    "get_importer",
    "import_traffic",
]
