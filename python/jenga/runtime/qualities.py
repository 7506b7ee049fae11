"""The quality dial: kept share and anchors together, one row a position."""

from dataclasses import dataclass

from ..carving.config import AnchorConfig


@dataclass(frozen=True)
class Quality:
    """density: the kept share where there are no anchors, because a sampler call is too short for them or memory has no
    room; its work is about that of the anchors. anchors: for long sampler calls first.
    """

    density: float
    anchors: tuple[AnchorConfig, ...]


# Measured by benchmarks/closed_loop.py: few steps have room for one dense step, the first. With balanced it would be
# more than half the work of five steps.
QUALITIES = {
    "fast": Quality(0.1, ()),
    "balanced": Quality(0.2, (AnchorConfig(8, density=0.05, min_steps=12), AnchorConfig(0, density=0.05, min_steps=6))),
    "high": Quality(0.3, (AnchorConfig(8, density=0.1, min_steps=12), AnchorConfig(0, density=0.1, min_steps=4))),
    "near-lossless": Quality(
        0.4, (AnchorConfig(4, density=0.1, min_steps=8), AnchorConfig(0, density=0.2, min_steps=4))
    ),
}
ANCHORED_QUALITIES = tuple(name for name, quality in QUALITIES.items() if quality.anchors)


def anchors_for(anchors: tuple[AnchorConfig, ...], steps: float) -> AnchorConfig | None:
    """The first that a sampler call of so many steps is long enough for; None where there is none."""
    return next((one for one in anchors if steps >= one.min_steps), None)
