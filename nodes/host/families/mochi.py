"""Mochi: the video, then text, in one self-attention."""

from .family import Family, text_last

FAMILY = Family(
    title="Mochi",
    models="text to video",
    classes=("AsymmDiTJoint",),
    tokens=text_last,
)
