"""Cosmos 1 and Cosmos Predict2: the video alone in self-attention, text by cross-attention."""

from .family import Family, video_first

FAMILY = Family(
    title="Cosmos",
    models="1 and Predict2, text and image to video",
    classes=("GeneralDIT", "MiniTrainDIT"),
    tokens=video_first,
)
