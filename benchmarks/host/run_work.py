"""What a run did at each size, from its report: the input of benchmarks.cost_model."""

from statistics import fmean

from benchmarks.cost_model import StageWork
from jenga.carving.attention import DENSE
from jenga.report.report import Evaluation, Report
from jenga.runtime.anchors import ANCHOR


def work_of(report: Report) -> list[StageWork]:
    """One StageWork for each scale of a run, smallest first."""
    scales = [stage.scale for stage in report.stages] or [1.0]
    by_scale: dict[float, list[Evaluation]] = {scale: [] for scale in sorted(set(scales))}
    for evaluation in report.evaluations:
        by_scale[scales[evaluation.stage_index]].append(evaluation)
    return [stage_work(scale, evaluations) for scale, evaluations in by_scale.items()]


def stage_work(scale: float, evaluations: list[Evaluation]) -> StageWork:
    """Of evaluations that are taken for ones at that scale."""
    computed = sum(evaluation.computed for evaluation in evaluations)
    calls = [call for evaluation in evaluations for call in evaluation.calls]
    if not calls:  # no Jenga Attention on the model
        return StageWork(scale, computed, 1.0, 0.0, 1.0)
    kinds = [call.kind for call in calls]
    dense, anchors = (kinds.count(kind) / len(kinds) for kind in (DENSE, ANCHOR))
    kept = [float(call.kept_share) for call in calls if call.kind not in (DENSE, ANCHOR)]
    return StageWork(scale, computed, dense, anchors, fmean(kept) if kept else 1.0)


def dense_work(calls: float) -> list[StageWork]:
    """Of a run without a report, with dense attention at full size."""
    return [StageWork(1.0, calls, 1.0, 0.0, 1.0)]
