"""`facedecode evaluate aggregation`."""

from __future__ import annotations

from facedecode.cli.app import command
from facedecode.cli.commands.evaluate import summary
from facedecode.cli.commands.evaluate.common import ReportOptions, run
from facedecode.cli.console import Console
from facedecode.evaluation.jobs import AggregationJob


def aggregation(console: Console, job: AggregationJob, report: ReportOptions) -> tuple[dict, dict]:
    """Gates: tar[n] and gain[n] (over one image), with @far=; tar[recognizer,n] where there are several stores."""
    from facedecode.evaluation.aggregation import aggregation_schema, evaluate_aggregation

    return run(
        console, report, lambda: aggregation_schema(job), lambda stage: evaluate_aggregation(job, stage("curve"))
    )


app = command("evaluate aggregation", aggregation, summary("aggregation"))
