"""What each `facedecode evaluate` command does: a job → a `result.Result`, from which its report follows.

`EVALUATIONS` lists them. The module of each has `evaluate_NAME(job, stage=silent_stage)`, which does the work, and
`NAME_schema(job)`, which says before the work which figures there will be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from facedecode.errors import UsageError
from facedecode.evaluation import jobs
from facedecode.progress import Stage, silent_stage

if TYPE_CHECKING:
    from facedecode.evaluation.result import Result, Schema


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, imported when it is used.

    name: of its command. job: the type of its jobs. module: inside this package.
    """

    name: str
    job: type[jobs.EvaluationJob]
    module: str

    def schema(self, job: Any) -> Schema:
        """The figures that there will be."""
        return self._function(f"{self.name}_schema")(job)

    def evaluate(self, job: Any, stage: Stage = silent_stage) -> Result:
        """All figures. stage: called with the name of what is begun; gives what is called with (done, total)."""
        return self._function(f"evaluate_{self.name}")(job, stage)

    def _function(self, name: str) -> Callable:
        return getattr(import_module(f"facedecode.evaluation.{self.module}"), name)


EVALUATIONS = {
    evaluation.name: evaluation
    for evaluation in (
        Evaluation("reconstruction", jobs.ReconstructionJob, "reconstruction"),
        Evaluation("verification", jobs.VerificationJob, "verification.report"),
        Evaluation("security", jobs.SecurityJob, "security.report"),
        Evaluation("protection", jobs.ProtectionJob, "protection.evaluate"),
        Evaluation("equivariance", jobs.EquivarianceJob, "equivariance.evaluate"),
        Evaluation("aggregation", jobs.AggregationJob, "aggregation"),
        Evaluation("leakage", jobs.LeakageJob, "leakage.evaluate"),
    )
}


def find_evaluation(job: object) -> Evaluation:
    """The evaluation of a job. Raises UsageError for what is no job of one."""
    for evaluation in EVALUATIONS.values():
        if isinstance(job, evaluation.job):
            return evaluation
    raise UsageError(f"{type(job).__name__} is no job of an evaluation: use one of facedecode.evaluation.jobs")
