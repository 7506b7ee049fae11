"""The inputs of Jenga Attention but its model, in the order by which saved workflows keep their values."""

from comfy_api.v0_0_2 import io

from jenga.carving.config import RESIDUAL_BITS
from jenga.runtime import quality_words
from jenga.runtime.qualities import ANCHORED_QUALITIES, QUALITIES
from jenga.sampling.presets import FIRST_STEP

from . import inputs, widgets

CUSTOM = "custom"
NO_ANCHORS = "off"
DISTANCES = {NO_ANCHORS: None, FIRST_STEP: 0, **{str(distance): distance for distance in (2, 3, 4, 6, 8, 12, 16)}}
WITH_ANCHORS = (
    {"quality": list(ANCHORED_QUALITIES)},
    {"quality": [CUSTOM], "anchor_distance": [name for name in DISTANCES if name != NO_ANCHORS]},
)


def every() -> list[io.Input]:
    """All of them."""
    return [*_kept(), *_blocks(), *_where(), *_how(), *_quality(), *_devices(), inputs.precision()]


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
            extra_dict=widgets.counts_with(*WITH_ANCHORS),
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
            extra_dict=widgets.counts_with(*WITH_ANCHORS),
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
