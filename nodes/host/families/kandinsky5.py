"""Kandinsky 5: the video alone in self-attention, text by cross-attention."""

from .family import Family, video_first

FAMILY = Family(
    title="Kandinsky 5",
    models="text and image to video",
    classes=("Kandinsky5",),
    tokens=video_first,
    resized={"time_dim_replace": "bilinear"},
)
