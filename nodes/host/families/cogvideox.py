"""CogVideoX: text first, then the video, in one self-attention."""

from .family import Family, text_first

FAMILY = Family(
    title="CogVideoX",
    models="1.0 and 1.5, text and image to video",
    classes=("CogVideoXTransformer3DModel",),
    tokens=text_first,
)
