"""MiniMax H3: text, conditions, audio and last the video in one sequence.

Its audio is less noisy than the sampler's sigma says, and what the sampler sees is no clean prediction of it.
"""

from .family import CARRIED, Family, text_first

FAMILY = Family(
    title="MiniMax H3",
    models="video with audio",
    classes=("MiniMaxH3Model",),
    tokens=text_first,
    other_parts=CARRIED,
    # Not among them: references, which are of any size.
    resized={"minimax_keyframes": "bilinear"},
)
