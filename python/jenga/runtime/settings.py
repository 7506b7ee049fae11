"""What a user chose for carving one model."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..carving.config import AnchorConfig, JengaConfig

OUTSIDE_SCHEDULE = "outside start_percent .. end_percent"


@dataclass(frozen=True)
class CarvingSettings:
    """anchors: for long sampler calls first, none for carving alone; with anchors their kept share counts in every
    stage, and not the stage's own, which was made for carving alone. dense_blocks: numbers of transformer blocks that
    stay dense. start_percent and end_percent: the part of the noise schedule that is carved, 0 = all noise.
    min_tokens: fewer video tokens than this stay dense. devices: names of those that share the heads of every call, as
    `jenga.runtime.devices.parse_devices` gives them; none: the model's alone.
    """

    config: JengaConfig
    anchors: tuple[AnchorConfig, ...] = ()
    dense_blocks: frozenset[int] = frozenset()
    start_percent: float = 0.0
    end_percent: float = 1.0
    min_tokens: int = 4096
    devices: tuple[str, ...] = ()

    def outside_schedule(self, sigma: torch.Tensor, to_sigma: Callable[[float], float]) -> str:
        """Why a model call at that noise level is dense, where a part of the schedule is carved; empty where it is not.

        to_sigma: the noise level at a part of the schedule. Waits for sigma's device where a part is carved.
        """
        start, end = self.start_percent, self.end_percent
        if (start > 0 or end < 1) and not to_sigma(end) < float(sigma) <= to_sigma(start):
            return OUTSIDE_SCHEDULE
        return ""


def parse_blocks(text: str) -> frozenset[int]:
    """Block numbers of "0, 1, 38-39"; none of blank text. Raises ValueError that names the part it cannot read, which
    includes a range that runs backwards or has no end.
    """
    blocks: set[int] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        ends = re.fullmatch(r"([0-9]{1,4})(?:\s*-\s*([0-9]{1,4}))?", part)
        found = ends and range(int(ends[1]), int(ends[2] or ends[1]) + 1)
        if not found:
            raise ValueError(f"CarvingSettings: dense_blocks must be like '0, 1, 38-39', got {part!r}")
        blocks.update(found)
    return frozenset(blocks)
