"""Jenga Compare: two clips in, one clip that shows both, their metrics as a picture and a table."""

from comfy_api.latest import io

from jenga import compare


class JengaCompare(io.ComfyNode):
    """Side by side, wipe, difference or blink, with per-frame PSNR and SSIM (jenga.compare)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JengaCompare",
            display_name="Jenga Compare",
            category="Jenga",
            description="Shows two clips as one and measures how far the second is from the first.",
            search_aliases=["a/b", "ab compare", "side by side", "wipe", "psnr", "ssim", "difference"],
            inputs=[
                io.Image.Input("images_a", tooltip="The clip to compare against, usually the dense run."),
                io.Image.Input("images_b", tooltip="The clip to judge, usually the Jenga run."),
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
            ],
            outputs=[
                io.Image.Output(display_name="comparison"),
                io.Image.Output(display_name="plot"),
                io.String.Output(display_name="table"),
            ],
        )

    @classmethod
    def execute(cls, images_a, images_b, mode, label_a, label_b, gain) -> io.NodeOutput:
        result = compare.compare(images_a, images_b)
        clip = compare.compose(images_a, images_b, mode, label_a, label_b, gain)
        return io.NodeOutput(clip, compare.plot(result), compare.table(result, label_a or "a", label_b or "b"))
