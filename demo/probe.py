"""The probe: which words of the demo's language a clip shows, and features that compare sets of clips.

    probe = load(device)
    logits, features = probe(prepare(clips))
    found = probe.words(logits)  # {"colour": [B] indices into prompts.SLOTS["colour"], ...}

A network of 3-D convolutions, space and time in turn, trained on procedural clips (`demo.train_probe`), whose words are
known. It sees every clip at one small size, so that clips of any size can be compared.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from demo import scenes
from demo.prompts import SLOTS, WORDS

WEIGHTS = Path(__file__).resolve().parent / "weights" / "jenga_demo_probe.safetensors"
FRAMES, HEIGHT, WIDTH = 17, 40, 64
EVERY = (scenes.FRAMES - 1) // (FRAMES - 1)  # of a whole clip, the frames that the probe sees
FEATURES = 64
CHANNELS = (24, 32, 64, 96)  # after the stem and after each widening


def prepare(clips: torch.Tensor) -> torch.Tensor:
    """Clips [B, 3, F, H, W] in 0..1 -> [B, 3, FRAMES, HEIGHT, WIDTH]: frames evenly spread, pixels averaged."""
    frames = torch.linspace(0, clips.shape[2] - 1, FRAMES, device=clips.device).round().long()
    chosen = clips.index_select(2, frames).float().transpose(1, 2)
    small = F.adaptive_avg_pool2d(chosen.flatten(0, 1), (HEIGHT, WIDTH))
    return small.unflatten(0, chosen.shape[:2]).transpose(1, 2)


class Probe(nn.Module):
    """Prepared clips [B, 3, FRAMES, HEIGHT, WIDTH] -> logits of all WORDS [B, 27], features [B, FEATURES]."""

    def __init__(self):
        super().__init__()
        stem, one, two, three = CHANNELS
        self.layers = nn.Sequential(
            *_layer(3 + 2, stem, (1, 5, 5), (1, 2, 2)),
            *_layer(stem, one, (1, 3, 3), (1, 2, 2)),
            *_layer(one, one, (3, 1, 1), (2, 1, 1)),
            *_layer(one, two, (1, 3, 3), 1),
            *_layer(two, two, (3, 1, 1), 1),
            *_layer(two, three, (1, 3, 3), (1, 2, 2)),
            *_layer(three, three, (3, 1, 1), (2, 1, 1)),
            *_layer(three, three, (1, 3, 3), 1),
        )
        moments = FRAMES // 4 + 1  # of time that are left
        self.features = nn.Linear(2 * three * moments, FEATURES)
        self.head = nn.Linear(FEATURES, len(WORDS))

    def forward(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.linspace(-1, 1, HEIGHT, device=clips.device).view(1, 1, 1, -1, 1)
        x = torch.linspace(-1, 1, WIDTH, device=clips.device).view(1, 1, 1, 1, -1)
        places = [axis.expand(len(clips), 1, FRAMES, HEIGHT, WIDTH) for axis in (y, x)]
        maps = self.layers(torch.cat([clips * 2 - 1, *places], 1)).flatten(3)
        features = self.features(torch.cat([maps.mean(3), maps.amax(3)], 1).flatten(1))
        return self.head(F.gelu(features)), features

    @staticmethod
    def by_slot(logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits [B, 27] -> those of each slot's words [B, words]."""
        return dict(zip(SLOTS, logits.split([len(words) for words in SLOTS.values()], 1), strict=True))

    @staticmethod
    def words(logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """The likeliest word of each slot, [B] each."""
        return {slot: part.argmax(1) for slot, part in Probe.by_slot(logits).items()}


def _layer(channels_in: int, channels_out: int, kernel: tuple[int, int, int], stride) -> list[nn.Module]:
    padding = tuple(side // 2 for side in kernel)
    convolution = nn.Conv3d(channels_in, channels_out, kernel, stride, padding, bias=False)
    return [convolution, nn.BatchNorm3d(channels_out), nn.ReLU(inplace=True)]


def save(probe: Probe, path: Path = WEIGHTS) -> None:
    save_file({name: value.contiguous().cpu() for name, value in probe.state_dict().items()}, path)


def load(device, path: Path = WEIGHTS) -> Probe:
    """The shipped probe, for inference."""
    probe = Probe()
    probe.load_state_dict(load_file(path))
    return probe.to(device).eval().requires_grad_(False)
