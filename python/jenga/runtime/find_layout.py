"""Where the video lies in the sequences of a model that nobody has described: tokens are compared with the latent.

Before the first attention nothing has mixed the tokens: the value of a video token is made of its own patch of the
latent, so that two tokens are alike where their patches are alike. The likeness of neighbours (so many tokens apart) is
therefore one and the same series over the latent's patches and over the video tokens, and where the two series agree
best the video begins. A latent with noise has no other place where they agree.

What this sees: the patch, raster order, and the first video token among any context in front and behind. It cannot see
which of the context is text, nor what a mask or the attention function itself adds; for these attention is compared
once (`attention_unlike`). A latent without noise looks alike a token further on and is refused, as is a model that
mixes its tokens before its first attention: both stay dense.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from ..carving.attention import CarvedAttention
from .call import AttentionInput
from .layout import TokenLayout, latent_grid

PATCHES = ((1, 2, 2), (1, 1, 1), (2, 2, 2))  # tried after what a host says
MAX_LAG = 8
FEATURES = 512  # channels of a token's value that are looked at; more say nothing new
ENOUGH = 0.2  # least correlation at the right place; at a wrong one it is that of chance
CHANCE = 6.0  # standard deviations of what chance gives
SAME = 0.05  # relative L2 error; the host's own attention may compute in 8 bits


@dataclass(frozen=True)
class Search:
    """What the video is found by: the latent [B, C, T, H, W] as the model gets it, and the patches (t, h, w) that the
    host says, which are tried first.
    """

    latent: torch.Tensor
    patches: tuple[tuple[int, int, int], ...] = ()


def find_layout(search: Search, patches: Iterable[tuple[int, int, int]], v: torch.Tensor) -> TokenLayout | None:
    """The layout of a sequence, from its first attention in a model call; None where the video is not found.

    patches: that the host says in this very call. v: the values of a self-attention [B, H, S, D].
    """
    latent = search.latent
    tokens, found, best = v.shape[2], None, 0.0
    heads = -(-FEATURES // v.shape[3])
    theirs = _likeness(v[0, :heads].transpose(0, 1).flatten(1))
    for patch in dict.fromkeys((*patches, *search.patches, *PATCHES)):
        grid = latent_grid(patch, latent.shape)
        if not 2 * MAX_LAG < grid.num_tokens <= tokens:
            continue
        scores = _agreement(_likeness(_patches(latent[0], patch)), theirs)
        score, place = scores.max(0)
        least = max(ENOUGH, CHANCE / (MAX_LAG * grid.num_tokens) ** 0.5)
        scores[place] = 0
        if score > max(best, least) and scores.max() < score / 2:
            best = float(score)
            found = TokenLayout(grid, int(place), least=int(place), width=v.shape[1] * v.shape[3])
    return found


def attention_unlike(inputs: AttentionInput, carved: CarvedAttention, exact: Callable[[], torch.Tensor]) -> str:
    """Why attention with a layout that was found must not be carved; empty where it may: with all blocks kept carving
    must give what the host's own attention, exact() [B, H, S, D], gives.

    This sees a mask, a scale or a bias that the host's function adds by itself. It cannot see a wrong layout, since
    dense attention is the same in any order of tokens: that is `find_layout`'s to know.
    """
    whole = CarvedAttention(replace(carved.config, density=1.0, text_logit_bias=0.0))
    ours, theirs = inputs.carve(whole).out, exact()
    error = float((ours - theirs).float().norm() / theirs.float().norm().clamp_min(1e-30))
    return "" if error <= SAME else f"this model's attention is not that of its tokens alone: {error:.0%} apart"


def _patches(latent: torch.Tensor, patch: tuple[int, int, int]) -> torch.Tensor:
    """[C, T, H, W] -> [tokens in raster order, values of a patch]."""
    missing = [(-size) % side for size, side in zip(latent.shape[1:], patch, strict=True)]
    x = F.pad(latent, [pad for size in reversed(missing) for pad in (0, size)])
    for axis, side in enumerate(patch, 1):
        x = x.unfold(axis, side, side)
    return x.permute(1, 2, 3, 0, 4, 5, 6).flatten(3).flatten(0, 2)


def _likeness(tokens: torch.Tensor) -> torch.Tensor:
    """[N, features] -> float64 [MAX_LAG, N] on the CPU: cosine of each token and the one `lag` after it; no more: 0."""
    x = tokens.float()
    x = F.normalize(x - x.mean(0), dim=1)
    rows = [F.pad((x[:-lag] * x[lag:]).sum(1), (0, lag)) for lag in range(1, MAX_LAG + 1)]
    return torch.stack(rows).double().cpu()


def _agreement(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Correlation of the series `ours` [lags, n] with `theirs` [lags, N] from each of its N - n + 1 places on."""
    ours, theirs = ours[:, :-MAX_LAG], theirs[:, : theirs.shape[1] - MAX_LAG]
    count, places = ours.shape[1], theirs.shape[1] - ours.shape[1] + 1
    ours = ours - ours.mean(1, keepdim=True)
    size = ours.shape[1] + theirs.shape[1]
    product = torch.fft.irfft(torch.fft.rfft(theirs, size) * torch.fft.rfft(ours, size).conj(), size)[:, :places]
    sums, squares = (F.pad(x.cumsum(1), (1, 0)) for x in (theirs, theirs.square()))
    mean, square = ((x[:, count:] - x[:, :places]) / count for x in (sums, squares))
    spread = ours.square().sum(1, keepdim=True) * count * (square - mean.square()).clamp_min(0)
    return (product / spread.sqrt().clamp_min(1e-12)).mean(0)
