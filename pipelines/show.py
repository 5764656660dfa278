"""The end of the demo: the tables, where everything is, and three routed prompts."""

from __future__ import annotations

import polars as pl

from pipelines import stage
from router_ml import workflow
from router_ml.core.router import Router


def main() -> None:
    """Print it."""
    router = Router.load(stage.ROUTER)
    print((stage.REPORTS / "report.txt").read_text(encoding="utf-8"))
    print(f"artifact:     {stage.ROUTER}")
    print(f"report:       {stage.REPORTS / 'report.html'}")
    print("MLflow store: mlflow.db (make ui)\n")
    test = pl.read_parquet(stage.TEST)
    for warning in workflow.simulated(test.unique("prompt_id")["source"].fill_null("")):
        print(f"{warning}\n")
    prompts = test["prompt"].unique(maintain_order=True).to_list()
    decisions = router.route_batch(prompts)
    # One prompt for each tier that is chosen at all, then the first ones, three in all.
    first = {d.tier: i for i, d in reversed(list(enumerate(decisions)))}
    shown = list(dict.fromkeys([*first.values(), *range(len(prompts))]))[:3]
    for i in shown:
        words = " ".join(prompts[i].split())
        print(f"> {words[:160]}{'...' if len(words) > 160 else ''}\n  {decisions[i].explanation}\n")


if __name__ == "__main__":
    main()
