"""How much of a run's speed came from carving, from small stages and from reused steps: an estimate.

There is no dense run to compare with, so each share is what the run's own timings say about doing without it:

    reuse        every reused model call takes as long as a computed one of its stage does on average
    resolution   then every call of a smaller stage takes as long as one at full size
    carving      then every attention call at full size takes as long as a dense one: the median of the dense calls that
                 the run made there; or of its anchors, less a carved call; or, where it made neither, the median carved
                 call / kept share, which assumes that attention takes time in proportion to the keys it keeps

The three factors multiply to the whole. Source: ours. Only dense and carved runs side by side measure it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, median

from ..carving.attention import DENSE
from ..runtime.anchors import ANCHOR


@dataclass(frozen=True)
class SpeedEstimate:
    """Factors, 1 = no gain; None where the run's timings do not tell. basis: where the dense attention time is from."""

    carving: float | None
    resolution: float | None
    reuse: float
    basis: str

    @property
    def total(self) -> float:
        return self.reuse * (self.resolution or 1.0) * (self.carving or 1.0)


def estimate_speed(scales: list[float], evaluations: list) -> SpeedEstimate | None:
    """scales: of the stages. evaluations: report.Evaluation, finished. None before a model call was computed."""
    calls = sum(evaluation.computed + evaluation.reused for evaluation in evaluations)
    computed = [evaluation for evaluation in evaluations if evaluation.computed]
    if not computed or not sum(evaluation.seconds for evaluation in evaluations):
        return None

    def seconds_per_call(wanted: Callable[[int], bool]) -> float | None:
        chosen = [evaluation for evaluation in evaluations if wanted(evaluation.stage_index)]
        made = sum(evaluation.computed for evaluation in chosen)
        return sum(evaluation.seconds for evaluation in chosen) / made if made else None

    def is_full(stage_index: int) -> bool:
        return scales[stage_index] >= 1 if scales else True

    average = seconds_per_call(lambda _: True)
    full = seconds_per_call(is_full)
    own = {
        index: seconds_per_call(lambda other, index=index: other == index) or average
        for index in {evaluation.stage_index for evaluation in evaluations}
    }
    no_reuse = one_size = 0.0
    for evaluation in evaluations:
        index, number = evaluation.stage_index, evaluation.computed + evaluation.reused
        no_reuse += number * own[index]
        one_size += number * (own[index] if is_full(index) or full is None else full)
    reuse = no_reuse / sum(evaluation.seconds for evaluation in evaluations)
    if full is None:
        return SpeedEstimate(None, None, reuse, "")
    at_full = [evaluation for evaluation in computed if is_full(evaluation.stage_index)]
    dense, basis = _dense_seconds([call for evaluation in at_full for call in evaluation.calls])
    if dense is None:
        return SpeedEstimate(None, one_size / no_reuse, reuse, basis)
    timed = [call.seconds for evaluation in at_full for call in evaluation.calls if call.seconds is not None]
    layers = len(timed) / sum(evaluation.computed for evaluation in at_full)
    everything = one_size + calls * layers * (dense - fmean(timed))
    return SpeedEstimate(everything / one_size, one_size / no_reuse, reuse, basis)


def _dense_seconds(calls: list) -> tuple[float | None, str]:
    """Seconds of a dense attention call and where the figure is from. calls: report.LayerCall of one size."""
    timed = [call for call in calls if call.seconds is not None]
    dense = [call.seconds for call in timed if call.kind == DENSE]
    anchors = [call.seconds for call in timed if call.kind == ANCHOR]
    carved = [call.seconds for call in timed if call.kind not in (DENSE, ANCHOR)]
    if dense:
        return median(dense), f"a dense attention call: the median of {len(dense)} in this run"
    if anchors and carved:
        return median(anchors) - median(carved), f"a dense attention call: {len(anchors)} anchors, less a carved call"
    if carved:
        share = fmean(call.kept_share for call in timed)  # all of them are carved
        return median(carved) / share, "a dense attention call: a carved one / kept share, no dense one was made"
    return None, "no attention call at full size was timed"
