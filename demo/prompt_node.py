"""Jenga Demo Prompt: words of the demo model's small vocabulary to CONDITIONING. The demo model has no text encoder."""

from comfy_api.v0_0_2 import io

from ..nodes.host import status
from . import prompts


class JengaDemoPrompt(io.ComfyNode):
    """Encodes a prompt for the demo model of this pack; words it does not know are listed on the node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JengaDemoPrompt",
            display_name="Jenga Demo Prompt",
            category="Jenga/demo",
            description="A prompt for the small demo model that comes with Jenga. No other model understands it.",
            search_aliases=["jenga text", "demo clip text encode"],
            inputs=[io.String.Input("text", multiline=True, default=prompts.EXAMPLE, tooltip=prompts.VOCABULARY_HELP)],
            outputs=[io.Conditioning.Output(), io.String.Output(display_name="unknown words")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, text) -> io.NodeOutput:
        rows, unknown = prompts.encode(text)
        if unknown:
            status.say(cls.hidden.unique_id, f"not in the vocabulary: {', '.join(unknown)}")
        return io.NodeOutput([[rows, {"pooled_output": None}]], ", ".join(unknown))
