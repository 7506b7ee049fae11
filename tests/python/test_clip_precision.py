"""benchmarks.clip_precision: differences prompt by prompt, and what their interval says."""

import pytest
import torch

from benchmarks import clip_precision
from benchmarks.bootstrap import Estimate
from benchmarks.clip_runs import file_name
from benchmarks.clip_set import COLUMNS, ClipSet
from benchmarks.search_space import PRECISE, PRECISE_PREFIX


def clips(psnr: torch.Tensor) -> ClipSet:
    return ClipSet(**{name: psnr if name == "psnr" else torch.zeros(len(psnr)) for name in COLUMNS})


def test_a_loss_on_every_prompt_is_seen_beneath_their_scatter(tmp_path):
    runs = next(iter(PRECISE.values()))
    psnr = 30 + 5 * torch.randn(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for name, loss in (("16-bit", 0.0), ("int8", 0.1), ("fp8", 0.5)):
        clips(psnr - loss).save(tmp_path / file_name(runs[name].name))
    prompts, sixteen, int8, fp8 = clip_precision.cells(tmp_path, runs)
    assert (prompts, sixteen) == ("64", f"{psnr.mean():.2f}")
    assert int8 == f"{psnr.mean() - 0.1:.2f}, -0.10 [-0.10, -0.10], holds"
    assert fp8.endswith("-0.50 [-0.50, -0.50], over")
    (tmp_path / file_name(runs["fp8"].name)).unlink()
    assert clip_precision.cells(tmp_path, runs)[-1] == "–"


def test_a_wide_interval_settles_nothing():
    assert clip_precision.verdict(Estimate(-0.1, -0.5, 0.3)) == "not settled"
    assert clip_precision.verdict(Estimate(-0.1, -0.3, 0.1)) == "holds"
    assert clip_precision.verdict(Estimate(-0.6, -0.9, -0.31)) == "over"


def test_without_16_bits_there_is_nothing_to_compare_with(tmp_path):
    with pytest.raises(SystemExit, match="must hold every run in 16 bits"):
        clip_precision.cells(tmp_path, next(iter(PRECISE.values())))


def test_runs_have_files_and_inputs_of_their_own():
    runs = [run for row in PRECISE.values() for run in row.values()]
    assert len({file_name(run.name) for run in runs}) == len(runs)
    assert all(run.name.startswith(PRECISE_PREFIX) and run.attention["precision"] == run.precision for run in runs)
