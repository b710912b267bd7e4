"""`facedecode evaluate aggregation`."""

from __future__ import annotations

from facedecode.cli.app import Overwrite, command
from facedecode.cli.commands.evaluate import summary
from facedecode.cli.commands.evaluate.common import FailIf, Output, finish, parse_gates, refuse_output
from facedecode.cli.console import Console
from facedecode.evaluation.jobs import AggregationJob


def aggregation(
    console: Console, job: AggregationJob, output: Output = None, overwrite: Overwrite = False, fail_if: FailIf = None
) -> tuple[dict, dict]:
    """Gates: tar[n] and gain[n] (over one image), with @far=; tar[recognizer,n] where there are several stores."""
    from facedecode.evaluation.aggregation.measure import evaluate_aggregation
    from facedecode.evaluation.aggregation.report import GATE_WORDS, aggregation_report

    gates = parse_gates(fail_if, GATE_WORDS)
    refuse_output(output, overwrite)
    with console.progress() as stage:
        figures = evaluate_aggregation(job, stage("curve"))
    return finish(console, aggregation_report(figures, job), output, overwrite, gates)


app = command("evaluate aggregation", aggregation, summary("aggregation"))
