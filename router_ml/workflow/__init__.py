"""The offline path as functions, composed once, for the command line, the pipelines and the notebooks alike.

``read_traffic -> prepare -> embed_prompts -> train -> export_router`` is :func:`fit`; :func:`evaluate_router` measures what
came out.
"""

from __future__ import annotations

from router_ml.workflow.compress import add_text_to_router, compress_router
from router_ml.workflow.data import (
    Prepared,
    Split,
    hash_files,
    label_traffic,
    prepare,
    read_traffic,
    split_traffic,
    write_sample,
)
from router_ml.workflow.embed import Embedded, embed_prompts, embed_table, embedded_from_table
from router_ml.workflow.evaluate import curve_of, evaluate_router, figures, log_evaluation, plot_tables, report_facts
from router_ml.workflow.explore import plan_router_exploration
from router_ml.workflow.export import export_router, export_tracked
from router_ml.workflow.fit_router import FitResult, fit
from router_ml.workflow.off_policy import evaluate_off_policy
from router_ml.workflow.options import FitOptions
from router_ml.workflow.train_model import Trained, embed_unjudged, train, train_tracked
from router_ml.workflow.warnings import simulated

__all__ = [
    "Embedded",
    "FitOptions",
    "FitResult",
    "Prepared",
    "Split",
    "Trained",
    "add_text_to_router",
    "compress_router",
    "curve_of",
    "embed_prompts",
    "embed_table",
    "embed_unjudged",
    "embedded_from_table",
    "evaluate_off_policy",
    "evaluate_router",
    "export_router",
    "export_tracked",
    "figures",
    "fit",
    "hash_files",
    "label_traffic",
    "log_evaluation",
    "plan_router_exploration",
    "plot_tables",
    "prepare",
    "read_traffic",
    "report_facts",
    "simulated",
    "split_traffic",
    "train",
    "train_tracked",
    "write_sample",
]
