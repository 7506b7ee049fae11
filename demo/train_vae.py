"""Train the demo's VAE: `python -m demo.train_vae --seconds 140 --output weights`.

L1 on pixels and on their spatial differences, a small KL term; random windows of procedural clips at the sizes that the
transformer is trained on. Every second window is as long as a clip: trained on short ones alone, later frames drift.
The decoder sees latents with noise of up to a third of their deviation, so that what the transformer gets slightly
wrong is not seen. At the end the latents are measured over whole clips, and their mean and standard deviation,
together with those that ComfyUI's Wan 2.1 latent format takes off, go into the 1x1x1 convolutions around the latent:
what the sampler sees has mean 0 and deviation 1 in every channel.
"""

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from demo import scenes
from demo.wan_modules import Downsample, FrameAttention, ResidualBlock, Upsample, WanVae

DIM = 8
SIZES = ((320, 512), (240, 384), (160, 256))  # full resolution and the stages of 0.75 and 0.5
WINDOWS = ((scenes.FRAMES, 96), (17, 160))  # frames and side, in turn
WINDOW_PIXELS = 9 * 128 * 128  # of one clip that --batch counts
LATENT_NOISE = 0.15  # deviation of the noise's deviation, relative to the latents' in a batch
CONSTANT = 4.0  # the constant channel of the start, see pass_through
# Mean and deviation per channel that the Wan 2.1 latent format removes (part of the public checkpoint format).
FORMAT_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
FORMAT_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip


@torch.no_grad()
def pass_through(vae: WanVae) -> None:
    """Start as a plain pyramid: pixels averaged down to the latent and repeated back up, everything else on top.

    Residual branches end in zeros; shortcuts and resampling convolutions hand channel i to channel i, averaging over
    the pixels and frames that they merge. Three channels are carried with both signs, since silu(x) - silu(-x) = x, and
    a seventh is a large constant, so that the norm before a last convolution hardly changes their magnitude.
    """

    def hand_on(conv, taps: list[tuple[int, ...]]) -> None:
        """Channel i to channel i as the mean of the given taps, a little noise elsewhere."""
        conv.weight.mul_(0.1)
        conv.bias.zero_()
        for channel in range(min(conv.weight.shape[:2])):
            for tap in taps:
                conv.weight[(channel, channel, *tap)] += 1 / len(taps)

    for module in vae.modules():
        if isinstance(module, ResidualBlock):
            module.residual[6].weight.zero_()
            module.residual[6].bias.zero_()
            if isinstance(module.shortcut, torch.nn.Conv3d):
                hand_on(module.shortcut, [(0, 0, 0)])
        elif isinstance(module, FrameAttention):
            module.proj.weight.zero_()
        elif isinstance(module, Downsample):
            hand_on(module.resample[1], [(0, 0), (0, 1), (1, 0), (1, 1)])
            if module.time_conv is not None:
                hand_on(module.time_conv, [(1, 0, 0), (2, 0, 0)])
        elif isinstance(module, Upsample):
            hand_on(module.resample[1], [(1, 1)])
            if module.time_conv is not None:
                half = module.time_conv.weight.shape[1]
                hand_on(module.time_conv, [(2, 0, 0)])
                module.time_conv.weight[half:] = module.time_conv.weight[:half]
    for part in (vae.encoder, vae.decoder):
        part.conv1.weight.mul_(0.1)
        part.conv1.bias.zero_()
        last, width = part.head[2], part.head[0].gamma.shape[0]
        last.weight.mul_(0.1)
        last.bias.zero_()
        gain = CONSTANT / width**0.5
        for channel in range(3):
            for sign, place in ((1, channel), (-1, channel + 3)):
                part.conv1.weight[place, channel, 2, 1, 1] = sign
                last.weight[channel, place, 2, 1, 1] = sign * gain
        part.conv1.weight[6].zero_()
        part.conv1.bias[6] = CONSTANT
    for conv in (vae.conv1, vae.conv2):
        hand_on(conv, [(0, 0, 0)])
    vae.conv1.bias[16:] = -6  # of the log variance


