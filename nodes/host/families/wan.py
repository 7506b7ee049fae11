"""Wan 2.1 and 2.2: self-attention over the video and what belongs to it, text by cross-attention."""

from collections.abc import Callable

import torch

from jenga.carving.config import TokenGrid
from jenga.runtime.layout import TokenLayout, latent_grid
from jenga.sampling.published_reuse import WAN_COEFFICIENTS

from .. import private
from .family import Family, PublishedReuse

# By the width of the transformer. Wan 2.2's 14B text-to-video experts have that of 2.1 and cannot be told from it.
TEXT_TO_VIDEO = {1536: "Wan 1.3B", 5120: "Wan 14B"}
IMAGE_TO_VIDEO = {5120: ("Wan I2V 480P", "Wan I2V 720P")}
AREA_BETWEEN = ((60 * 104) * (90 * 160)) ** 0.5  # latent rows x columns: as far from 480P as from 720P


SCAIL = ("SCAILWanModel", "SCAIL2WanModel")
REFERENCE_BEHIND = ("WanModel_S2V", "HumoWanModel")


def layout(diffusion_model, grid: TokenGrid, arguments) -> TokenLayout:
    """[reference, video, others]. In front is the reference image of Fun models and of SCAIL; subjects, motion, poses
    and the references of other models are behind the video.
    """
    reference = arguments.get("reference_latent")
    if reference is None or type(diffusion_model).__name__ in REFERENCE_BEHIND:
        return TokenLayout(grid)
    if type(diffusion_model).__name__ in SCAIL:
        return TokenLayout(grid, latent_grid(diffusion_model.patch_size, reference.shape).num_tokens)
    if getattr(diffusion_model, "ref_conv", None) is None:  # the model does not look at it
        return TokenLayout(grid)
    _, rows, columns = diffusion_model.patch_size
    return TokenLayout(grid, (reference.shape[-2] // rows) * (reference.shape[-1] // columns))


def schedule(diffusion_model) -> str:
    return "wan-14b" if diffusion_model.dim >= 5120 else "wan-1.3b"


def sides(diffusion_model) -> tuple[int, int] | None:
    """Dancer cuts a frame in eight equal parts, one for each eighth of its music."""
    return (8, 4) if type(diffusion_model).__name__ == "WanDancerModel" else None


def published_name(diffusion_model, size: tuple[int, int]) -> str | None:
    """The key of WAN_COEFFICIENTS; None where nothing was published.

    Of the models with 36 channels only Wan 2.1's image-to-video ones have an image embedding. Those for its two
    resolutions have the same shape, so the size of the run says which is meant.
    """
    model = diffusion_model
    if type(model).__name__ != "WanModel":
        return None
    if model.in_dim == model.out_dim == 16:
        return TEXT_TO_VIDEO.get(model.dim)
    if model.in_dim == 36 and model.img_emb is not None and model.dim in IMAGE_TO_VIDEO:
        return IMAGE_TO_VIDEO[model.dim][size[0] * size[1] > AREA_BETWEEN]
    return None


def time_signal(patcher) -> Callable[[torch.Tensor, torch.device], torch.Tensor]:
    """sigma, device -> the projected time modulation [1, 6 * dim] that a Wan model adds there, in float32."""
    sampling = patcher.get_model_object("model_sampling")

    def signal(sigma: torch.Tensor, device: torch.device) -> torch.Tensor:
        model = patcher.model.diffusion_model
        time = sampling.timestep(sigma.reshape(1).to(device)).float()
        dtype = patcher.model.manual_cast_dtype or patcher.model.get_dtype()  # what the model computes in
        embedded = model.time_embedding(private.wan_time_embedding(model.freq_dim, time).to(dtype))
        return model.time_projection(embedded).float()

    return signal


FAMILY = Family(
    title="Wan 2.1 and 2.2",
    models="text and image to video, 2.2 (two experts), VACE, Fun, Phantom, Camera, S2V, HuMo, SCAIL, Animate, Dancer",
    classes=(
        "WanModel",
        "VaceWanModel",
        "CameraWanModel",
        "AnimateWanModel",
        "WanDancerModel",
        *REFERENCE_BEHIND,
        *SCAIL,
    ),
    tokens=layout,
    schedule=schedule,
    sides=sides,
    reuse=PublishedReuse(WAN_COEFFICIENTS, published_name, time_signal),
    resized={
        "vace_frames": "bilinear",
        "vace_mask": "nearest-exact",  # 64 channels of 0 or 1
        "time_dim_concat": "bilinear",
    },
    # Not among them: the faces of Animate, which have the same size whatever the clip's is.
    resized_here={
        "reference_latents": "bilinear",
        "reference_motion": "bilinear",
        "control_video": "bilinear",
        "camera_conditions": "bilinear",  # rays of pixels, eight for each row and column
        "pose_video_latent": "bilinear",  # SCAIL has it at half the size
        "driving_mask_28ch": "nearest-exact",
        "ref_mask_28ch": "nearest-exact",
    },
    fixed=("reference_latent", "context_latents"),
)

CAUSAL = Family(
    title="Wan, autoregressive",
    models="frames in turn, as in self-forcing",
    classes=("CausalWanModel",),
    dense_reason="it attends what it kept of earlier frames, with fewer queries than keys",
    no_stages="it makes its frames in turn",
)
