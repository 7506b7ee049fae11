"""What a user chose for carving one model."""

import re
from dataclasses import dataclass

from ..carving.config import AnchorConfig, JengaConfig


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
