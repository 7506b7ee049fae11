"""A change of size that keeps the trajectory: exact where it can be, white where it cannot."""

import pytest
import torch

from jenga.sampling.resolution import dct_truncate, resize, shift_sigmas
from jenga.sampling.trajectory import change_size, linear_scale, move_sigma, sigmas_at

FULL, SMALL, SMALLEST = (20, 32), (14, 24), (10, 16)  # ragged: 14 of 20 is another share than 24 of 32
FLOW = torch.tensor([1.0, 0.97, 0.93, 0.86, 0.74, 0.5, 0.0], dtype=torch.float64)
RATIO = torch.tensor([14.6, 9.0, 5.0, 2.5, 1.0, 0.3, 0.0], dtype=torch.float64)
SCHEDULES = pytest.mark.parametrize(("schedule", "flow"), [(FLOW, True), (RATIO, False)], ids=["flow", "noise ratio"])


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def band_limited(shape: tuple[int, ...], size: tuple[int, int]) -> torch.Tensor:
    """A clip that has no frequency which `size` cannot hold."""
    return resize(random(*shape[:-2], *size, seed=1), *shape[-2:], "dct")


def noisy(clip: torch.Tensor, sigma: torch.Tensor, noise: torch.Tensor, flow: bool) -> torch.Tensor:
    return (1 - sigma) * clip + sigma * noise if flow else clip + sigma * noise


def euler(x: torch.Tensor, sigmas: torch.Tensor, denoise) -> torch.Tensor:
    for now, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        x = move_sigma(x, now, denoise(x), after)
    return x


@SCHEDULES
@pytest.mark.parametrize("shape", [(2, 3, *FULL), (2, 3, 5, *FULL)])
def test_the_switched_state_is_the_full_size_one(schedule, flow, shape):
    """Of a band-limited clip, at every sigma but 0 and for a latent with and without frames."""
    clip, noise = band_limited(shape, SMALL), random(*shape)
    small_clip, small_noise = resize(clip, *SMALL, "dct"), dct_truncate(noise, *SMALL)
    small_sigmas = sigmas_at(schedule, linear_scale(SMALL, FULL), flow)
    for sigma, small_sigma in list(zip(schedule, small_sigmas, strict=True))[:-1]:
        small = noisy(small_clip, small_sigma, small_noise, flow)
        found = change_size(small, small_sigma, sigma * noise, sigma)
        assert found.shape == shape
        torch.testing.assert_close(found, noisy(clip, sigma, noise, flow))


@SCHEDULES
def test_a_run_of_three_sizes_ends_where_the_full_size_run_does(schedule, flow):
    """With a denoiser that predicts the same at every size: here one that is not perfect."""
    shape = (2, 3, 5, *FULL)
    clip, noise = band_limited(shape, SMALLEST), random(*shape)
    sizes, last = (SMALLEST, SMALL, FULL), (0, 2, 4, len(schedule) - 1)

    def denoiser(size):
        target = resize(clip, *size, "dct")
        return lambda x: 0.8 * target

    full = euler(schedule[0] * noise, schedule, denoiser(FULL))
    x = before = None
    for size, first, stop in zip(sizes, last[:-1], last[1:], strict=True):
        sigmas = sigmas_at(schedule, linear_scale(size, FULL), flow)
        of_size = dct_truncate(noise, *size)
        x = sigmas[0] * of_size if x is None else change_size(x, before, sigmas[first] * of_size, sigmas[first])
        x = euler(x, sigmas[first : stop + 1], denoiser(size))
        before = sigmas[stop]
    torch.testing.assert_close(x, full)
    torch.testing.assert_close(x, 0.8 * clip)


@SCHEDULES
def test_every_step_of_a_small_run_is_the_corner_of_the_full_one(schedule, flow):
    """Also where the prediction follows the latent and the clip has every frequency."""
    shape = (1, 2, *FULL)
    clip, noise, scale = random(*shape, seed=2), random(*shape), linear_scale(SMALL, FULL)
    x = noisy(clip, schedule[0], noise, flow)
    small_sigmas = sigmas_at(schedule, scale, flow)
    small = dct_truncate(x, *SMALL) * small_sigmas[0] / schedule[0]
    for step in range(len(schedule) - 2):
        predicted = 0.6 * clip + 0.3 * x / schedule[step]  # x/σ, so that both sizes see a noise level of theirs
        small_predicted = scale * dct_truncate(predicted, *SMALL)
        x = move_sigma(x, schedule[step], predicted, schedule[step + 1])
        small = move_sigma(small, small_sigmas[step], small_predicted, small_sigmas[step + 1])
        expected = dct_truncate(x, *SMALL) * small_sigmas[step + 1] / schedule[step + 1]
        torch.testing.assert_close(small, expected)


