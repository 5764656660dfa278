"""Importers: the logs that people have, by format, into the traffic table."""

from router_ml.traffic.importers.base import Importer, ImportOptions
from router_ml.traffic.importers.feedback import Scale
from router_ml.traffic.importers.importing import ImportResult, Progress, check_options, import_traffic
from router_ml.traffic.importers.registry import IMPORTERS, get_importer

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