def windows(batch: int, step: int, generator: torch.Generator, device) -> torch.Tensor:
    """Windows of random clips, -1..1, about as many pixels as `batch` times WINDOW_PIXELS."""
    height, width = SIZES[(0, 0, 1, 1, 0, 0, 2, 2)[step % 8]]
    frames, side = WINDOWS[step % len(WINDOWS)]
    first, top, left = (
        int(torch.randint(limit + 1, (), generator=generator, device=device))
        for limit in (scenes.FRAMES - frames, height - side, width - side)
    )
    scene = scenes.sample(max(1, batch * WINDOW_PIXELS // (frames * side * side)), generator, device)
    return scenes.render(scene, height, width, (first, frames, top, side, left, side)) * 2 - 1


def loss_of(vae: WanVae, clip: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Training loss and mean squared error in 0..1 units."""
    mean, log_variance = vae.encode(clip)
    mean, log_variance = mean.float(), log_variance.float().clamp(-20, 10)
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    share = LATENT_NOISE * torch.randn(len(mean), 1, 1, 1, 1, generator=generator, device=mean.device)
    spread = mean.std((0, 2, 3, 4), keepdim=True)
    decoded = vae.decode(mean + ((log_variance / 2).exp() + spread * share) * noise).float()
    difference = decoded - clip
    edges = (difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()) / 2
    kl = (mean**2 + log_variance.exp() - log_variance - 1).mean() / 2
    return difference.abs().mean() + edges + 3e-5 * kl, (difference.detach() ** 2).mean() / 4


def train(seconds: float, batch: int, seed: int, device: str, start_from: Path | None, decoder_only: bool) -> WanVae:
    torch.manual_seed(seed)
    generator = torch.Generator(device).manual_seed(seed)
    vae = WanVae(DIM).to(device)
    if start_from:
        vae.load_state_dict({name: value.float() for name, value in load_file(start_from).items()})
    else:
        pass_through(vae)
    if decoder_only:
        for part in (vae.encoder, vae.conv1):
            part.requires_grad_(False)
    average = WanVae(DIM).to(device)
    average.load_state_dict(vae.state_dict())
    if device == "cuda":
        vae.channels_last()
    trained = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1, betas=(0.9, 0.98), weight_decay=0.0, fused=device == "cuda")
    peak = 1.2e-3 if start_from is None else 6e-4
    start, step, done = time.perf_counter(), 0, 0.0
    while done < 1:
        done = min((time.perf_counter() - start) / seconds, 1.0)
        rate = peak * min(1, (step + 1) / 150) * (1 - done) ** 0.7 + 1e-6
        optimizer.param_groups[0]["lr"] = rate
        clip = windows(batch, step, generator, device)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss, error = loss_of(vae, clip, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        with torch.no_grad():
            weight = min(0.99, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), list(vae.parameters()), 1 - weight)
        if step % 100 == 0:
            psnr = -10 * torch.log10(error).item()
            print(
                f"vae step {step} {time.perf_counter() - start:.0f} s loss {loss.item():.4f} psnr {psnr:.2f} dB",
                flush=True,
            )
        step += 1
    print(f"vae: {step} steps", flush=True)
    return average


@torch.no_grad()
def encode_clips(vae: WanVae, scene: dict, height: int, width: int) -> torch.Tensor:
    """Latent means of whole clips, fp32 [B, 16, 13, H / 8, W / 8]."""
    clip = scenes.render(scene, height, width) * 2 - 1
    with torch.autocast(clip.device.type, torch.bfloat16, enabled=clip.is_cuda):
        return vae.encode(clip)[0].float()


@torch.no_grad()
def fold_statistics(vae: WanVae, generator: torch.Generator, device: str, clips: int) -> None:
    """Put the latents' own mean and deviation, and the format's, into the convolutions around the latent."""
    latents = torch.cat(
        [encode_clips(vae, scenes.sample(1, generator, device), *SIZES[0]) for _ in range(clips)]
    ).transpose(0, 1)
    mean, std = latents.flatten(1).mean(1), latents.flatten(1).std(1)
    format_mean, format_std = (torch.tensor(x, device=device) for x in (FORMAT_MEAN, FORMAT_STD))
    gain, channels = format_std / std, len(FORMAT_MEAN)
    vae.conv1.weight[:channels] *= gain.view(-1, 1, 1, 1, 1)
    vae.conv1.bias[:channels] = (vae.conv1.bias[:channels] - mean) * gain + format_mean
    flat = vae.conv2.weight[:, :, 0, 0, 0].clone()
    vae.conv2.bias += flat @ (mean - format_mean / gain)
    vae.conv2.weight /= gain.view(1, -1, 1, 1, 1)


@torch.no_grad()
def reconstruction_psnr(vae: WanVae, generator: torch.Generator, device: str, clips: int) -> float:
    """Mean PSNR of whole clips, encoded and decoded in fp32."""
    values = []
    for _ in range(clips):
        clip = scenes.render(scenes.sample(1, generator, device), *SIZES[0]) * 2 - 1
        decoded = vae.decode(vae.encode(clip)[0]).clamp(-1, 1)
        values.append(-10 * torch.log10(((decoded - clip) ** 2).mean() / 4))
    return torch.stack(values).mean().item()


def save(vae: WanVae, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.to(torch.bfloat16).contiguous().cpu() for name, value in vae.state_dict().items()}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=140)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--clips", type=int, default=48, help="whole clips that the latent statistics are taken from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--continue-from", type=Path, help="a checkpoint to go on from")
    parser.add_argument(
        "--decoder-only", action="store_true", help="leave the latents as a transformer has learnt them"
    )
    parser.add_argument("--output", type=Path, default=Path("demo/weights"))
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vae = train(
        arguments.seconds, arguments.batch, arguments.seed, device, arguments.continue_from, arguments.decoder_only
    )
    generator = torch.Generator(device).manual_seed(arguments.seed + 1)
    if not arguments.decoder_only:
        fold_statistics(vae, generator, device, arguments.clips)
    save(vae, arguments.output / "jenga_demo_vae.safetensors")
    print(
        f"vae: whole clips {reconstruction_psnr(vae, generator, device, max(1, arguments.clips // 6)):.2f} dB",
        flush=True,
    )


if __name__ == "__main__":
    main()
