"""Quality of clips without a reference, for clips of the demo's language; what VBench measures in general.

A clip that a method makes otherwise than dense sampling does is not worse for that: PSNR cannot tell the two apart.
Here a clip is asked for what its prompt says, for what it looks like beside real clips, and for what it is by itself.

| here | in VBench (Huang et al., CVPR 2024) | there found by |
|---|---|---|
| colour | color | a captioner |
| shape | object class | a detector |
| motion | human action | an action classifier |
| ground | scene | a captioner |
| camera | camera motion (VBench++) | point tracks |
| texture | appearance style | CLIP |
| words found, all slots | overall consistency | ViCLIP |
| motion smoothness | motion smoothness | a frame interpolation network |

Here a small probe finds all words (demo/probe.py), and frames are interpolated along the motion of blocks. VBench
has neither a Fréchet distance (Heusel et al., 2017; of clips Unterthiner et al., 2018) nor a sharpness.
"""

import torch
import torch.nn.functional as F

from demo.prompts import SLOTS

SMOOTHNESS_SIZE = (80, 128)  # at which motion is estimated: an object moves two pixels a frame at most
RADIUS = 3  # pixels a frame that are searched
BLOCK = 8
LUMA = (0.299, 0.587, 0.114)


def words_found(words: dict[str, torch.Tensor], asked: dict[str, torch.Tensor]) -> torch.Tensor:
    """[N, slots] fp64, 1 where the probe's word is the prompt's. Both: indices [N] by slot."""
    return torch.stack([(words[slot] == asked[slot]).double() for slot in SLOTS], 1)


def frechet_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Between the normal distributions of two sets of features [N, D] and [M, D], N and M at least 2; 0 if equal.

    |mean difference|² + tr(A + B - 2 (A B)^½) for covariances A, B. With centred features X, Y, scaled so that A = XᵀX,
    the last trace is the sum of singular values of X Yᵀ: no root of a matrix, and sets smaller than D do no harm.
    It grows where sets are small, so compare distances of sets of one size alone.
    """
    a, b = a.double(), b.double()
    (mean_a, root_a), (mean_b, root_b) = _moments(a), _moments(b)
    spread = root_a.square().sum() + root_b.square().sum() - 2 * torch.linalg.svdvals(root_a @ root_b.T).sum()
    return float((mean_a - mean_b).square().sum() + spread)


def _moments(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean [D], and R with RᵀR the covariance."""
    mean = features.mean(0)
    return mean, torch.linalg.qr(features - mean, mode="r").R / (len(features) - 1) ** 0.5


def sharpness(clip: torch.Tensor) -> float:
    """Variance of the Laplacian of luma (Pech-Pacheco et al., 2000), mean over frames, in dB; clip [F, H, W, 3].

    In dB, so that the mean over clips is not that of the grounds with most contrast. Compare clips of one size alone.
    """
    luma = (clip.float() @ torch.tensor(LUMA, device=clip.device)).unsqueeze(1)
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], device=clip.device).view(1, 1, 3, 3)
    variance = F.conv2d(luma, kernel).var((1, 2, 3)).mean()
    return float(10 * torch.log10(variance.clamp(min=1e-12)))


def motion_smoothness(clip: torch.Tensor) -> float:
    """1 - mean |frame - what its two neighbours make of it|, of every second frame; clip [F, H, W, 3] in 0..1.

    As VBench's: there a network interpolates, here every block of the middle frame takes the mean of two blocks that
    lie opposite of it in the neighbours and agree best. The middle frame itself is not asked. At least 3 frames.
    """
    small = F.adaptive_avg_pool2d(clip.float().movedim(-1, 1), SMOOTHNESS_SIZE)
    before, middle, after = small[:-2:2], small[1:-1:2], small[2::2]
    best = made = None
    for y, x in sorted(_shifts(), key=lambda shift: shift[0] ** 2 + shift[1] ** 2):
        one, other = _shifted(before, y, x), _shifted(after, -y, -x)
        cost = F.avg_pool2d((one - other).abs().mean(1, keepdim=True), 2 * BLOCK, BLOCK, BLOCK // 2)
        cost = F.interpolate(cost, scale_factor=BLOCK)
        mean = (one + other) / 2
        if best is None:
            best, made = cost, mean
            continue
        better = cost < best
        best, made = torch.where(better, cost, best), torch.where(better, mean, made)
    return 1 - float((made - middle).abs().mean())


def _shifts() -> list[tuple[int, int]]:
    reach = range(-RADIUS, RADIUS + 1)
    return [(y, x) for y in reach for x in reach]


def _shifted(frames: torch.Tensor, y: int, x: int) -> torch.Tensor:
    """Content of [N, 3, H, W] moved down by y and right by x; the edges repeat."""
    padded = F.pad(frames, (RADIUS,) * 4, mode="replicate")
    height, width = frames.shape[2:]
    return padded[:, :, RADIUS - y : RADIUS - y + height, RADIUS - x : RADIUS - x + width]
