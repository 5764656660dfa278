"""Labels: the cheapest tier that met the bar, for each training prompt."""

from __future__ import annotations

import polars as pl

from pipelines import stage
from router_ml import workflow
from router_ml.ladder import Ladder
from router_ml.traffic.labels import count_labels


def main() -> None:
    """Write the labels, and their counts as a plot's data; print the counts per slice."""
    options = stage.fit_options(stage.start())
    traffic = pl.read_parquet(stage.TRAIN)
    labels, ladder, _ = workflow.label_traffic(traffic, Ladder.from_yaml(stage.TIERS), options.bar)
    labels.write_parquet(stage.LABELS)
    counts = count_labels(labels, ladder)
    counts.write_csv(stage.REPORTS / "labels.csv")
    with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        print(counts)
        print(count_labels(labels, ladder, "category").pivot("label", index="category", values="n").fill_null(0))


if __name__ == "__main__":
    main()
