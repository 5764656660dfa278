"""What the stages share: where their files are, their params, and the log on stderr."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from router_ml.traffic.labels import Bar
from router_ml.workflow import FitOptions

TRAIN = Path("data/train.parquet")
TEST = Path("data/test.parquet")
TIERS = Path("data/tiers.yaml")
LABELS = Path("data/labels.parquet")
EMBEDDINGS = Path("data/embeddings.parquet")
MODELS = Path("models")
SOURCE = Path("traffic.yaml")
ROUTER = MODELS / "router.onnx"
REPORTS = Path("reports")


def start() -> dict[str, Any]:
    """Log to stderr, make the output folders, and give the params of all stages."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("router_ml").setLevel(logging.INFO)
    for folder in (TRAIN.parent, MODELS, REPORTS):
        folder.mkdir(exist_ok=True)
    params: dict[str, Any] = yaml.safe_load(Path("params.yaml").read_text())
    return params


def source() -> dict[str, Any]:
    """Where the traffic comes from, as `pipelines.use_traffic` wrote it; without that file the bundled sample."""
    content: dict[str, Any] = yaml.safe_load(SOURCE.read_text()) if SOURCE.exists() else {}
    return {name: content.get(name) for name in ("path", "sha256", "tiers", "bar")}


def fit_options(params: dict[str, Any]) -> FitOptions:
    """The options of the fit, from the params of several stages."""
    return FitOptions(
        bar=_bar({**params["label"], **{k: v for k, v in source().items() if k == "bar" and v is not None}}),
        encoder=params["embed"]["encoder"],
        reference=params["label"]["reference"],
        progress=True,
        **params["train"],
    )


def _bar(label: dict[str, Any]) -> Bar:
    bar = Bar.parse(str(label["bar"]))
    return replace(bar, reference=label["reference"]) if bar.kind == "relative" else bar
