"""PSNR and SSIM of jenga.report.compare on the device where the frames are: hundreds of clips would take it an hour."""

import torch
import torch.nn.functional as F

WINDOW = 7  # pixels, uniform, as jenga.report.compare asks of scikit-image
K1, K2 = 0.01, 0.03


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean over frames in dB of two clips [F, H, W, 3] in 0..1; infinite where a frame is equal."""
    error = (a.double() - b).square().mean(dim=(1, 2, 3))
    return float((-10 * error.log10()).mean())


def latent_psnr(latent: torch.Tensor, expected: torch.Tensor) -> float:
    """dB of a final latent against the expected one, over that one's range; both on the CPU."""
    from skimage.metrics import peak_signal_noise_ratio

    spread = float(expected.max() - expected.min())
    return peak_signal_noise_ratio(expected.numpy(), latent.numpy(), data_range=spread)


def ssim(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean over frames of two clips [F, H, W, 3] in 0..1, sides of at least WINDOW. fp64, frame by frame: memory."""
    return float(torch.stack([_frame_ssim(x, y) for x, y in zip(a, b, strict=True)]).mean())


def _frame_ssim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x, y: [H, W, 3]. Sample covariance, and only windows that lie in the frame."""
    x, y = (image.movedim(-1, 0).double() for image in (x, y))
    stacked = torch.stack([x, y, x * x, y * y, x * y])
    rows = F.avg_pool2d(stacked, (1, WINDOW), stride=1)  # a square in two lines: a quarter of the reads
    mean_x, mean_y, xx, yy, xy = F.avg_pool2d(rows, (WINDOW, 1), stride=1)
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    var_x, var_y = unbiased * (xx - mean_x * mean_x), unbiased * (yy - mean_y * mean_y)
    covariance = unbiased * (xy - mean_x * mean_y)
    luminance = (2 * mean_x * mean_y + K1**2) / (mean_x**2 + mean_y**2 + K1**2)
    return (luminance * (2 * covariance + K2**2) / (var_x + var_y + K2**2)).mean()
