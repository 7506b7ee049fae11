"""Jenga Attention: MODEL in, MODEL out, with the self-attention over video tokens carved."""

import dataclasses

from comfy_api.v0_0_2 import io

import jenga
from jenga.runtime.devices import parse_devices
from jenga.runtime.qualities import QUALITIES
from jenga.runtime.settings import CarvingSettings, parse_blocks

from .host import attention_inputs, runs, status, widgets
from .host.attention_inputs import CUSTOM, DISTANCES, NO_ANCHORS
from .host.families import words
from .host.override import AttentionPatch
from .host.patching import patch_model


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
            inputs=[io.Model.Input("model"), *attention_inputs.every()],
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
        if compensation == "mean" and int(tail_block_size) > int(kv_block_size):
            remarks.append(f"tail_block_size is at most kv_block_size: {kv_block_size}, not {tail_block_size}")
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
