"""Progressive resolution: noise that stays white, resizing that keeps means, schedules, sizes."""

import math

import pytest
import torch
from torch.overrides import TorchFunctionMode

from jenga.sampling.presets import Stage
from jenga.sampling.resolution import (
    RESIZE_MODES,
    boundary_by_sigma,
    dct_truncate,
    passes,
    resize,
    shift_sigmas,
    stage_seed,
    stage_size,
    text_amplifier,
)


class NoFloat64(TorchFunctionMode):
    """The device "meta" has no float64, like MPS and XPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.device.type == "meta" and out.dtype == torch.float64:
            raise TypeError("this device has no float64")
        return out


def test_truncated_noise_is_white_with_unit_variance():
    noise = torch.randn(4, 16, 5, 40, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    small = dct_truncate(noise, 30, 48)
    assert small.shape == (4, 16, 5, 30, 48)
    assert small.std().item() == pytest.approx(1, abs=0.005)
    pixels = small.reshape(-1, 30, 48)
    neighbours = (pixels[:, :, 1:] * pixels[:, :, :-1]).mean().item()
    assert abs(neighbours) < 0.005
    spectrum = torch.fft.fft2(pixels).abs().square().mean(0)
    assert (spectrum / spectrum.mean() - 1).abs().max() < 0.4


def test_truncated_noise_keeps_low_frequencies():
    """Enlarging the small noise by zero-padding gives the low frequencies of the full one, orthogonal to the rest."""
    noise = torch.randn(2, 3, 24, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    small = dct_truncate(noise, 12, 16)
    back = resize(small, 24, 32, "dct") / 2
    assert ((noise - back) * back).sum().abs() < 1e-9
    torch.testing.assert_close(dct_truncate(back, 12, 16), small)


def test_truncation_to_the_same_size_is_a_copy():
    noise = torch.randn(1, 2, 6, 8)
    same = dct_truncate(noise, 6, 8)
    assert torch.equal(same, noise)
    assert same.data_ptr() != noise.data_ptr()


def test_truncation_cannot_enlarge():
    with pytest.raises(ValueError, match=r"size must be at most \(6, 8\), got \(6, 9\)"):
        dct_truncate(torch.zeros(1, 1, 6, 8), 6, 9)


def test_dct_needs_no_float64_on_the_device_of_the_latent():
    latent = torch.zeros(1, 16, 3, 12, 16, device="meta")
    with NoFloat64():
        assert resize(latent, 24, 32, "dct").shape == (1, 16, 3, 24, 32)
        assert dct_truncate(latent, 6, 8).shape == (1, 16, 3, 6, 8)


@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize("shape", [(2, 3, 10, 12), (2, 3, 4, 10, 12)])
@pytest.mark.parametrize("size", [(20, 24), (15, 13), (6, 8)])
def test_resizing_keeps_constants_and_frames_apart(mode, shape, size):
    constant = torch.full(shape, 3.0)
    torch.testing.assert_close(resize(constant, *size, mode), torch.full((*shape[:-2], *size), 3.0))
    if len(shape) == 5:
        clip = torch.randn(shape)
        torch.testing.assert_close(resize(clip, *size, mode)[:, :, 2], resize(clip[:, :, 2], *size, mode))


def test_downsampling_does_not_alias():
    """The finest pattern a latent can hold disappears instead of turning into a coarse one."""
    stripes = torch.ones(1, 1, 32, 32)
    stripes[..., 1::2] = -1
    for mode in ("bicubic", "bilinear", "dct"):
        assert resize(stripes, 24, 24, mode).abs().mean() < 0.25
    assert resize(stripes, 24, 24, "nearest-exact").abs().mean() == 1


def test_shift_of_a_flow_schedule_is_the_schedule_of_the_product():
    u = torch.linspace(1, 0, 51, dtype=torch.float64)
    seven, nine = (s * u / (1 + (s - 1) * u) for s in (7, 9))
    torch.testing.assert_close(shift_sigmas(seven, 9 / 7, True, 1.0), nine)
    assert shift_sigmas(seven, 9 / 7, True, 1.0)[26].item() == pytest.approx(0.8926, abs=5e-5)
    # The published three stages: noise levels on entry to the second and the third.
    assert shift_sigmas(seven, 9 / 7, True, 1.0)[16].item() == pytest.approx(0.9503, abs=5e-5)
    assert shift_sigmas(seven, 11 / 7, True, 1.0)[26].item() == pytest.approx(0.9103, abs=5e-5)


def test_shift_of_other_schedules_is_capped():
    sigmas = torch.tensor([14.6, 5.0, 1.0, 0.0])
    assert shift_sigmas(sigmas, 1.5, False, 14.6).tolist() == pytest.approx([14.6, 7.5, 1.5, 0.0])
    assert shift_sigmas(sigmas, 1, False, 14.6) is sigmas


def test_sizes_are_whole_patches():
    assert stage_size((90, 160), 0.75, (2, 2)) == (66, 120)
    assert stage_size((60, 104), 0.75, (2, 2)) == (44, 78)
    assert stage_size((91, 161), 1.0, (2, 2)) == (91, 161)
    with pytest.raises(ValueError, match="at least one patch"):
        stage_size((2, 64), 0.5, (2, 2))


def test_text_amplifier_is_the_published_one():
    assert text_amplifier((66, 120), (90, 160)) / math.log(2) == pytest.approx(0.4312, abs=1e-4)
    assert math.exp(text_amplifier((44, 80), (90, 160))) == pytest.approx(2.023, abs=1e-3)


def test_seeds_differ_by_stage_and_start_with_the_users():
    seeds = [stage_seed(7, index) for index in range(5)]
    assert seeds[0] == 7
    assert len(set(seeds)) == 5
    assert all(0 <= stage_seed(2**64 - 1, index) < 2**64 for index in range(5))


def test_stages_of_one_size_and_schedule_are_one_pass():
    a, b = Stage(0, 3, 1.0, 1.0, 0.3), Stage(3, 6, 1.0, 1.0, 0.2)
    small, shifted = Stage(0, 3, 0.5, 1.0, 0.3), Stage(3, 6, 1.0, 1.5, 0.2)
    assert passes((a, b)) == [[a, b]]
    assert passes((small, shifted)) == [[small], [shifted]]
    assert passes((a, shifted)) == [[a], [shifted]]


def test_part_of_a_schedule_is_cut_at_a_sigma():
    sigmas = torch.tensor([1.0, 0.9, 0.8, 0.7])
    assert [boundary_by_sigma(sigmas, sigma) for sigma in (1.0, 0.9, 0.85, 0.1, 2.0)] == [1, 2, 2, 3, 0]
