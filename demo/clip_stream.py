"""New training clips as they come: a process that renders and encodes, and the pools that training draws from."""

import itertools
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import multiprocessing

from demo import scenes
from demo.train_vae import DIM, FORMAT_MEAN, FORMAT_STD, SIZES, encode_clips
from demo.wan_modules import WanVae

OBJECT_WEIGHT = 4.0  # a cell wholly under the object counts 1 + 4, one without it 1
CLIPS_AT_ONCE = 2  # of the full size; as many more of the others as are as much work
ORDER = (0, 1, 0, 2)  # sizes in the order they are made
CAPACITY = 2 << 30  # bytes of latents a pool holds before the oldest go

Clips = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # latents bf16, prompts, cell weights, one row a clip


def load_vae(folder: Path, device: str) -> WanVae:
    vae = WanVae(DIM)
    vae.load_state_dict({k: v.float() for k, v in load_file(folder / "jenga_demo_vae.safetensors").items()})
    return vae.to(device).eval().requires_grad_(False)


def cell_weights(scene: dict[str, torch.Tensor], height: int, width: int) -> torch.Tensor:
    """How much each latent cell counts in the loss: bf16 [B, 1, 13, height / 8, width / 8], mean 1 per clip.

    A latent frame stands for four frames of the clip, the first for one: the object counts wherever it was.
    """
    share = scenes.object_share(scene, height // 8, width // 8)
    later = share[:, 1:].unflatten(1, (-1, 4)).amax(2)
    weight = 1 + OBJECT_WEIGHT * torch.cat([share[:, :1], later], 1)
    return (weight / weight.mean((1, 2, 3), keepdim=True)).unsqueeze(1).to(torch.bfloat16)


@torch.no_grad()
def make_clips(vae: WanVae, size: int, generator: torch.Generator) -> Clips:
    """Latents [n, 16, 13, h, w], normalised, prompts [n, slots, TEXT_DIM] and cell weights of new scenes."""
    device, (height, width) = generator.device, SIZES[size]
    mean, std = (torch.tensor(x, device=device).view(1, -1, 1, 1, 1) for x in (FORMAT_MEAN, FORMAT_STD))
    scene = scenes.sample(CLIPS_AT_ONCE << size, generator, device)
    latents = ((encode_clips(vae, scene, height, width) - mean) / std).to(torch.bfloat16)
    return latents, scenes.encode(scene), cell_weights(scene, height, width)


def _produce(folder: Path, device: str, seed: int, made) -> None:
    vae = load_vae(folder, device)
    if device.startswith("cuda"):
        vae.channels_last()
    generator = torch.Generator(device).manual_seed(seed)
    for size in itertools.cycle(ORDER):
        made.put((size, tuple(x.cpu() for x in make_clips(vae, size, generator))))


class ClipPool:
    """The newest clips of one size on the device that trains. Clips: or any tensors of one row a clip."""

    def __init__(self, device: str | torch.device):
        self._device, self._clips, self.made = device, None, 0

    def add(self, clips: Clips) -> None:
        if self._clips is None:
            rows = CAPACITY // (clips[0][0].numel() * clips[0].element_size())
            self._clips = tuple(torch.empty(rows, *x.shape[1:], dtype=x.dtype, device=self._device) for x in clips)
        rows = (torch.arange(len(clips[0])) + self.made) % len(self._clips[0])
        for pool, x in zip(self._clips, clips, strict=True):
            pool[rows.to(self._device)] = x.to(self._device)
        self.made += len(clips[0])

    def draw(self, count: int, generator: torch.Generator) -> Clips:
        held = min(self.made, len(self._clips[0]))
        index = torch.randint(held, (count,), generator=generator, device=self._device)
        return tuple(x[index] for x in self._clips)


class ClipStream:
    """A pool for every size, filled by a process on the last GPU (the only one, or the CPU, is shared)."""

    def __init__(self, folder: Path, device: str, seed: int):
        context = multiprocessing.get_context("spawn")
        producer = f"cuda:{torch.cuda.device_count() - 1}" if device == "cuda" else device
        self._made = context.Queue(maxsize=16)
        arguments = folder, producer, seed, self._made
        self._process = context.Process(target=_produce, args=arguments, daemon=True)
        self._process.start()
        self.pools = [ClipPool(device) for _ in SIZES]

    def wait_for(self, count: int) -> None:
        """Until every pool has had so many clips."""
        while min(pool.made for pool in self.pools) < count:
            self._take(timeout=600)

    def refresh(self) -> None:
        """Put what has been made since into the pools."""
        while not self._made.empty():
            self._take(timeout=1)

    def close(self) -> None:
        self._process.terminate()
        self._process.join()

    def _take(self, timeout: float) -> None:
        size, clips = self._made.get(timeout=timeout)
        self.pools[size].add(clips)
