"""What the benchmarks of whole models count: seconds of a run by its parts, operators and waits of a profile."""

import pytest
import torch
from torch.profiler import record_function

from benchmarks.host.meter import PREDICTION, Times
from benchmarks.host.profile import profile_predictions

CPU = torch.device("cpu")


def test_steps_that_were_not_measured_take_what_the_others_took():
    times = Times(5.0, 2.0, 0.5, 1.0, 0.6, 0.4, between=1.0, computed=2, reused=0, peak=7)
    run = times.of_steps(10)
    assert (run.seconds, run.between, run.peak) == (21.0, 1.0, 7)  # 1 s once, 2 s a step
    assert (run.attention, run.anchors, run.linear, run.rest, run.patch) == (10.0, 2.5, 5.0, 3.0, 2.0)
    assert (run.computed, run.reused) == (10, 0)
    assert times.of_steps(2) == times


def test_a_profile_counts_what_predictions_wait_for():
    x = torch.ones(4)

    def sample(waits: int):
        x.sum().item()
        for _ in range(2):
            with record_function(PREDICTION):
                y = x @ x
                for _ in range(waits):
                    y.item()

    for waits in (0, 3):
        found = profile_predictions(lambda waits=waits: sample(waits), CPU)
        assert found.waits.total() == 2 * waits
        assert found.calls["aten::dot"] == 2 and "aten::sum" not in found.calls
        assert 0 < found.seconds["aten::dot"] < 1


def test_a_profile_without_a_prediction_is_refused():
    with pytest.raises(RuntimeError, match="must make a prediction, got none"):
        profile_predictions(lambda: torch.ones(2).sum(), CPU)
