"""Jenga: MODEL in, MODEL out. Carving, stages and step reuse behind one preset, for the stock samplers."""

from comfy.patcher_extension import WrappersMP
from comfy_api.v0_0_2 import io

import jenga
from jenga.runtime.settings import CarvingSettings, parse_blocks
from jenga.sampling import preset_words
from jenga.sampling.presets import DEFAULT, PRESETS

from .attention import patch_model
from .host import runs, status
from .host.families import has_stages, words
from .host.stages import StageSettings, outer_sample
from .host.step_reuse import CHOICES, THRESHOLD, THRESHOLD_TOOLTIP, TOOLTIP


class Jenga(io.ComfyNode):
    """Patches a clone of the model; the model that came in is left as it is."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Jenga",
            display_name="Jenga",
            category="Jenga",
            description="Makes a video model faster in any sampler node: attention is carved, the noisy steps run on a "
            f"smaller latent, and some steps repeat the model's last output. {words.carved()}; {words.stages_alone()} "
            "with dense attention; any other model passes through as it came.",
            search_aliases=["jenga preset", "faster video", "sparse attention", "progressive resolution", "step cache"],
            inputs=[
                io.Model.Input("model"),
                io.Combo.Input(
                    "preset",
                    options=[*PRESETS, "off"],
                    default=DEFAULT,
                    tooltip=preset_words.tooltip("off: the model as it came."),
                ),
                io.Combo.Input(
                    "step_reuse",
                    options=list(CHOICES),
                    default="from preset",
                    advanced=True,
                    tooltip=TOOLTIP,
                ),
                io.Float.Input(
                    "reuse_threshold",
                    default=THRESHOLD,
                    min=0.0,
                    max=1.0,
                    step=0.005,
                    advanced=True,
                    tooltip=THRESHOLD_TOOLTIP,
                ),
                io.String.Input(
                    "dense_blocks",
                    default="",
                    advanced=True,
                    tooltip="Transformer blocks that stay dense, like 0, 1, 38-39.",
                ),
                io.Int.Input(
                    "min_tokens",
                    default=4096,
                    min=0,
                    max=1 << 30,
                    advanced=True,
                    tooltip="A stage with fewer video tokens than this is not carved: there is nothing to gain.",
                ),
                io.Combo.Input(
                    "backend",
                    options=["auto", "native", "flex", "reference"],
                    default="auto",
                    advanced=True,
                    tooltip="auto takes the fastest that can run here. What ran, and why, is on the node.",
                ),
                io.Boolean.Input(
                    "strict",
                    default=False,
                    advanced=True,
                    tooltip="A fallback to dense attention becomes an error instead of a line on the node.",
                ),
            ],
            outputs=[io.Model.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model, preset, step_reuse, reuse_threshold, dense_blocks, min_tokens, backend, strict
    ) -> io.NodeOutput:
        node_id = cls.hidden.unique_id
        if preset == "off":
            status.say(node_id, "off: the model is as it came")
            return io.NodeOutput(model)
        carving = CarvingSettings(
            config=jenga.JengaConfig(backend=backend, strict=strict),
            dense_blocks=parse_blocks(dense_blocks),
            min_tokens=min_tokens,
        )
        patched = patch_model(model, carving, node_id)
        if has_stages(model):
            add_stages(patched, StageSettings(preset, None, step_reuse, reuse_threshold), node_id)
        return io.NodeOutput(patched)


def add_stages(patched, settings: StageSettings, node_id: str | None) -> None:
    """Stages and step reuse for every run of a MODEL, in the place of those of a Jenga node before.

    The wrapper goes before all others, so that they see every stage as a run of its own: other packs keep state there.
    """
    patched.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, runs.RUN_KEY)
    others = patched.wrappers.get(WrappersMP.OUTER_SAMPLE, {})
    patched.wrappers[WrappersMP.OUTER_SAMPLE] = {runs.RUN_KEY: [outer_sample(settings, node_id)], **others}
