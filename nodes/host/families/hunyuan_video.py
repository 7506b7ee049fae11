"""HunyuanVideo: text first, then the video, in one self-attention."""

from .family import Family, TokenFamily, patch_grid


def schedule(diffusion_model) -> str:
    """Models that take the image as a condition have channels for it; the others are sampled like text to video."""
    takes_image = diffusion_model.in_channels > diffusion_model.out_channels
    return "hunyuan-video-i2v" if takes_image else "hunyuan-video"


FAMILY = Family(
    title="HunyuanVideo",
    models="text and image to video",
    classes=("HunyuanVideo",),
    tokens=TokenFamily("HunyuanVideo", patch_grid, text_first=True),
    schedule=schedule,
    resized={"ref_latent": "bilinear"},
)
