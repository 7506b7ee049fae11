"""The report of a run: what it counts, its speed estimate against runs whose answer is known, text and picture."""

import json
import time

import pytest
import torch

from jenga.report import view as report_view
from jenga.report.attribution import estimate_speed
from jenga.report.report import Evaluation, LayerCall, Report, StageRecord
from jenga.runtime.measure import PeakMemory, Stopwatch

CPU = torch.device("cpu")


def evaluation(stage=0, seconds=1.0, computed=1, reused=0, **calls) -> Evaluation:
    """calls: kind -> (kept share, seconds) of one attention call each, or a list of them."""
    listed = {kind: given if isinstance(given, list) else [given] for kind, given in calls.items()}
    made = [(kind, *call) for kind, given in listed.items() for call in given]
    layers = [LayerCall(index, share, kind, seconds) for index, (kind, share, seconds) in enumerate(made)]
    return Evaluation(stage, seconds, computed, reused, layers)


def test_a_plain_dense_run_gains_nothing():
    estimate = estimate_speed([1.0], [evaluation(dense=(1.0, 0.5)) for _ in range(4)])
    assert (estimate.carving, estimate.resolution, estimate.reuse, estimate.total) == (1.0, 1.0, 1.0, 1.0)


def test_every_factor_of_a_run_with_a_known_answer():
    """Dense at full size: 10 s a call, 8 of them attention; 8 calls make 80 s.

    Carved attention takes 2 s: 4 s a call. The small stage takes 1 s a call. Of its 4 calls 2 are reused, in 0 s.
    """
    small = [evaluation(0, 1.0, native=(0.2, 0.2)), evaluation(0, 0.0, 0, 1)] * 2
    large = [evaluation(1, 4.0, native=[(0.2, 1.0), (0.2, 1.0)]) for _ in range(3)]
    large.append(evaluation(1, 4.0 - 2.0 + 8.0, dense=[(1.0, 4.0), (1.0, 4.0)]))
    estimate = estimate_speed([0.5, 1.0], small + large)
    spent, no_reuse, one_size = 2 + 12 + 10, 4 + 12 + 10, 8 * 22 / 4
    assert estimate.reuse == pytest.approx(no_reuse / spent)
    assert estimate.resolution == pytest.approx(one_size / no_reuse)
    assert estimate.carving == pytest.approx(80 / one_size)
    assert estimate.total == pytest.approx(80 / spent)
    assert "median of 2" in estimate.basis


def test_dense_attention_is_taken_from_anchors_or_from_the_kept_share():
    carved = evaluation(seconds=3.0, native=[(0.25, 1.0)] * 2)
    anchored = evaluation(seconds=11.0, anchor=[(1.0, 5.0)] * 2)
    estimate = estimate_speed([1.0], [anchored, carved, carved])
    assert estimate.total == pytest.approx(3 * (1 + 2 * 4) / 17) and "2 anchors" in estimate.basis
    estimate = estimate_speed([1.0], [carved, carved])
    assert estimate.total == pytest.approx((1 + 2 * 4) / 3) and "kept share" in estimate.basis


def test_what_the_timings_do_not_tell_is_not_invented():
    estimate = estimate_speed([0.5], [evaluation(seconds=2.0), evaluation(0, 0.0, 0, 1)])
    assert (estimate.carving, estimate.resolution, estimate.total) == (None, None, pytest.approx(2.0))
    untimed = estimate_speed([1.0], [evaluation(native=(0.2, None))])
    assert untimed.carving is None and untimed.resolution == 1.0 and "was timed" in untimed.basis
    assert estimate_speed([1.0], [evaluation(0, 0.0, 0, 1)]) is None


