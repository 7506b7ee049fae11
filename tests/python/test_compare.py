"""Clip comparison: metrics against their definitions, every composition, and the rule for unequal clips."""

import math
import re
from pathlib import Path

import pytest
import torch

from jenga.report import compare
from jenga.report.picture import figure_image, new_figure


@pytest.fixture
def clips():
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(5, 40, 64, 3, generator=generator)
    return a, (a + 0.1).clamp(0, 1)


def test_equal_clips_are_perfect(clips):
    result = compare.compare(clips[0], clips[0])
    assert all(math.isinf(value) for value in result.psnr)
    assert result.mean_ssim == pytest.approx(1.0)
    assert result.notes == []


def test_psnr_is_its_definition(clips):
    a, b = clips
    result = compare.compare(a, b)
    for frame, value in enumerate(result.psnr):
        error = ((a[frame].double() - b[frame].double()) ** 2).mean()
        assert value == pytest.approx(-10 * math.log10(error), abs=1e-6)


def test_the_shorter_clip_ends_the_comparison_and_says_so(clips):
    a, b = clips
    result = compare.compare(a, b[:3])
    assert len(result.psnr) == 3
    assert result.notes == ["5 and 3 frames: the first 3 are compared"]


def test_another_size_is_refused_with_the_remedy(clips):
    with pytest.raises(ValueError, match="b must have the size of a, 64×40, got 32×20; .* Upscale Image"):
        compare.compare(clips[0], torch.rand(5, 20, 32, 3))


@pytest.mark.parametrize("shape", [(4, 8, 3), (0, 8, 8, 3), (2, 8, 8, 1), (2, 2, 8, 3)])
def test_what_is_not_a_clip_is_refused(clips, shape):
    with pytest.raises(ValueError, match=r"compare: b must be a clip \[F, H, W, 3\]"):
        compare.compare(clips[0], torch.zeros(shape))


def test_side_by_side_holds_both(clips):
    a, b = clips
    both = compare.compose(a, b)
    assert both.shape == (5, 40, 2 * 64 + compare.BORDER, 3)
    assert torch.equal(both[:, :, :64], a) and torch.equal(both[:, :, 64 + compare.BORDER :], b)


def test_wipe_shows_each_side_whole_at_some_time(clips):
    a, b = clips
    wiped = compare.compose(a, b, "wipe")
    assert torch.equal(wiped[0][:, : 64 - compare.BORDER], a[0][:, : 64 - compare.BORDER])
    assert torch.equal(wiped[2][:, compare.BORDER :], b[2][:, compare.BORDER :])


def test_difference_is_scaled(clips):
    a, b = clips
    difference = compare.compose(a, b, "difference", gain=2.0)
    below_the_label = slice(28, None)
    expected = ((a - b).abs() * 2).clamp(0, 1)
    assert torch.allclose(difference[:, below_the_label], expected[:, below_the_label])


def test_blink_alternates():
    a, b = torch.zeros(20, 16, 16, 3), torch.ones(20, 16, 16, 3)
    shown = compare.compose(a, b, "blink").mean(dim=(1, 2, 3))
    assert shown.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 4


def test_labels_are_burnt_in(clips):
    a, b = clips
    assert not torch.equal(compare.compose(a, b, label_a="dense"), compare.compose(a, b))


def test_unknown_mode_is_refused(clips):
    with pytest.raises(ValueError, match="compare: mode must be one of"):
        compare.compose(*clips, mode="swipe")


def test_table_and_plot(clips):
    result = compare.compare(*clips)
    text = compare.table(result, "dense", "jenga")
    assert f"{result.mean_psnr:.2f} dB" in text and f"{result.mean_ssim:.4f}" in text
    assert text.startswith("| jenga against dense, 5 frames |")
    picture = compare.plot(result)
    assert picture.dim() == 4 and picture.shape[-1] == 3 and 0 <= picture.min() < picture.max() <= 1


def test_equal_clips_have_a_table_and_a_plot_that_says_so(clips):
    result = compare.compare(clips[0], clips[0])
    assert "| PSNR | inf dB | inf dB | inf dB |" in compare.table(result, "a", "b")
    figure = new_figure(4, 3)
    axes = figure.subplots()
    compare.draw_metrics(axes, result)
    assert axes.get_title() == "5 of 5 frames are equal: infinite PSNR, not drawn"
    figure_image(figure)


def peak_memory(call) -> int:
    """Bytes of memory that a call needs at its peak, by the process's own high-water mark."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("the high-water mark of this process cannot be reset here")

    def kilobytes(name: str) -> int:
        return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])

    before = kilobytes("VmRSS")
    call()
    return 1024 * (kilobytes("VmHWM") - before)


@pytest.mark.parametrize("mode", compare.MODES)
def test_a_long_clip_takes_the_output_and_less_than_a_clip(mode):
    a, b = torch.rand(200, 96, 160, 3), torch.rand(200, 96, 160, 3)
    compare.compare(a[:1], b[:1])  # what is imported and started once
    shown = compare.compose(a[:1], b[:1], mode, "dense", "jenga")
    clip, output = a.nbytes, shown.nbytes * len(a)
    assert peak_memory(lambda: compare.compose(a, b, mode, "dense", "jenga")) < output + clip
    assert peak_memory(lambda: compare.compare(a, b)) < clip
