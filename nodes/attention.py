"""Jenga Attention: MODEL in, MODEL out, with the self-attention over video tokens carved."""

from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io

import jenga
from jenga.patch import FORWARD_KEY, AttentionPatch, CarvingSettings, parse_layers

from . import runs, status
from .families import FAMILIES, family_of, model_name

OVERRIDE = "optimized_attention_override"


class JengaAttention(io.ComfyNode):
    """Patches a clone of the model; the model that came in is left as it is."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JengaAttention",
            display_name="Jenga Attention",
            category="Jenga",
            description="Every block of video tokens attends only to the blocks that matter; what is dropped stays "
            "represented by its means. Wan and HunyuanVideo; any other model passes through dense.",
            search_aliases=["jenga", "sparse attention", "block sparse", "attention carving", "faster video"],
            inputs=[
                io.Model.Input("model"),
                io.Float.Input(
                    "density",
                    default=0.2,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Keeps about this share of key blocks for every block of queries. 1.0 is dense attention. "
                    "A preset of the Progressive Resolution Sampler sets its own for each stage.",
                ),
                io.Float.Input(
                    "top_p",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Keeps more blocks until they hold this much of the estimated attention. 0 adds none.",
                ),
                io.Combo.Input(
                    "kv_block_size",
                    options=["64", "128"],
                    default="64",
                    advanced=True,
                    tooltip="Tokens that are kept or dropped together. 64 is closer to dense, 128 a little faster.",
                ),
                io.Combo.Input(
                    "tail_block_size",
                    options=["32", "64", "128"],
                    default="64",
                    advanced=True,
                    tooltip="Dropped tokens that share one mean. Smaller is closer to dense and slower. "
                    "At most kv_block_size.",
                ),
                io.Combo.Input(
                    "compensation",
                    options=["mean", "none"],
                    default="mean",
                    advanced=True,
                    tooltip="mean: dropped tokens stay in the softmax as means. none: they are gone, as published.",
                ),
                io.Combo.Input(
                    "curve",
                    options=["gilbert3d", "gilbert2d_sliced", "raster"],
                    default="gilbert3d",
                    advanced=True,
                    tooltip="The order in which tokens form blocks. gilbert3d makes the most compact blocks.",
                ),
                io.String.Input(
                    "dense_blocks",
                    default="",
                    advanced=True,
                    tooltip="Transformer blocks that stay dense, like 0, 1, 38-39.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Carves from this part of the noise schedule on.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Carves up to this part of the noise schedule.",
                ),
                io.Int.Input(
                    "min_tokens",
                    default=4096,
                    min=0,
                    max=1 << 30,
                    advanced=True,
                    tooltip="Clips with fewer video tokens stay dense: there is nothing to gain.",
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
                    tooltip="A fallback becomes an error instead of a line on the node.",
                ),
                io.Boolean.Input(
                    "enabled",
                    default=True,
                    advanced=True,
                    tooltip="Off: the model passes through untouched. For A/B without rewiring.",
                ),
            ],
            outputs=[io.Model.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model,
        density,
        top_p,
        kv_block_size,
        tail_block_size,
        compensation,
        curve,
        dense_blocks,
        start_percent,
        end_percent,
        min_tokens,
        backend,
        strict,
        enabled,
    ) -> io.NodeOutput:
        if not enabled:
            status.say(cls.hidden.unique_id, "off: the model is as it came")
            return io.NodeOutput(model)
        settings = CarvingSettings(
            config=jenga.JengaConfig(
                density=density,
                top_p=top_p,
                kv_block_size=int(kv_block_size),
                tail_block_size=min(int(tail_block_size), int(kv_block_size)),
                compensation=compensation,
                curve=curve,
                backend=backend,
                strict=strict,
            ),
            dense_layers=parse_layers(dense_blocks),
            start_percent=start_percent,
            end_percent=end_percent,
            min_tokens=min_tokens,
        )
        return io.NodeOutput(patch_model(model, settings, cls.hidden.unique_id))


def patch_model(model, settings: CarvingSettings, node_id: str | None):
    """A clone of a MODEL whose attention is carved; for a model outside the table a clone that only says so.

    A Jenga patch that is there already is replaced. Raises RuntimeError for an unknown model with config.strict.
    """
    patched = model.clone()
    slot = runs.ReportSlot()
    patched.set_attachments(runs.ATTACHMENT, slot)
    for kind in (WrappersMP.OUTER_SAMPLE, WrappersMP.APPLY_MODEL):
        patched.remove_wrappers_with_key(kind, FORWARD_KEY)
    options = patched.model_options["transformer_options"]
    previous = options.pop(OVERRIDE, None)
    if hasattr(previous, "jenga_patch"):
        previous = previous.jenga_patch.previous
    if previous is not None:
        options[OVERRIDE] = previous

    family = family_of(model)
    if family is None:
        reason = f"{model_name(model)} runs dense: Jenga Attention knows {', '.join(FAMILIES)}"
        if settings.config.strict:
            raise RuntimeError(f"Jenga Attention: model must be one that it knows, got {reason}")
        slot.notes.append(reason)
        status.warn(node_id, reason)
    else:
        patch = AttentionPatch(settings, family, previous)
        options[OVERRIDE] = patch.override
        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, FORWARD_KEY, patch.apply_model)
    wrapper = runs.outer_sample(slot, lambda report: status.say(node_id, report.line()))
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, FORWARD_KEY, wrapper)
    return patched
