"""LTX-Video and LTX-2: the video alone in self-attention, guides behind it; audio has attention of its own."""

from jenga.carving.config import TokenGrid
from jenga.runtime.layout import TokenLayout

from .family import Family

FIXED = ("keyframe_idxs",)  # places of guides, in pixels of the full size


def layout(diffusion_model, grid: TokenGrid, arguments) -> TokenLayout:
    """Guides are the last frames of the latent; of their tokens a mask may leave some out.

    width: in LTX-2 the audio may have as many tokens as the video, but it is narrower.
    """
    guides = arguments.get("keyframe_idxs")
    frames = 0 if guides is None else guides.shape[2] // (grid.h * grid.w)
    return TokenLayout(TokenGrid(grid.t - frames, grid.h, grid.w), width=diffusion_model.inner_dim)


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
    packed_reason="",
    fixed=FIXED,
)
