"""Inputs that several nodes have."""

from collections.abc import Sequence

from comfy_api.v0_0_2 import io

from jenga.sampling import preset_words
from jenga.sampling.presets import PresetRow

from .step_reuse import CHOICES, FROM_PRESET, KINDS, THRESHOLD, THRESHOLD_TOOLTIP, TOOLTIP
from .widgets import shown_with


def preset(rows: Sequence[PresetRow], default: str, last: str, words: str) -> io.Combo.Input:
    """These presets and a last choice of the node's own, with the words for that."""
    tooltip = preset_words.tooltip(f"{last}: {words}", rows)
    return io.Combo.Input("preset", options=[*(row.name for row in rows), last], default=default, tooltip=tooltip)


def step_reuse(advanced: bool) -> io.Combo.Input:
    return io.Combo.Input(
        "step_reuse", options=list(CHOICES), default=FROM_PRESET, advanced=advanced or None, tooltip=TOOLTIP
    )


def reuse_threshold(optional: bool) -> io.Float.Input:
    return io.Float.Input(
        "reuse_threshold",
        default=THRESHOLD,
        min=0.0,
        max=1.0,
        step=0.005,
        optional=optional,
        advanced=True,
        extra_dict=shown_with(step_reuse=[name for name, kind in KINDS.items() if kind.has_threshold]),
        tooltip=THRESHOLD_TOOLTIP,
    )


def dense_blocks() -> io.String.Input:
    return io.String.Input(
        "dense_blocks", default="", advanced=True, tooltip="Transformer blocks that stay dense, like 0, 1, 38-39."
    )


def min_tokens(tooltip: str) -> io.Int.Input:
    return io.Int.Input("min_tokens", default=4096, min=0, max=1 << 30, advanced=True, tooltip=tooltip)


def backend() -> io.Combo.Input:
    return io.Combo.Input(
        "backend",
        options=["auto", "native", "flex", "reference"],
        default="auto",
        advanced=True,
        tooltip="auto takes the fastest that can run here. What ran, and why, is on the node.",
    )


def precision() -> io.Combo.Input:
    return io.Combo.Input(
        "precision",
        options=["auto", "16-bit", "int8", "fp8"],
        default="auto",
        optional=True,
        advanced=True,
        tooltip="int8: queries and keys in 8 bits, on NVIDIA GPUs from the RTX 30 series on; no faster on an H100 or "
        "H200. fp8: values in 8 bits besides, on RTX 40, RTX 50, H100 and H200, for head dims of 128 (Wan, "
        "HunyuanVideo): for long clips 1.5 times as fast on an H100 or H200, untimed elsewhere; a little less exact. "
        "Where a model or a GPU cannot, the run ends and says why. auto: fp8 on an H100 or H200 where it is faster, "
        "else 16-bit.",
    )


def strict() -> io.Boolean.Input:
    return io.Boolean.Input(
        "strict",
        default=False,
        advanced=True,
        tooltip="A fallback becomes an error instead of a line on the node.",
    )
