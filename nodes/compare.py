"""Jenga Compare: two clips in, one clip that shows both, their metrics as a picture and a table."""

from fractions import Fraction

import torch
from comfy_api.v0_0_2 import InputImpl, Types, io

from jenga.report import compare


class JengaCompare(io.ComfyNode):
    """Side by side, wipe, difference or blink, with per-frame PSNR and SSIM (jenga.report.compare)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JengaCompare",
            display_name="Jenga Compare",
            category="Jenga",
            description="Shows two clips as one and measures how far the second is from the first.",
            search_aliases=["a/b", "ab compare", "side by side", "wipe", "psnr", "ssim", "difference"],
            inputs=[
                io.Image.Input(
                    "images_a", optional=True, tooltip="The clip to compare against, usually the dense run. Or video_a."
                ),
                io.Image.Input(
                    "images_b", optional=True, tooltip="The clip to judge, usually the Jenga run. Or video_b."
                ),
                io.Combo.Input("mode", options=list(compare.MODES), default=compare.MODES[0]),
                io.String.Input("label_a", default="dense", tooltip="Burnt into the first clip; empty for none."),
                io.String.Input("label_b", default="jenga", tooltip="Burnt into the second clip; empty for none."),
                io.Float.Input(
                    "gain",
                    default=4.0,
                    min=1.0,
                    max=64.0,
                    step=0.5,
                    advanced=True,
                    tooltip="Factor on the difference in difference mode.",
                ),
                io.Video.Input("video_a", optional=True, tooltip="In the place of images_a."),
                io.Video.Input("video_b", optional=True, tooltip="In the place of images_b."),
                io.Float.Input(
                    "fps",
                    default=16.0,
                    min=1.0,
                    max=120.0,
                    step=1.0,
                    optional=True,
                    tooltip="Frames per second of the video output.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="comparison"),
                io.Image.Output(display_name="plot"),
                io.String.Output(display_name="table"),
                io.Video.Output(display_name="video"),
            ],
        )

    @classmethod
    def execute(
        cls, mode, label_a, label_b, gain, images_a=None, images_b=None, video_a=None, video_b=None, fps=16.0
    ) -> io.NodeOutput:
        (a, rate_a), (b, rate_b) = _frames("a", images_a, video_a), _frames("b", images_b, video_b)
        result = compare.compare(a, b)
        if None not in (rate_a, rate_b) and rate_a != rate_b:
            rates = f"{float(rate_a):g} and {float(rate_b):g} frames per second"
            result.notes.append(f"{rates}: frames are matched by number, not by time")
        elif any(rate is not None and abs(rate - fps) > 0.01 for rate in (rate_a, rate_b)):
            rate = float(rate_a or rate_b)
            result.notes.append(f"{rate:g} frames per second in, {fps:g} out: the widget fps says how fast it plays")
        clip = compare.compose(a, b, mode, label_a, label_b, gain)
        video = InputImpl.VideoFromComponents(Types.VideoComponents(images=clip, frame_rate=Fraction(fps)))
        return io.NodeOutput(clip, compare.plot(result), compare.table(result, label_a or "a", label_b or "b"), video)


def _frames(side: str, images: torch.Tensor | None, video) -> tuple[torch.Tensor, Fraction | None]:
    """One side's frames [F, H, W, 3], and the frame rate of a video. Raises ValueError unless one of both is there."""
    if (images is None) == (video is None):
        got = "none" if images is None else "both"
        raise ValueError(
            f"compare: side {side} must have exactly one of images_{side} and video_{side}, got {got}; "
            f"{'connect one of them' if images is None else 'disconnect one of them'}"
        )
    if video is None:
        return images, None
    components = video.get_components()
    return components.images, components.frame_rate
