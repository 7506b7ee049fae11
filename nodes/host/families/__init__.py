"""Which video models Jenga knows. A family is one file of this folder and its place in FAMILIES. The layout of any
other model is looked for when it runs, and the Jenga node runs it at one size.

Nothing here needs ComfyUI before there is a model, so that the documents can be made from these rows without it.
"""

from collections.abc import Mapping

from jenga.runtime.layout import TokenLayout, latent_grid

from . import cogvideox, cosmos, hunyuan_video, kandinsky5, ltx, minimax_h3, mochi, wan
from .family import CARRIED, Family, patch_of

FAMILIES: tuple[Family, ...] = (
    wan.FAMILY,
    wan.CAUSAL,
    hunyuan_video.FAMILY,
    ltx.LTX_VIDEO,
    ltx.LTX_2,
    cogvideox.FAMILY,
    kandinsky5.FAMILY,
    cosmos.FAMILY,
    mochi.FAMILY,
    minimax_h3.FAMILY,
)


def host_family(diffusion_model) -> Family | None:
    """The family that holds a diffusion model of ComfyUI; None where none does."""
    return next((family for family in FAMILIES if family.holds(diffusion_model)), None)


def layout_of(diffusion_model, latent_shape: tuple[int, ...], arguments: Mapping[str, object]) -> TokenLayout | None:
    """Where the tokens of a model call lie; None where no family says it. arguments: the call's, by name."""
    family, patch = host_family(diffusion_model), patch_of(diffusion_model)
    if family is None or family.tokens is None or patch is None:
        return None
    return family.tokens(diffusion_model, latent_grid(patch, latent_shape), arguments)


def dense_reason(model) -> str:
    """Why the attention of a MODEL stays dense, where that is known before it runs; empty where it is not."""
    family = host_family(model.model.diffusion_model)
    if family is not None:
        return family.dense_reason
    dimensions = getattr(model.model.latent_format, "latent_dimensions", 3)
    return "" if dimensions == 3 else "its latent is no video"


def no_stages_reason(model) -> str:
    """Why the Jenga node runs neither stages nor step reuse on a MODEL; empty where it does."""
    family = host_family(model.model.diffusion_model)
    if family is None:
        return f"nobody knows what of the conditions of {model_name(model)} follows the size of its latent"
    return f"{model_name(model)} has no stages and no step reuse: {family.no_stages}" if family.no_stages else ""


def condition_rules(model) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Conditions that a stage of a MODEL gets at its own size, with their interpolation, and those that keep every step
    at full size. Models that no family holds take conditions of the same names, so what all families say counts
    for them.
    """
    own = getattr(host_family(model.model.diffusion_model), "resized_here", {})
    resized = {key: mode for family in FAMILIES for key, mode in family.resized.items()}
    fixed = dict.fromkeys(key for family in FAMILIES for key in (*family.fixed, *family.resized_here) if key not in own)
    return {**resized, **own}, tuple(fixed)


def packed_reason(model) -> str:
    """Why a latent of several parts cannot change its size between two stages; empty where it can."""
    family = host_family(model.model.diffusion_model)
    if family is None or family.other_parts is None:
        return f"the latent has several parts, which Jenga does not know of {model_name(model)}"
    return ""


def carries_parts(model) -> bool:
    """Whether the parts beside the video go on as they were sampled when a stage ends."""
    family = host_family(model.model.diffusion_model)
    return family is not None and family.other_parts == CARRIED


def preset_family(model) -> str:
    """The row of jenga.STAGES whose schedules were published for this MODEL."""
    family = host_family(model.model.diffusion_model)
    return family.schedule(model.model.diffusion_model) if family else "any"


def patch_sides(model) -> tuple[int, int]:
    """Latent rows and columns that a size must be a multiple of: one patch, or what the family says; 8 where the model
    does not say (the depth of a U-Net).
    """
    family, patch = host_family(model.model.diffusion_model), patch_of(model.model.diffusion_model)
    if family is not None and (sides := family.sides(model.model.diffusion_model)):
        return sides
    return patch[1:] if patch else (8, 8)


def model_name(model) -> str:
    return type(model.model.diffusion_model).__name__
