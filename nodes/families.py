"""Which diffusion models are carved, and how their tokens lie. One row per class of ComfyUI; all others stay dense."""

from jenga.patch import Family, latent_grid


def _patch_grid(diffusion_model, latent_shape):
    return latent_grid(tuple(diffusion_model.patch_size), latent_shape)


_WAN = Family("Wan", _patch_grid)

FAMILIES: dict[str, Family] = {
    "WanModel": _WAN,
    "VaceWanModel": _WAN,
    "HunyuanVideo": Family("HunyuanVideo", _patch_grid, text_first=True),
}


def family_of(model) -> Family | None:
    """The row of a MODEL's diffusion model; None where there is none. Hunyuan's image models have 2-D patches."""
    diffusion_model = model.model.diffusion_model
    family = FAMILIES.get(type(diffusion_model).__name__)
    return family if family and len(getattr(diffusion_model, "patch_size", ())) == 3 else None


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
