"""MiniMax H3: video with audio.

Its audio is less noisy than the sampler's sigma says, and what the sampler sees is no clean prediction of it.
"""

from .family import Family

FAMILY = Family(
    title="MiniMax H3",
    models="video with audio",
    classes=("MiniMaxH3Model",),
    stages=False,
    packed_reason="the latent holds video and audio, and MiniMax H3 noises audio on a schedule of its own",
)
