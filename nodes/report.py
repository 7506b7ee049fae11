"""Jenga Report: what the last run of a MODEL did, as text and as pictures."""

import torch
from comfy_api.v0_0_2 import io

from jenga.report import view as report_view
from jenga.report.overlay import draw_kept_blocks, query_block_at
from jenga.report.report import Report

from .host import private, runs


class JengaReport(io.ComfyNode):
    """Sits behind the sampler, so that it runs after it; hands the latent on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JengaReport",
            display_name="Jenga Report",
            category="Jenga",
            description="What the last run of this model did: seconds per evaluation and stage, model calls computed "
            "and reused, the share of keys kept by layer, peak memory, and every fallback with its reason. With the "
            "decoded frames connected it also shows which blocks were kept.",
            search_aliases=["jenga statistics", "sparsity map", "kept share", "kept blocks", "attention overlay"],
            inputs=[
                io.Model.Input("model", tooltip="The model that the sampler used."),
                io.Latent.Input("latent", tooltip="The sampler's output; it makes this node run after the sampler."),
                io.Image.Input(
                    "frames",
                    optional=True,
                    tooltip="The decoded clip of this run, for the picture of the kept blocks. Decode the sampler's "
                    "own latent output: this node's would go in a circle.",
                ),
                _index("layer", 0, "Attention layer whose kept blocks are shown."),
                _index("head", 0, "Head of that layer."),
                _share("query_x", "Where the query block lies: 0 is the left edge, 1 the right one."),
                _share("query_y", "0 is the upper edge, 1 the lower one."),
                _share("query_frame", "0 is the first frame, 1 the last one."),
                _index("query_block", -1, "Number of the query block along the curve; -1: the one at that place."),
            ],
            outputs=[
                io.Latent.Output(),
                io.String.Output(display_name="report"),
                io.Image.Output(display_name="kept share"),
                io.Image.Output(display_name="kept blocks"),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model,
        latent,
        frames=None,
        layer=0,
        head=0,
        query_x=0.5,
        query_y=0.5,
        query_frame=0.5,
        query_block=-1,
    ) -> io.NodeOutput:
        report, whose = runs.report_of(model)
        summary = report.summary()
        image, remark = report_view.picture(summary)
        remarks = [text for text in (whose, remark) if text]
        if frames is None:
            overlay = private.blocker("Jenga Report: kept blocks needs frames, got none; connect the decoded clip")
        elif not report.kept_blocks:
            remarks.append("no kept blocks to draw: the run carved nothing")
            overlay = private.blocker(f"Jenga Report: {remarks[-1]}")
        else:
            overlay = _kept_blocks(report, frames, layer, head, (query_x, query_y, query_frame), query_block)
        text = "\n".join([report_view.text(summary), *(f"- {remark}" for remark in remarks)])
        return io.NodeOutput(latent, text, image, overlay, ui={"jenga_report": [summary], "text": [text]})


def _kept_blocks(
    report: Report, frames: torch.Tensor, layer: int, head: int, place: tuple[float, float, float], query_block: int
) -> torch.Tensor:
    """frames with what that layer, head and query block kept. Raises ValueError for one that the run does not have."""
    blocks = report.kept_blocks.get(layer)
    if blocks is None:
        carved = ", ".join(map(str, sorted(report.kept_blocks)))
        raise ValueError(f"Jenga Report: layer must be one that was carved ({carved}), got {layer}")
    if query_block < 0:
        query_block = query_block_at(*place, blocks.grid, blocks.curve)
    title = f"evaluation {blocks.evaluation}\nlayer {layer}, head {head}\n"
    return draw_kept_blocks(frames, blocks, head, query_block, title)


def _index(name: str, default: int, tooltip: str) -> io.Int.Input:
    return io.Int.Input(
        name, default=default, min=min(default, 0), max=1 << 20, optional=True, advanced=True, tooltip=tooltip
    )


def _share(name: str, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=0.5, min=0.0, max=1.0, step=0.01, optional=True, advanced=True, tooltip=tooltip)
