"""MiniMax H3: text, conditions, audio and last the video in one sequence.

Its audio is less noisy than the sampler's sigma says, and what the sampler sees is no clean prediction of it.
"""

from .family import Family, text_first

FAMILY = Family(
    title="MiniMax H3",
    models="video with audio",
    classes=("MiniMaxH3Model",),
    tokens=text_first,
    stages=False,
    packed_reason="the latent holds video and audio, and MiniMax H3 noises audio on a schedule of its own",
)
