"""Wan 2.1 and 2.2: the video alone in self-attention, text by cross-attention."""

from collections.abc import Callable

import torch

from jenga.sampling.published_reuse import WAN_COEFFICIENTS

from .family import Family, PublishedReuse, TokenFamily, patch_grid

# By the width of the transformer. Wan 2.2's 14B text-to-video experts have that of 2.1 and cannot be told from it.
TEXT_TO_VIDEO = {1536: "Wan 1.3B", 5120: "Wan 14B"}
IMAGE_TO_VIDEO = {5120: ("Wan I2V 480P", "Wan I2V 720P")}
AREA_BETWEEN = ((60 * 104) * (90 * 160)) ** 0.5  # latent rows x columns: as far from 480P as from 720P


def schedule(diffusion_model) -> str:
    return "wan-14b" if diffusion_model.dim >= 5120 else "wan-1.3b"


def published_name(diffusion_model, size: tuple[int, int]) -> str | None:
    """The key of WAN_COEFFICIENTS; None where nothing was published.

    Wan 2.1's image-to-video models alone have an image embedding; their two resolutions share one shape, so the run's
    says which is meant.
    """
    model = diffusion_model
    if type(model).__name__ != "WanModel":
        return None
    if model.in_dim == model.out_dim == 16:
        return TEXT_TO_VIDEO.get(model.dim)
    if model.in_dim == 36 and model.img_emb is not None and model.dim in IMAGE_TO_VIDEO:
        return IMAGE_TO_VIDEO[model.dim][size[0] * size[1] > AREA_BETWEEN]
    return None


def time_signal(patcher) -> Callable[[float, torch.device], torch.Tensor]:
    """sigma, device -> the projected time modulation [1, 6 * dim] that a Wan model adds there, in float32."""
    from comfy.ldm.wan.model import sinusoidal_embedding_1d  # without it this rule alone is missing

    sampling = patcher.get_model_object("model_sampling")

    def signal(sigma: float, device: torch.device) -> torch.Tensor:
        model = patcher.model.diffusion_model
        time = sampling.timestep(torch.tensor([sigma], device=device)).float()
        dtype = patcher.model.manual_cast_dtype or patcher.model.get_dtype()  # what the model computes in
        embedded = model.time_embedding(sinusoidal_embedding_1d(model.freq_dim, time).to(dtype))
        return model.time_projection(embedded).float()

    return signal


FAMILY = Family(
    title="Wan 2.1 and 2.2",
    models="text and image to video, VACE, 2.2 with two experts",
    classes=("WanModel", "VaceWanModel"),
    tokens=TokenFamily("Wan", patch_grid),
    schedule=schedule,
    reuse=PublishedReuse(WAN_COEFFICIENTS, published_name, time_signal),
    resized={
        "vace_frames": "bilinear",
        "vace_mask": "nearest-exact",  # 64 channels of yes or no
        "time_dim_concat": "bilinear",
    },
    # Of models that are made of Wan too and are not carved: Fun, Animate, S2V, HuMo.
    fixed=(
        "reference_latents",
        "reference_latent",
        "reference_motion",
        "context_latents",
        "control_video",
        "camera_conditions",
        "pose_video_latent",
        "face_video_pixels",
        "driving_mask_28ch",
    ),
)
