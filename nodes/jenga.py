"""Jenga: MODEL in, MODEL out. Carving, stages and step reuse behind one preset, for the stock samplers."""

from comfy.patcher_extension import WrappersMP
from comfy_api.v0_0_2 import io

import jenga
from jenga.runtime.qualities import QUALITIES
from jenga.runtime.settings import CarvingSettings, parse_blocks
from jenga.sampling import preset_words
from jenga.sampling.presets import DEFAULT, PRESETS

from .attention import ANCHORED, patch_model
from .host import runs, status, widgets
from .host.families import has_stages, words
from .host.override import CARVED_KEY
from .host.stages import StageSettings, outer_sample
from .host.step_reuse import CHOICES, FROM_PRESET, THRESHOLD, THRESHOLD_TOOLTIP, TOOLTIP

OWN_CARVING = "jenga_dial"  # attachment of a MODEL: the carving that a Jenga node itself put on it


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
                    default=FROM_PRESET,
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
                    extra_dict=widgets.shown_with(step_reuse=["adaptive"]),
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
                io.Combo.Input(
                    "quality",
                    options=[FROM_PRESET, *ANCHORED],
                    default=FROM_PRESET,
                    optional=True,
                    tooltip="How attention is carved. from preset: at its kept shares. The others are those of Jenga "
                    "Attention: closer to dense, by anchors, which take more time and memory; a stage with too few "
                    "steps for them keeps the preset's share.",
                ),
            ],
            outputs=[io.Model.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model,
        preset,
        step_reuse,
        reuse_threshold,
        dense_blocks,
        min_tokens,
        backend,
        strict,
        quality=FROM_PRESET,
    ) -> io.NodeOutput:
        node_id = cls.hidden.unique_id
        if preset == "off":
            status.say(node_id, "off: the model is as it came")
            return io.NodeOutput(model)
        remarks = widgets.idle(cls, step_reuse=step_reuse, reuse_threshold=reuse_threshold)
        blocks = parse_blocks(dense_blocks)
        if is_carved_by_another(model):
            patched = model.clone()
            remarks.append("carved as the Jenga Attention node before this one says")
            mine = {"quality": quality, "dense_blocks": dense_blocks, "min_tokens": min_tokens}
            remarks += widgets.overruled(cls, "Jenga Attention", **mine, backend=backend, strict=strict)
        else:
            dial = QUALITIES.get(quality)
            config = jenga.JengaConfig(backend=backend, strict=strict)
            carving = CarvingSettings(config, dial.anchors if dial else (), dense_blocks=blocks, min_tokens=min_tokens)
            patched = patch_model(model, carving, node_id)
            patched.set_attachments(OWN_CARVING, carving_of(patched))
        if has_stages(model):
            settings = StageSettings(preset, None, step_reuse, reuse_threshold, notes=tuple(remarks))
            add_stages(patched, settings, node_id)
        if remarks:
            status.say(node_id, "; ".join(remarks))
        return io.NodeOutput(patched)


def carving_of(model) -> list:
    """The wrappers of the Jenga patch that carves a MODEL's attention; none where it is not carved."""
    return model.get_wrappers(WrappersMP.APPLY_MODEL, CARVED_KEY)


def is_carved_by_another(model) -> bool:
    """Whether a Jenga Attention node carves a MODEL, and not the Jenga node that put stages on it."""
    carving = carving_of(model)
    return bool(carving) and carving != model.attachments.get(OWN_CARVING)


def add_stages(patched, settings: StageSettings, node_id: str | None) -> None:
    """Stages and step reuse for every run of a MODEL, in the place of those of a Jenga node before.

    The wrapper goes before all others, so that they see every stage as a run of its own: other packs keep state there.
    """
    patched.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, runs.RUN_KEY)
    others = patched.wrappers.get(WrappersMP.OUTER_SAMPLE, {})
    patched.wrappers[WrappersMP.OUTER_SAMPLE] = {runs.RUN_KEY: [outer_sample(settings, node_id)], **others}
