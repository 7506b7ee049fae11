"""LTX-2: video with audio, which share the sampler's noise level. Attention stays dense."""

from .family import Family

FAMILY = Family(
    title="LTX-2",
    models="with and without audio",
    classes=("LTXAVModel",),
    packed_reason="",
    fixed=("keyframe_idxs",),
)
