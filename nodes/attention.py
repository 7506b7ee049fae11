"""Jenga Attention: MODEL in, MODEL out, with the self-attention over video tokens carved."""

import dataclasses

from comfy.patcher_extension import WrappersMP
from comfy_api.v0_0_2 import io

import jenga
from jenga.carving.config import RESIDUAL_BITS
from jenga.runtime.anchors import relative_cost
from jenga.runtime.qualities import QUALITIES
from jenga.runtime.settings import CarvingSettings, parse_blocks

from .host import runs, status, widgets
from .host.families import CARVED, family_of, model_name, words
from .host.override import CARVED_KEY, AttentionPatch
from .host.private import OVERRIDE
from .host.unpatch import without_carving

CUSTOM = "custom"
NO_ANCHORS = "off"
DISTANCES = {NO_ANCHORS: None, "first step": 0, **{str(distance): distance for distance in (2, 3, 4, 6, 8, 12, 16)}}

ANCHORED = tuple(name for name, quality in QUALITIES.items() if quality.anchors)


def quality_help() -> str:
    """The tooltip of `quality`: what each choice computes and needs."""
    lines = ["Attention work in a run of 30 steps, against dense."]
    for name, quality in QUALITIES.items():
        tail = 1 / 64
        if not quality.anchors:
            lines.append(
                f"{name}: {quality.density + tail:.0%}. Keeps {quality.density:.0%} of the blocks; no anchors."
            )
            continue
        long, few = quality.anchors
        work = relative_cost(30, 40, long.distance, long.density + tail)
        lines.append(
            f"{name}: {work:.0%}. Keeps {long.density:.0%}, and each layer is dense on every {long.distance}th step, "
            f"in turns; below {long.min_steps} steps at one size on the first alone, keeping {few.density:.0%}; below "
            f"{few.min_steps} on none, keeping {quality.density:.0%}."
        )
    lines.append("custom: density and anchor_distance below.")
    lines.append(
        "Anchors need memory in proportion to tokens and width: 0.18 GB per layer and conditioning for a 720p "
        "HunyuanVideo clip. With anchors a sampler preset's kept shares do not count."
    )
    return "\n".join(lines)


class JengaAttention(io.ComfyNode):
    """Patches a clone of the model; the model that came in is left as it is."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JengaAttention",
            display_name="Jenga Attention",
            category="Jenga",
            description="Every block of video tokens attends only to the blocks that matter; what is dropped stays "
            f"represented by its means. {words.carved()}; any other model passes through dense.",
            search_aliases=["jenga", "sparse attention", "block sparse", "attention carving", "faster video"],
            inputs=[
                io.Model.Input("model"),
                io.Float.Input(
                    "density",
                    default=0.2,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    extra_dict=widgets.shown_with(quality=[CUSTOM]),
                    tooltip="For quality custom. Keeps about this share of key blocks for every block of queries. 1.0 "
                    "is dense attention. Without anchors a preset of the Progressive Resolution Sampler sets its own "
                    "for each stage.",
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
                    extra_dict=widgets.counts_with(compensation=["mean"]),
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
                io.Combo.Input(
                    "quality",
                    options=[*QUALITIES, CUSTOM],
                    default="balanced",
                    optional=True,
                    tooltip=quality_help(),
                ),
                io.Combo.Input(
                    "anchor_distance",
                    options=list(DISTANCES),
                    default=NO_ANCHORS,
                    optional=True,
                    advanced=True,
                    extra_dict=widgets.shown_with(quality=[CUSTOM]),
                    tooltip="For quality custom. 4: each layer is dense on every fourth step, the layers taking turns, "
                    "and in between it adds what carving missed there. Smaller is closer to dense and slower.",
                ),
                io.Combo.Input(
                    "residual_bits",
                    options=[str(bits) for bits in RESIDUAL_BITS],
                    default="4",
                    optional=True,
                    advanced=True,
                    extra_dict=widgets.counts_with(quality=[*ANCHORED, CUSTOM]),
                    tooltip="How exactly anchors keep what carving missed. 8 and 16 take two and four times the memory "
                    "of 4.",
                ),
                io.Float.Input(
                    "anchor_memory",
                    default=0.0,
                    min=0.0,
                    max=1024.0,
                    step=0.5,
                    optional=True,
                    advanced=True,
                    extra_dict=widgets.counts_with(quality=[*ANCHORED, CUSTOM]),
                    tooltip="GB that anchors may take on the GPU (on a CPU: of its memory). 0: 25 % of what is free. "
                    "Beyond that they lie in host memory; layers for which there is no room carve without anchors, "
                    "and the node says so.",
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
        quality=CUSTOM,  # what a prompt meant that was saved before there was a choice
        anchor_distance=NO_ANCHORS,
        residual_bits="4",
        anchor_memory=0.0,
    ) -> io.NodeOutput:
        if not enabled:
            status.say(cls.hidden.unique_id, "off: the model is as it came")
            return io.NodeOutput(model)
        remarks = widgets.idle(
            cls,
            density=density,
            tail_block_size=tail_block_size,
            compensation=compensation,
            quality=quality,
            anchor_distance=anchor_distance,
            residual_bits=residual_bits,
            anchor_memory=anchor_memory,
        )
        if quality != CUSTOM:
            density, anchors = QUALITIES[quality].density, QUALITIES[quality].anchors
        else:
            distance = DISTANCES[anchor_distance]
            anchors = () if distance is None else (jenga.AnchorConfig(distance),)
        memory = int(anchor_memory * 2**30) or None
        anchors = tuple(dataclasses.replace(one, residual_bits=int(residual_bits), memory=memory) for one in anchors)
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
            anchors=anchors,
            dense_blocks=parse_blocks(dense_blocks),
            start_percent=start_percent,
            end_percent=end_percent,
            min_tokens=min_tokens,
        )
        patched = patch_model(model, settings, cls.hidden.unique_id)
        if remarks:
            runs.report_slot(patched).notes += remarks
            status.say(cls.hidden.unique_id, "; ".join(remarks))
        return io.NodeOutput(patched)


def patch_model(model, settings: CarvingSettings, node_id: str | None):
    """A clone of a MODEL whose attention is carved; for a model outside the table a clone that only says so.

    A Jenga patch that is there already is replaced. Raises RuntimeError for an unknown model with config.strict.
    """
    patched = without_carving(model)
    slot = runs.ReportSlot()
    patched.set_attachments(runs.ATTACHMENT, slot)
    options = patched.model_options["transformer_options"]

    family = family_of(model)
    if family is None:
        reason = f"{model_name(model)} runs dense: Jenga Attention knows {', '.join(CARVED)}"
        if settings.config.strict:
            raise RuntimeError(f"Jenga Attention: model must be one that it knows, got {reason}")
        slot.notes.append(reason)
        status.warn(node_id, reason)
    else:
        patch = AttentionPatch(settings, options.get(OVERRIDE))
        options[OVERRIDE] = patch.override
        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, CARVED_KEY, patch.apply_model)
    wrapper = runs.outer_sample(slot, lambda report: status.say(node_id, report.line()))
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, CARVED_KEY, wrapper)
    return patched
