"""Export: one ONNX file, checked against the trained model on the held-out prompts, and registered in MLflow."""

from __future__ import annotations

import polars as pl

from pipelines import stage
from router_ml import workflow
from router_ml.ladder import Ladder


def main() -> None:
    """Write the artifact."""
    options = stage.fit_options(stage.start())
    parity = workflow.export_tracked(
        stage.ROUTER,
        stage.MODELS,
        Ladder.from_yaml(stage.TIERS),
        options,
        parity_prompts=pl.read_parquet(stage.TEST)["prompt"].unique(maintain_order=True).to_list(),
        provenance={"data_sha256": workflow.hash_files([stage.TRAIN])},
    )
    print(f"p_meets differs by at most {parity.max_difference:.2g} on {parity.n_prompts:,} held-out prompts")


if __name__ == "__main__":
    main()
