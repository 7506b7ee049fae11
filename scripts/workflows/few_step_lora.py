"""Four steps of Wan 2.2 with its distilled LoRAs and the few-step preset."""

from scripts.graph import Graph
from scripts.thumbnails import Card
from scripts.workflows import wan22
from scripts.workflows.parts import WAN_22, note

RUN = wan22.Run(preset="few-step", steps=4, cfg=1.0, distilled=True, prefix="jenga/few_step")
CARD = Card("Few steps, LoRA", "4 steps at CFG 1, every step carved", RUN.preset, "wan-14b", RUN.steps)
NOTE = note(
    """## Four steps with distilled LoRAs

The LoRAs make four steps at CFG 1 enough. A dense warm-up step would cost a quarter of such a run, so the preset
**few-step** carves every step, with dropped tokens kept as means; no step is reused, because neighbouring steps have
little in common.

The LoRA comes before **Jenga**, Jenga right before the sampler.""",
    WAN_22,
    *wan22.FILES,
    *wan22.LORAS.values(),
)


def build(object_info: dict) -> Graph:
    return wan22.build(object_info, NOTE, RUN)
