"""Wan 2.2 text to video: both experts, each behind its own Jenga node with the same preset."""

from scripts.graph import Graph
from scripts.thumbnails import Card
from scripts.workflows import wan22
from scripts.workflows.parts import WAN_22, note

RUN = wan22.Run(preset="turbo", steps=20, cfg=3.5, distilled=False, prefix="jenga/wan22")
CARD = Card("Wan 2.2 two experts", "stages cut where the sigmas say", RUN.preset, "wan-14b", RUN.steps)
NOTE = note(
    """## Wan 2.2, two experts

The high-noise expert samples the first half of the schedule, the low-noise expert the rest. Each model has its own
**Jenga** node: give both the same `preset`. Stages are cut by the sigmas of the whole schedule, and a sampler that ends
in a small stage hands over a full-size latent.

There is a *Jenga Report* for each expert.""",
    WAN_22,
    *wan22.FILES,
)


def build(object_info: dict) -> Graph:
    return wan22.build(object_info, NOTE, RUN)
