"""The benchmark of what anchors keep in host memory: a dry run on the CPU."""

import sys

import pytest
import torch

from benchmarks import residual_streaming


@pytest.fixture
def arguments(monkeypatch):
    options = "--device cpu --case tiny --layers 3 --kept 0.3 --repeats 2"
    monkeypatch.setattr(sys, "argv", ["residual_streaming", *options.split()])
    monkeypatch.setattr(residual_streaming, "LINK_BYTES", 1 << 20)


def test_on_the_cpu_all_comes_from_host_memory_and_nobody_waits(arguments, capsys):
    residual_streaming.main()
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.endswith("| yes |")]
    assert [row[0] for row in rows] == ["carved", "1 layer in 8 an anchor"]
    assert all(float(row[1]) > 0 and row[7:] == ["–", "–", "yes"] for row in rows)
    assert "0 MiB on cpu and" in out and "in host memory" in out


def test_other_bits_end_it(arguments, monkeypatch):
    monkeypatch.setattr(residual_streaming, "means", lambda out: torch.rand(1))
    with pytest.raises(SystemExit, match="outputs must have the bits of a run on the device"):
        residual_streaming.main()
