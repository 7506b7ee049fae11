"""Jenga Report: what the last run of a MODEL did, as text and as a picture."""

from comfy_api.latest import io

from jenga.report import draw_kept_share

from . import runs


class JengaReport(io.ComfyNode):
    """Sits behind the sampler, so that it runs after it; hands the latent on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JengaReport",
            display_name="Jenga Report",
            category="Jenga",
            description="What the last run of this model did: seconds per step and stage, model calls computed and "
            "reused, the share of keys kept by layer and step, and every fallback with its reason.",
            search_aliases=["jenga statistics", "sparsity map", "kept share"],
            inputs=[
                io.Model.Input("model", tooltip="The model that the sampler used."),
                io.Latent.Input("latent", tooltip="The sampler's output; it makes this node run after the sampler."),
            ],
            outputs=[
                io.Latent.Output(),
                io.String.Output(display_name="report"),
                io.Image.Output(display_name="kept share"),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model, latent) -> io.NodeOutput:
        report = runs.report_slot(model).report
        image, remark = draw_kept_share(report.kept_share_map())
        text = report.text() + (f"\n- {remark}" if remark else "")
        return io.NodeOutput(latent, text, image, ui={"jenga_report": [report.summary()], "text": [text]})
