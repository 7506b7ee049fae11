"""Train the probe: `python -m demo.train_probe`, some minutes of one CPU core; then its accuracy is printed.

The shipped one had ten times as many steps, on a GPU: its command is in demo/README.md.

Procedural clips are rendered at several sizes for as long as training goes on and are seen a few times each. So that
the probe finds words in clips that a model sampled too, some of every batch went through the demo's VAE, and all are
blurred in space and in time, and changed in light, contrast and noise, each clip by its own random amount.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from demo import scenes
from demo.clip_stream import ClipPool, load_vae
from demo.probe import EVERY, HEIGHT, WIDTH, Probe, load, prepare, save
from demo.prompts import SLOTS
from demo.train_vae import SIZES

RENDERED = ((HEIGHT, WIDTH), (80, 128))  # in turn; twice the probe's size looks as any larger one does
RECONSTRUCTED = ((80, 128), SIZES[-1])  # the smaller is softer; sizes of the VAE's clips
AT_ONCE = 16  # clips that are rendered in one go
FIRST = 256  # clips before training starts
CHANGED = 0.7  # of the clips in a batch, by each change
BLUR, ECHO = 0.6, 0.2  # largest shares of the pixels around, of the frames before and after
NOISE, LIGHT = 0.03, 0.08  # deviations
PEAK_RATE = 3e-3
VALIDATION_SEED = 1_000_003  # of clips that training never makes

Clips = tuple[torch.Tensor, torch.Tensor]  # prepared clips fp16, and [B, slots]: the index of each slot's word


def scene_words(scene: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack([scene[slot] for slot in SLOTS], 1)


def rendered(count: int, size: tuple[int, int], generator: torch.Generator) -> Clips:
    """New clips as they are."""
    scene = scenes.sample(count, generator, generator.device)
    return prepare(scenes.render(scene, *size, every=EVERY)).half(), scene_words(scene)


class Reconstructions:
    """New clips that went through the demo's VAE: encoded and decoded as whole clips."""

    def __init__(self, weights: Path, device: torch.device):
        self._vae = load_vae(weights, device).to(torch.bfloat16)
        self._vae.channels_last()

    @torch.inference_mode()
    def make(self, size: tuple[int, int], generator: torch.Generator) -> Clips:
        """One clip."""
        scene = scenes.sample(1, generator, generator.device)
        clip = (scenes.render(scene, *size) * 2 - 1).to(torch.bfloat16)
        decoded = self._vae.decode(self._vae.encode(clip)[0]).float()
        return prepare((decoded.clamp(-1, 1) + 1) / 2).half(), scene_words(scene)


def _amount(batch: int, device, spread: float) -> torch.Tensor:
    """0 .. spread for each clip, [B, 1, 1, 1, 1]; 0 for those that stay as they are."""
    amount = spread * torch.rand(batch, device=device) * (torch.rand(batch, device=device) < CHANGED)
    return amount.view(-1, 1, 1, 1, 1)


def blur(clips: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Every pixel towards the mean of the 3 x 3 around it, twice; share [B, 1, 1, 1, 1]: how far, 0 to 1."""
    for _ in range(2):
        mean = F.avg_pool2d(clips.flatten(1, 2), 3, stride=1, padding=1, count_include_pad=False)
        clips = clips.lerp(mean.view_as(clips), share)
    return clips


def augment(clips: torch.Tensor) -> torch.Tensor:
    """Prepared clips in 0..1, each softened, relit and made noisy by its own amount."""
    batch, device = len(clips), clips.device
    clips = blur(clips, _amount(batch, device, BLUR))
    neighbours = F.pad(clips.flatten(3), (0, 0, 1, 1), mode="replicate").unflatten(3, clips.shape[3:])
    echo = (neighbours[:, :, :-2] + neighbours[:, :, 2:]) / 2
    clips = clips.lerp(echo, _amount(batch, device, ECHO))
    gain = 1 + LIGHT * torch.randn(batch, 3, 1, 1, 1, device=device) * (_amount(batch, device, 1) > 0)
    offset = LIGHT / 2 * torch.randn(batch, 1, 1, 1, 1, device=device) * (_amount(batch, device, 1) > 0)
    clips = clips * gain + offset + _amount(batch, device, NOISE) * torch.randn_like(clips)
    return clips.clamp(0, 1)


def batches(plain: ClipPool, soft: ClipPool, batch: int, generator: torch.Generator) -> Iterator[Clips]:
    """Endless batches, augmented; an eighth of each went through the VAE. Every third brings new rendered clips."""
    for step in itertools.count():
        if step % 3 == 0:
            plain.add(rendered(AT_ONCE, RENDERED[step // 3 % len(RENDERED)], generator))
        drawn = plain.draw(batch - batch // 8, generator), soft.draw(batch // 8, generator)
        clips, words = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        yield augment(clips.float()), words


def train(probe: Probe, made: Iterator[Clips], steps: int) -> Probe:
    device = next(probe.parameters()).device
    probe = probe.train().requires_grad_(True).to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.15)
    smooth = None
    for step, (clips, words) in enumerate(itertools.islice(made, steps)):
        with torch.autocast(device.type, torch.bfloat16):
            logits, _ = probe(clips.contiguous(memory_format=torch.channels_last_3d))
        parts = Probe.by_slot(logits.float()).values()
        loss = sum(F.cross_entropy(part, words[:, slot]) for slot, part in enumerate(parts))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        smooth = loss.item() if smooth is None else 0.95 * smooth + 0.05 * loss.item()
        if step % 50 == 0:
            print(f"probe step {step} loss {smooth:.3f}", flush=True)
    return probe.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)


def accuracy(probe: Probe, made: Iterator[Clips]) -> dict[str, float]:
    """Share of the clips whose word is found, by slot."""
    right = [torch.stack(list(Probe.words(probe(clips.float())[0]).values()), 1) == words for clips, words in made]
    return dict(zip(SLOTS, torch.cat(right).float().mean(0).tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reconstructions", type=int, default=96, help="clips through the VAE, made before training")
    parser.add_argument("--validation", type=int, default=256, help="held-out clips, an eighth as many through the VAE")
    parser.add_argument("--continue-from", type=Path, help="a probe to go on from")
    parser.add_argument("--weights", type=Path, default=Path("demo/weights"))
    a = parser.parse_args()
    torch.manual_seed(a.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator(device).manual_seed(a.seed)
    vae = Reconstructions(a.weights, device)
    soft, plain = ClipPool(device), ClipPool(device)
    for index in range(a.reconstructions):  # three quarters of the small size, which takes a quarter of the time
        soft.add(vae.make(RECONSTRUCTED[index % 4 == 3], generator))
    print(f"probe: {a.reconstructions} reconstructions", flush=True)
    while plain.made < FIRST:
        plain.add(rendered(AT_ONCE, RENDERED[0], generator))
    probe = load(device, a.continue_from) if a.continue_from else Probe().to(device)
    probe = train(probe, batches(plain, soft, a.batch, generator), a.steps)
    save(probe, a.weights / "jenga_demo_probe.safetensors")
    generator.manual_seed(VALIDATION_SEED)
    real = (rendered(1, SIZES[-1], generator) for _ in range(a.validation))
    soft = (vae.make(SIZES[-1], generator) for _ in range(a.validation // 8))
    for name, made in (("real", real), ("through the VAE", soft)):
        shares = ", ".join(f"{slot} {share:.3f}" for slot, share in accuracy(probe, made).items())
        print(f"probe: held-out clips, {name}: {shares}", flush=True)


if __name__ == "__main__":
    main()
