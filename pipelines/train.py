"""Training: cross-fit, fit, calibrate; an MLflow run that the later stages go on with."""

from __future__ import annotations

import json

import polars as pl

from pipelines import stage
from router_ml import workflow
from router_ml.ladder import Ladder


def main() -> None:
    """Write the model and its cross-validated metrics."""
    options = stage.fit_options(stage.start())
    traffic = pl.read_parquet(stage.TRAIN)
    labels = pl.read_parquet(stage.LABELS)
    prepared = workflow.prepare(traffic, Ladder.from_yaml(stage.TIERS), options.bar, labels=labels)
    table = pl.read_parquet(stage.EMBEDDINGS)
    embedded = workflow.embedded_from_table(table, prepared.observations.prompt_id)
    unlabelled = workflow.embed_unjudged(
        prepared, options, lambda rest: workflow.embedded_from_table(table, rest.prompt_id)
    )
    trained, run_id = workflow.train_tracked(
        prepared, embedded, options, traffic, source=str(stage.TRAIN), name="pipeline", unlabelled=unlabelled
    )
    trained.save(stage.MODELS, run_id=run_id)
    metrics = {} if trained.evaluation is None else trained.evaluation.metrics()
    (stage.REPORTS / "cross_validated.json").write_text(json.dumps(metrics, indent=2))


if __name__ == "__main__":
    main()
