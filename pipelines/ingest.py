"""Traffic in: the file that traffic.yaml names, or the simulated sample; validated and split by prompt hash."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipelines import stage
from router_ml import workflow
from router_ml.datasets import sample_ladder
from router_ml.ladder import Ladder


def main() -> None:
    """Write the training and the test traffic, and the ladder."""
    params = stage.start()["ingest"]
    source = stage.source()
    with tempfile.TemporaryDirectory() as folder:
        path = source["path"] or workflow.write_sample(
            Path(folder) / "simulated.parquet", n_prompts=params["sample_prompts"], random_state=params["random_state"]
        )
        traffic = workflow.read_traffic([path], max_rejects=params["max_rejects"])
    ladder = sample_ladder() if source["path"] is None else None
    if source["tiers"] is not None:
        ladder = Ladder.from_yaml(source["tiers"])
    split = workflow.split_traffic(
        traffic.traffic, ladder, test_share=params["test_share"], random_state=params["random_state"]
    )
    split.train.write_parquet(stage.TRAIN)
    split.test.write_parquet(stage.TEST)
    split.ladder.to_yaml(stage.TIERS)
    traffic.write_rejects(stage.TRAIN.with_name("traffic"))


if __name__ == "__main__":
    main()
