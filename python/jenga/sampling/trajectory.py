"""A change of size that keeps the trajectory: the latent's whole spectrum goes on, the rest is the run's own noise.

T is the corner of low frequencies in an orthonormal DCT over H and W, E = T' puts it back among zeros. Let the latent
of the larger size be x = (1 - σ) c + σ n (flow), with a clip c and white noise n. Its corner is

    T x = (1 - σ) T c + σ T n.

T n is white noise of the smaller size. T c is the clip of the smaller size, c_s, divided by s = sqrt(h w / (H W)): the
transform keeps the sum of squares, and the small clip has the same values in fewer places. A model wants that clip as
x_s = (1 - σ_s) c_s + σ_s n_s; both have the same proportion of noise where

    σ_s / (1 - σ_s) = s σ / (1 - σ),    and then    T x = (σ / σ_s) x_s.

Where x = c + σ n (eps, v and EDM models: σ is the noise over the signal), T x = (c_s + s σ T n) / s, so that σ_s = s σ
with the same factor σ / σ_s.

In both forms an Euler step is x' = (σ' / σ) x + (1 - σ' / σ) D(x), where D predicts the clean clip. Divided by σ' it is
x' / σ' = x / σ + (1 / σ' - 1 / σ) D, and 1 / σ_s' - 1 / σ_s = (1 / σ' - 1 / σ) / s: a small run on σ_s follows the
corner of the large one for as long as the model predicts the same clip at both sizes. Only the frequencies beyond the
corner are not computed: what the switch leaves out is their content, (1 - σ) of it, which lies under noise of σ.

Nothing is predicted clean and nothing is noised anew, so that a multi-step sampler's or an SDE's noise stays what it
is. Source: ours; Spectral Progressive Diffusion (arXiv 2605.18736) grows a latent in the same domain.
"""

import math

import torch

from .resolution import dct_resize, shift_sigmas


def linear_scale(size: tuple[int, int], full_size: tuple[int, int]) -> float:
    """s: the side of a size relative to another one's, as the mean over rows and columns."""
    return math.sqrt(size[0] * size[1] / (full_size[0] * full_size[1]))


def sigmas_at(sigmas: torch.Tensor, scale: float, flow: bool) -> torch.Tensor:
    """The full-size schedule as a run at `scale` of its sides follows it. flow: x = (1 - σ) c + σ n, else c + σ n."""
    return shift_sigmas(sigmas, scale, flow, math.inf)


def change_size(x: torch.Tensor, sigma: float, noise: torch.Tensor, new_sigma: float) -> torch.Tensor:
    """A noisy latent [..., h, w] at the height and width of `noise` [..., H, W], larger or smaller.

    sigma, new_sigma: of both sizes, by `sigmas_at` from one schedule: both are 0 where the latent is clean. noise: at
    the level that new_sigma means (σ n), with the dtype and device of x. Frequencies that x has come from x, the others
    from noise.
    """
    small, large = x.shape[-2:], noise.shape[-2:]
    known = dct_resize(dct_resize(noise, *small), *large)
    factor = new_sigma / sigma if sigma else linear_scale(large, small)  # what it goes to as both go to 0
    return dct_resize(x, *large) * factor + (noise - known)


def move_sigma(x: torch.Tensor, sigma: float, clean: torch.Tensor, new_sigma: float) -> torch.Tensor:
    """A noisy latent that keeps its size, along the line to its predicted clean one: an Euler step, up or down.

    For what has no height and width, as audio beside a video: a switch raises the noise level of both. A latent at
    sigma 0 is clean and stays what it is.
    """
    ratio = new_sigma / sigma if sigma else 1.0
    return ratio * x + (1 - ratio) * clean
