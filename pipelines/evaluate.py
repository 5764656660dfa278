"""Evaluation of the artifact on the test prompts: metrics, plots and a report, also logged to the MLflow run."""

from __future__ import annotations

import json

from pipelines import stage
from router_ml import workflow
from router_ml.core.router import Router
from router_ml.evaluation.report import html_report, text_report


def main() -> None:
    """Write metrics, plots' data and the reports."""
    params = stage.start()["evaluate"]
    router = Router.load(stage.ROUTER)
    evaluation = workflow.evaluate_router(
        router, [stage.TEST], random_state=params["random_state"], n_resamples=params["resamples"]
    )
    figures = workflow.figures(evaluation, workflow.curve_of(router))
    facts = workflow.report_facts(router, evaluation)
    report = stage.REPORTS / "report.html"
    report.write_text(html_report(evaluation, figures, title="Held-out evaluation", facts=facts), encoding="utf-8")
    (stage.REPORTS / "report.txt").write_text(text_report(evaluation), encoding="utf-8")
    (stage.REPORTS / "metrics.json").write_text(json.dumps(evaluation.metrics(), indent=2))
    for name, table in workflow.plot_tables(evaluation).items():
        table.write_csv(stage.REPORTS / f"{name}.csv")
    workflow.log_evaluation(router, evaluation, figures, report)


if __name__ == "__main__":
    main()
