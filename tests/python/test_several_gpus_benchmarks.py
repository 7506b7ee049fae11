"""The benchmarks of several GPUs: what they compute from their figures, and a dry run of each on the CPU."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import heads_over_devices, scaling

ROOT = Path(__file__).resolve().parents[2]
MAIN_THEN_THREADS = """
from pathlib import Path
from benchmarks.context_parallel import main
main()
print("threads left:", [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")], flush=True)
"""


def parts(**changes) -> scaling.Parts:
    given = {"heads": 8, "pieces": 2, "of_heads": {1: 1.0, 4: 4.0, 8: 8.0}, "copied": 0.0, "packed": 0.0, "joined": 0.0}
    return scaling.Parts(**{**given, **changes})


def test_without_copies_a_call_takes_the_work_of_its_share():
    assert [scaling.call_seconds(parts(), cards) for cards in (1, 2, 4, 8)] == [8.0, 4.0, 2.0, 1.0]


def test_copies_of_one_piece_stay_uncovered_and_packing_and_joining_stay_at_home():
    # Home sends 4 heads, first and last pieces of 2 or 1, and of a head three tensors go and one comes back.
    assert scaling.call_seconds(parts(copied=0.4), 2) == pytest.approx(4.0 + 2 * 0.3 + 2 * 0.1)
    assert scaling.call_seconds(parts(copied=0.4, pieces=3), 2) == pytest.approx(4.0 + 1 * 0.3 + 1 * 0.1)
    assert scaling.call_seconds(parts(packed=0.1, joined=0.05), 2) == pytest.approx(4.0 + 4 * 0.1 + 8 * 0.05)


def test_with_many_cards_the_link_of_home_decides():
    slow = parts(copied=4.0)
    assert scaling.call_seconds(slow, 8) == pytest.approx(7 * 3.0 + 1.0 + 1.0)


def test_work_between_measured_numbers_of_heads_lies_on_a_line():
    measured = parts(of_heads={2: 3.0, 4: 5.0})
    assert [measured.work(heads) for heads in (1, 2, 3, 4, 8)] == [1.5, 3.0, 4.0, 5.0, 10.0]


def test_ranks_divide_everything_but_the_exchange():
    assert scaling.forward_seconds(8.0, 4.5, 2) == pytest.approx(4.5)
    assert scaling.forward_seconds(8.0, 4.5, 4) == pytest.approx(2.0 + 0.5 * 3 / 4)
    assert scaling.forward_seconds(8.0, 3.9, 8) == pytest.approx(1.0)  # faster than half: no exchange to speak of


def test_the_table_says_what_is_measured():
    text = scaling.table("cards", 2.0, 1.25, {2: 1.2, 4: 0.8})
    assert "| 2, measured | 1.2500 | 1.60× |" in text and "| 4, by formula | 0.8000 | 2.50× |" in text


def test_heads_over_devices_on_the_cpu(monkeypatch, capsys):
    arguments = "--devices cpu cpu:1 cpu:2 --case tiny --kept 0.3 --dense math --backend reference --repeats 1"
    monkeypatch.setattr(sys, "argv", ["heads_over_devices", *arguments.split()])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    heads_over_devices.main()
    torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.endswith("| yes |")]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == ["carved 0.3", "carved 0.3 + residual", "dense"]
    assert sum("by formula" in line for line in lines) == 3


def test_a_benchmark_of_one_device_under_the_name_of_two_is_none():
    with pytest.raises(RuntimeError, match="must run where it should, got all heads on cpu"):
        heads_over_devices.Notes().listener.fallback("all heads on cpu: cpu:1 failed")


def test_context_parallel_on_the_cpu():
    pytest.importorskip("diffusers", "0.42", reason="diffusers 0.42 or newer is not installed (it needs Python 3.11)")
    options = ["--model", "tiny", "--repeats", "1", "--kept", "0.3", "--backend", "reference"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    command = [sys.executable, *launch, sys.executable, "-c", MAIN_THEN_THREADS, *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("threads left: ['python") == 2 and "gloo" not in run.stdout, run.stdout
    rows = [line for line in run.stdout.splitlines() if line.startswith(("| dense", "| carved"))]
    assert len(rows) == 2 and all(float(row.split("|")[-2]) < 1e-4 for row in rows)
    assert run.stdout.count("by formula") == 4