def test_noise_is_white_after_the_switch():
    """Noise alone, and in the small stage not the run's own, as an SDE leaves it."""
    noise, other = random(4, 16, 5, 40, 64), random(4, 16, 5, 30, 48, seed=1)
    scale, sigma = linear_scale((30, 48), (40, 64)), torch.tensor(0.9, dtype=torch.float64)
    small_sigma = sigmas_at(sigma, scale, True)
    found = change_size(small_sigma * other, small_sigma, sigma * noise, sigma) / sigma
    assert found.std().item() == pytest.approx(1, abs=0.005)
    pixels = found.reshape(-1, 40, 64)
    assert abs((pixels[:, :, 1:] * pixels[:, :, :-1]).mean().item()) < 0.005
    assert abs((pixels[:, 1:] * pixels[:, :-1]).mean().item()) < 0.005
    spectrum = torch.fft.fft2(pixels).abs().square().mean(0)
    assert (spectrum / spectrum.mean() - 1).abs().max() < 0.4


def test_the_whole_spectrum_of_the_small_latent_goes_on():
    small, noise = random(1, 2, 3, *SMALL), random(1, 2, 3, *FULL, seed=1)
    found = change_size(small, 0.8, noise, 0.9)
    torch.testing.assert_close(dct_truncate(found, *SMALL), small * 0.9 / 0.8)
    beyond = found - resize(dct_truncate(found, *SMALL), *FULL, "dct") * linear_scale(SMALL, FULL)
    torch.testing.assert_close(
        beyond, noise - resize(dct_truncate(noise, *SMALL), *FULL, "dct") * linear_scale(SMALL, FULL)
    )


def test_a_smaller_size_takes_the_corner():
    x = random(1, 2, 3, *FULL)
    found = change_size(x, 0.9, random(1, 2, 3, *SMALL, seed=1), 0.8)
    torch.testing.assert_close(found, dct_truncate(x, *SMALL) * 0.8 / 0.9)


@pytest.mark.parametrize("shape", [FULL, SMALL])
def test_a_clean_latent_is_the_clip_at_the_other_size(shape):
    """The same as just before the end, whichever way the size changes."""
    x, noise = random(1, 2, 3, *({FULL: SMALL, SMALL: FULL}[shape])), torch.zeros(1, 2, 3, *shape)
    scale = linear_scale(x.shape[-2:], shape)
    sigma = torch.tensor(1e-6, dtype=torch.float64)
    almost = change_size(x, float(sigmas_at(sigma, scale, True)), noise, float(sigma))
    torch.testing.assert_close(change_size(x, 0.0, noise, 0.0), almost, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(change_size(x, 0.0, noise, 0.0), resize(x, *shape, "dct"))
    assert torch.equal(move_sigma(x, 0.0, random(*x.shape, seed=2), 0.0), x)


def test_the_same_size_goes_on_as_it_is():
    x = random(1, 2, 3, *FULL)
    torch.testing.assert_close(change_size(x, 0.9, random(1, 2, 3, *FULL, seed=1), 0.9), x)


def test_schedules_of_a_size():
    scale = linear_scale((30, 48), (40, 64))
    assert scale == 0.75
    assert linear_scale(FULL, FULL) == 1
    found = sigmas_at(FLOW, scale, True)
    torch.testing.assert_close(found[1:-1] / (1 - found[1:-1]), scale * FLOW[1:-1] / (1 - FLOW[1:-1]))
    assert found[0] == 1 and found[-1] == 0
    torch.testing.assert_close(sigmas_at(RATIO, scale, False), scale * RATIO)
    torch.testing.assert_close(sigmas_at(shift_sigmas(FLOW, 4 / 3, True, 1.0), scale, True), FLOW)


def test_float32_stays_float32():
    x, noise = random(1, 2, *SMALL).float(), random(1, 2, *FULL).float()
    assert change_size(x, 0.8, noise, 0.9).dtype == torch.float32
