"""Jenga Attention: MODEL in, MODEL out, with the self-attention over video tokens carved."""

import dataclasses

from comfy_api.v0_0_2 import io

import jenga
from jenga.carving.config import RESIDUAL_BITS
from jenga.runtime import quality_words
from jenga.runtime.devices import parse_devices
from jenga.runtime.qualities import ANCHORED_QUALITIES, QUALITIES
from jenga.runtime.settings import CarvingSettings, parse_blocks

from .host import inputs, runs, status, widgets
from .host.families import words
from .host.override import AttentionPatch
from .host.patching import patch_model

CUSTOM = "custom"
NO_ANCHORS = "off"
DISTANCES = {NO_ANCHORS: None, "first step": 0, **{str(distance): distance for distance in (2, 3, 4, 6, 8, 12, 16)}}


class JengaAttention(io.ComfyNode):
    """Patches a clone of the model; the model that came in is left as it is."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JengaAttention",
            display_name="Jenga Attention",
            category="Jenga",
            description="Every block of video tokens attends only to the blocks that matter; what is dropped stays "
            f"represented by its means. {words.carved()}; any other video model whose tokens are found when it runs.",
            search_aliases=["jenga", "sparse attention", "block sparse", "attention carving", "faster video"],
            inputs=[
                io.Model.Input("model"),
                *_kept(),
                *_blocks(),
                *_where(),
                *_how(),
                *_quality(),
                *_devices(),
                inputs.precision(),
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
        devices="",
        precision="auto",
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
        if AttentionPatch.of(model) is not None:
            remarks.append("carves in the place of the Jenga node before this one")
        density, anchors = _anchored(quality, density, anchor_distance, residual_bits, anchor_memory)
        settings = CarvingSettings(
            config=_config(
                density, top_p, kv_block_size, tail_block_size, compensation, curve, backend, strict, precision
            ),
            anchors=anchors,
            dense_blocks=parse_blocks(dense_blocks),
            start_percent=start_percent,
            end_percent=end_percent,
            min_tokens=min_tokens,
            devices=parse_devices(devices),
        )
        patched = patch_model(model, settings, cls.hidden.unique_id)
        if remarks:
            runs.report_slot(patched).notes += remarks
            status.say(cls.hidden.unique_id, "; ".join(remarks))
        return io.NodeOutput(patched)


# The widgets in their order, which saved workflows keep values by.


def _kept() -> list[io.Input]:
    """How much is kept."""
    return [
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
    ]


def _blocks() -> list[io.Input]:
    """What is kept together, and what stands for the rest."""
    return [
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
            tooltip="Dropped tokens that share one mean. Smaller is closer to dense and slower. At most kv_block_size.",
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
    ]


def _where() -> list[io.Input]:
    """Which calls are carved."""
    return [
        inputs.dense_blocks(),
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
        inputs.min_tokens("Clips with fewer video tokens stay dense: there is nothing to gain."),
    ]


def _how() -> list[io.Input]:
    """What computes it, and whether it does."""
    return [
        inputs.backend(),
        inputs.strict(),
        io.Boolean.Input(
            "enabled",
            default=True,
            advanced=True,
            tooltip="Off: the model passes through untouched. For A/B without rewiring.",
        ),
    ]


def _quality() -> list[io.Input]:
    """The dial, and the anchors behind it."""
    return [
        io.Combo.Input(
            "quality",
            options=[*QUALITIES, CUSTOM],
            default="balanced",
            optional=True,
            tooltip=quality_words.tooltip(CUSTOM),
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
            extra_dict=widgets.counts_with(quality=[*ANCHORED_QUALITIES, CUSTOM]),
            tooltip="How exactly anchors keep what carving missed. 8 and 16 take two and four times the memory of 4.",
        ),
        io.Float.Input(
            "anchor_memory",
            default=0.0,
            min=0.0,
            max=1024.0,
            step=0.5,
            optional=True,
            advanced=True,
            extra_dict=widgets.counts_with(quality=[*ANCHORED_QUALITIES, CUSTOM]),
            tooltip="GB that anchors may take on the GPU (on a CPU: of its memory). 0: 25 % of what is free. "
            "Beyond that they lie in host memory; layers for which there is no room carve without anchors, "
            "and the node says so.",
        ),
    ]


def _devices() -> list[io.Input]:
    """Who computes it."""
    return [
        io.String.Input(
            "devices",
            default="",
            optional=True,
            advanced=True,
            tooltip="GPUs that share the heads of every attention call: auto for all that the model's GPU reaches "
            "directly, or a list like 0, 1. Blank: the model's GPU alone. For long clips on GPUs with NVLink; the "
            "result is that of one GPU, bit for bit.",
        ),
    ]


def _config(
    density, top_p, kv_block_size, tail_block_size, compensation, curve, backend, strict, precision
) -> jenga.JengaConfig:
    return jenga.JengaConfig(
        density=density,
        top_p=top_p,
        kv_block_size=int(kv_block_size),
        tail_block_size=min(int(tail_block_size), int(kv_block_size)),
        compensation=compensation,
        curve=curve,
        backend=backend,
        strict=strict,
        precision=precision,
    )


def _anchored(
    quality: str, density: float, anchor_distance: str, residual_bits: str, anchor_memory: float
) -> tuple[float, tuple[jenga.AnchorConfig, ...]]:
    """The density and the anchors that a quality, or with `custom` the other widgets, ask for."""
    if quality != CUSTOM:
        density, anchors = QUALITIES[quality].density, QUALITIES[quality].anchors
    else:
        distance = DISTANCES[anchor_distance]
        anchors = () if distance is None else (jenga.AnchorConfig(distance),)
    memory = int(anchor_memory * 2**30) or None
    return density, tuple(dataclasses.replace(one, residual_bits=int(residual_bits), memory=memory) for one in anchors)
