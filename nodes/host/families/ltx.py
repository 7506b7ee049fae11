"""LTX-Video and LTX-2: the video alone in self-attention, guides behind it; audio has attention of its own."""

import math
from dataclasses import replace

from jenga.carving.config import TokenGrid
from jenga.runtime.layout import TokenLayout

from .family import NOISED_ANEW, Family

FIXED = ("keyframe_idxs",)  # places of guides, in pixels of the full size
UNEVEN = "the guides have several strengths or a mask: ComfyUI weighs each of their tokens by itself"


def layout(diffusion_model, grid: TokenGrid, arguments) -> TokenLayout:
    """Guides are the last frames of the latent; of their tokens a mask may leave some out. Guides of a strength are
    weighed by it as keys of the video, and attend in a call of their own, which stays dense.

    width: in LTX-2 the audio may have as many tokens as the video, but it is narrower.
    """
    guides = arguments.get("keyframe_idxs")
    count = 0 if guides is None else guides.shape[2]
    video = TokenGrid(grid.t - count // (grid.h * grid.w), grid.h, grid.w)
    plain = TokenLayout(video, width=diffusion_model.inner_dim)
    entries = arguments.get("guide_attention_entries") if count else None
    strengths = {one["strength"] if one.get("pixel_mask") is None else None for one in entries or ()}
    if strengths <= {1.0}:
        return plain
    if len(strengths) > 1 or not all(strengths):
        return replace(plain, apart=count, dense=UNEVEN)
    return replace(plain, apart=count, text=(video.num_tokens, None), bias=math.log(*strengths))


LTX_VIDEO = Family(
    title="LTX-Video",
    models="text and image to video",
    classes=("LTXVModel",),
    tokens=layout,
    fixed=FIXED,
)

# Video and audio share the sampler's noise level.
LTX_2 = Family(
    title="LTX-2",
    models="with and without audio, which stays dense",
    classes=("LTXAVModel",),
    tokens=layout,
    other_parts=NOISED_ANEW,
    fixed=FIXED,
)
