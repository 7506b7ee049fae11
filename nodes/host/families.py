"""Which diffusion models are carved, and how their tokens lie. One row per class of ComfyUI; all others stay dense.

Stages need less: what a patch is, and whether the parts of a latent share the sampler's noise level.
"""

from jenga.runtime.patch import Family, latent_grid


def _patch_grid(diffusion_model, latent_shape):
    return latent_grid(tuple(diffusion_model.patch_size), latent_shape)


_WAN = Family("Wan", _patch_grid)

FAMILIES: dict[str, Family] = {
    "WanModel": _WAN,
    "VaceWanModel": _WAN,
    "HunyuanVideo": Family("HunyuanVideo", _patch_grid, text_first=True),
}
_LTX2 = "LTXAVModel"  # video with audio; its attention stays dense


def family_of(model) -> Family | None:
    """The row of a MODEL's diffusion model; None where there is none. Hunyuan's image models have 2-D patches."""
    diffusion_model = model.model.diffusion_model
    family = FAMILIES.get(type(diffusion_model).__name__)
    return family if family and len(getattr(diffusion_model, "patch_size", ())) == 3 else None


def has_stages(model) -> bool:
    """Whether the Jenga node runs stages and step reuse: every family of the table does, and LTX-2."""
    return family_of(model) is not None or model_name(model) == _LTX2


def packed_reason(model) -> str:
    """Why no part of a latent of several parts can be noised anew between two stages; empty where it can."""
    name = model_name(model)
    if name == _LTX2:
        return ""
    if name == "MiniMaxH3Model":
        # Its audio is less noisy than the sampler's sigma says, and what the sampler sees is no clean prediction of it.
        return "the latent holds video and audio, and MiniMax H3 noises audio on a schedule of its own"
    return f"the latent has several parts, which Jenga does not know of {name}"


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


def preset_family(model) -> str:
    """The row of jenga.STAGES whose schedules were published for this model."""
    name = model_name(model)
    if name == "HunyuanVideo":
        # Models that take the image as a condition have channels for it; the others are sampled like text to video.
        diffusion_model = model.model.diffusion_model
        return "hunyuan-video-i2v" if diffusion_model.in_channels > diffusion_model.out_channels else "hunyuan-video"
    if FAMILIES.get(name) is _WAN:
        return "wan-14b" if model.model.diffusion_model.dim >= 5120 else "wan-1.3b"
    return "any"