def filled() -> Report:
    """A run of two evaluations: one with an anchor and a carved layer, one reused."""
    report = Report()
    report.stages.append(StageRecord(1.0, (1, 16, 3, 24, 24), 2, 3.0))
    with report.evaluation(CPU):
        report.attention(0, torch.tensor(1.0), "anchor", Stopwatch(CPU).stop())
        report.attention(1, torch.tensor(0.25), "native_cpu", Stopwatch(CPU).stop())
        report.model_call(False)
    with report.evaluation(CPU):
        report.model_call(True)
    report.fallback("a reason")
    report.close()
    return report


def test_summary_counts_anchors_as_dense_and_is_json():
    summary = json.loads(json.dumps(filled().summary()))
    assert summary["backends"] == {"dense": 1, "native_cpu": 1}
    assert summary["anchors"] == 1 and summary["kept_share"] == pytest.approx(0.625)
    assert summary["kept_share_map"] == [[1.0, None], [0.25, None]]
    first, second = summary["evaluations"]
    assert (first["anchors"], first["computed"], second["reused"], second["kept_share"]) == (1, 1, 1, None)
    assert summary["peak_memory"]["bytes"] > 0


def test_every_device_has_its_peak(monkeypatch):
    class Peak:
        def __init__(self, device: torch.device):
            self.of = f"allocated by torch on {device}"

        def read(self) -> dict:
            return {"bytes": 3 << 30, "growth": None, "of": self.of}

    monkeypatch.setattr("jenga.report.report.PeakMemory", Peak)
    report = Report()
    for device in ("cuda:1", "cuda:2", "cuda:1"):  # a split that begins again
        report.other_device(torch.device(device))
    with report.evaluation(CPU):
        report.model_call(False)
    assert report.summary()["other_peaks"] == []
    report.close()
    text = report_view.text(report.summary())
    for device in ("cpu", "cuda:1", "cuda:2"):
        assert text.count(f"| peak memory | 3.00 GiB allocated by torch on {device} |") == 1


def test_text_has_every_figure_and_labels_the_estimate():
    text = report_view.text(filled().summary())
    for words in (
        "| anchors | 1 of the dense attention calls |",
        "| speed from, **an estimate** | carving",
        "- speed estimate: a dense attention call: 1 anchors, less a carved call",
        "- fallback: a reason (1×)",
        "resident memory of the whole process",
        "| 1 | 0 | 0.000 | 0 / 1 | – | 0 |",
    ):
        assert words in text
    assert report_view.text(Report().summary()) == "No run yet."


def test_picture_of_a_run_and_of_none():
    image, remark = report_view.picture(filled().summary())
    assert image.shape[0] == 1 and image.shape[-1] == 3 and image.dtype == torch.float32 and remark == ""
    assert 0 <= image.min() < image.max() <= 1
    image, remark = report_view.picture(Report().summary())
    assert image.shape == (1, 64, 64, 3) and "no run yet" in remark


def test_an_interrupted_evaluation_leaves_a_readable_report():
    report = Report()
    with pytest.raises(KeyboardInterrupt), report.evaluation(CPU):
        report.attention(0, torch.tensor(0.5), "native_cpu", Stopwatch(CPU).stop())
        raise KeyboardInterrupt
    report.close()
    assert report.summary()["kept_share"] == 0.5


def test_stopwatch_and_peak_memory_on_the_cpu():
    memory, watch = PeakMemory(CPU), Stopwatch(CPU)
    time.sleep(0.02)
    block = torch.ones(64 << 20, dtype=torch.uint8)
    assert 0.02 <= watch.stop().seconds() < 5
    read = memory.read()
    assert read["bytes"] >= block.numel() and 0 <= read["growth"] <= read["bytes"]
    assert Stopwatch(torch.device("meta")).stop().seconds() is None
    assert PeakMemory(torch.device("meta")).read() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_stopwatch_and_peak_memory_on_a_gpu():
    device = torch.device("cuda", 0)
    memory, watch = PeakMemory(device), Stopwatch(device)
    x = torch.ones(2048, 2048, device=device)
    for _ in range(20):
        x = x @ x / 2048
    assert watch.stop().seconds() > 0
    assert memory.read()["bytes"] >= 2048 * 2048 * 4
