"""HunyuanVideo and HunyuanVideo 1.5: text first, then the video, in one self-attention."""

from jenga.carving.config import TokenGrid
from jenga.runtime.layout import TokenLayout

from .family import Family, num_text


def layout(diffusion_model, grid: TokenGrid, arguments) -> TokenLayout:
    """[image features, text of both encoders, reference, video]; the plain model has text and a reference at most."""
    features, glyphs = arguments.get("clip_fea"), arguments.get("txt_byt5")
    images = 0 if features is None else features.shape[1]
    text = num_text(arguments) + (0 if glyphs is None or diffusion_model.byt5_in is None else glyphs.shape[1])
    return TokenLayout(grid, None, (images, text), images + text)


def schedule(diffusion_model) -> str:
    """Models that take the image as a condition have channels for it; the others are sampled like text to video."""
    takes_image = diffusion_model.in_channels > diffusion_model.out_channels
    return "hunyuan-video-i2v" if takes_image else "hunyuan-video"


FAMILY = Family(
    title="HunyuanVideo",
    models="1.0 and 1.5, text and image to video",
    classes=("HunyuanVideo",),
    tokens=layout,
    schedule=schedule,
    resized={"ref_latent": "bilinear"},
)
