"""Jenga: MODEL in, MODEL out. Carving, stages and step reuse behind one preset, for the stock samplers."""

from comfy_api.v0_0_2 import io

import jenga
from jenga.runtime.qualities import ANCHORED_QUALITIES, QUALITIES
from jenga.runtime.settings import CarvingSettings, parse_blocks
from jenga.sampling.presets import ROWS, dial_of

from .host import inputs, private, runs, status, widgets
from .host.families import no_stages_reason, words
from .host.override import AttentionPatch
from .host.patching import patch_model
from .host.stage_settings import StageSettings
from .host.stages import outer_sample
from .host.step_reuse import FROM_PRESET

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
            f"smaller latent, and some steps repeat the model's last output. {words.carved()}. Any other video model "
            "is carved where its tokens are found, at one size.",
            search_aliases=["jenga preset", "faster video", "sparse attention", "progressive resolution", "step cache"],
            inputs=[
                io.Model.Input("model"),
                inputs.preset(ROWS, "balanced", "off", "the model as it came."),
                inputs.step_reuse(advanced=True),
                inputs.reuse_threshold(optional=False),
                inputs.dense_blocks(),
                inputs.min_tokens("A stage with fewer video tokens than this is not carved: there is nothing to gain."),
                inputs.backend(),
                inputs.strict(),
                io.Combo.Input(
                    "quality",
                    options=[FROM_PRESET, *ANCHORED_QUALITIES],
                    default=FROM_PRESET,
                    optional=True,
                    tooltip="How attention is carved. from preset: as it says. The others are those of Jenga "
                    "Attention, by anchors, which take more time and memory; a stage with too few steps for them "
                    "keeps the preset's share.",
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
            config, anchors = jenga.JengaConfig(backend=backend, strict=strict), anchors_of(quality, preset)
            carving = CarvingSettings(config, anchors, dense_blocks=blocks, min_tokens=min_tokens)
            patched = patch_model(model, carving, node_id)
            patched.set_attachments(OWN_CARVING, AttentionPatch.of(patched))
        patched.set_attachments(runs.NOTES, ())
        if reason := no_stages_reason(model):
            remarks.append(f"{used_without_stages(patched, preset, quality)}: {reason}")
            patched.set_attachments(runs.NOTES, tuple(remarks))
        else:
            settings = StageSettings(
                *(preset, None, step_reuse, reuse_threshold),
                notes=tuple(remarks),
                elsewhere=lambda patcher: used_without_stages(patcher, preset, quality),
            )
            add_stages(patched, settings, node_id)
        if remarks:
            status.say(node_id, "; ".join(remarks))
        return io.NodeOutput(patched)


def anchors_of(quality: str, preset: str) -> tuple[jenga.AnchorConfig, ...]:
    """Those of a quality; with none, of the preset."""
    if quality != FROM_PRESET:
        return QUALITIES[quality].anchors
    dial = dial_of(preset)
    return (jenga.AnchorConfig(dial.distance, density=dial.share),) if dial else ()


def used_without_stages(patched, preset: str, quality: str) -> str:
    """What of a Jenga node's choice counts on a MODEL where neither its stages nor its step reuse run."""
    if is_carved_by_a_dial(patched):
        if quality != FROM_PRESET:
            return f"quality {quality} is used, preset {preset} is not"
        if dial_of(preset):
            return f"of preset {preset} only the kept share and the anchors are used"
    return f"preset {preset} is not used"


def is_carved_by_another(model) -> bool:
    """Whether a Jenga Attention node carves a MODEL, and not the Jenga node that put stages on it."""
    return AttentionPatch.of(model) is not None and not is_carved_by_a_dial(model)


def is_carved_by_a_dial(model) -> bool:
    """Whether a MODEL is carved by the patch that a Jenga node put on it."""
    patch = AttentionPatch.of(model)
    return patch is not None and patch is model.attachments.get(OWN_CARVING)


def add_stages(patched, settings: StageSettings, node_id: str | None) -> None:
    """Stages and step reuse for every run of a MODEL, in the place of those of a Jenga node before.

    The wrapper goes before all others, so that they see every stage as a run of its own: other packs keep state there.
    """
    private.unwrap(patched, private.OUTER_SAMPLE, runs.RUN_KEY)
    private.wrap_first(patched, private.OUTER_SAMPLE, runs.RUN_KEY, outer_sample(settings, node_id))
