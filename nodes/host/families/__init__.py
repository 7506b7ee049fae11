"""Which video models Jenga knows. A family is one file of this folder and its place in FAMILIES; what no family holds
stays dense and runs at one size in the Jenga node.

Nothing here imports ComfyUI before a model is there, so that the documents can be made from these rows without it.
"""

from . import hunyuan_video, ltx2, minimax_h3, wan
from .family import Family, TokenFamily

FAMILIES: tuple[Family, ...] = (wan.FAMILY, hunyuan_video.FAMILY, ltx2.FAMILY, minimax_h3.FAMILY)
CARVED = tuple(name for family in FAMILIES if family.tokens for name in family.classes)  # ComfyUI's classes

# Of all families: models that no family holds take the same conditions.
RESIZED = {key: mode for family in FAMILIES for key, mode in family.resized.items()}
FIXED = tuple(dict.fromkeys(key for family in FAMILIES for key in family.fixed))


def host_family(diffusion_model) -> Family | None:
    """The family that holds a diffusion model of ComfyUI; None where none does."""
    return next((family for family in FAMILIES if family.holds(diffusion_model)), None)


def family_of_module(diffusion_model) -> TokenFamily | None:
    """How the tokens of a diffusion model lie; None where its attention stays dense."""
    family = host_family(diffusion_model)
    return family.tokens if family else None


def family_of(model) -> TokenFamily | None:
    """The same of a MODEL."""
    return family_of_module(model.model.diffusion_model)


def has_stages(model) -> bool:
    """Whether the Jenga node runs stages and step reuse on a MODEL."""
    family = host_family(model.model.diffusion_model)
    return family is not None and family.stages


def packed_reason(model) -> str:
    """Why no part of a latent of several parts can be noised anew between two stages; empty where it can."""
    family = host_family(model.model.diffusion_model)
    if family is None or family.packed_reason is None:
        return f"the latent has several parts, which Jenga does not know of {model_name(model)}"
    return family.packed_reason


def preset_family(model) -> str:
    """The row of jenga.STAGES whose schedules were published for this MODEL."""
    family = host_family(model.model.diffusion_model)
    return family.schedule(model.model.diffusion_model) if family else "any"


def patch_sides(model) -> tuple[int, int]:
    """Latent rows and columns in one patch; 8 where the model does not say (the depth of a U-Net)."""
    diffusion_model = model.model.diffusion_model
    for owner in (diffusion_model, getattr(diffusion_model, "patchifier", None)):  # LTX has it in its patchifier
        patch = getattr(owner, "patch_size", None)
        if patch is not None:
            return (patch, patch) if isinstance(patch, int) else tuple(patch)[-2:]
    return 8, 8


def model_name(model) -> str:
    return type(model.model.diffusion_model).__name__
