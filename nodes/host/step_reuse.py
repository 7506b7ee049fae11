"""Step reuse on the nodes: its words, and the rule of the adaptive kind for a model.

Published coefficients where there are any (Wan 2.1), for every other model the change of its input.
"""

from collections.abc import Callable

import torch

from jenga.sampling.published_reuse import WAN_COEFFICIENTS
from jenga.sampling.reuse_rules import MeasuredRateRule, PublishedRule, ReuseRule

from .families import model_name

CHOICES = ("from preset", "off", "static", "adaptive")
THRESHOLD = 0.15  # of the published Wan presets; with the other rule better than static at fewer calls (RESULTS.md)
TOOLTIP = (
    "static: in the middle of the run every second or third step repeats the model's last output; below 12 steps all "
    "are computed. adaptive: a step repeats it while the output is expected to have changed by less than "
    "reuse_threshold: by the published coefficients for Wan 2.1, by the change of the model's input for any other "
    "model; the node says which. from preset: static, but off with few-step and custom."
)
THRESHOLD_TOOLTIP = (
    "adaptive: 0.15 calls the model again before its output is expected to have changed by 15 %, added up over the "
    "steps that repeat it. The same number for either rule. Smaller values reuse fewer steps, 0 reuses none."
)

# By the width of the transformer. Wan 2.2's 14B text-to-video experts have that of 2.1 and cannot be told from it.
TEXT_TO_VIDEO = {1536: "Wan 1.3B", 5120: "Wan 14B"}
IMAGE_TO_VIDEO = {5120: ("Wan I2V 480P", "Wan I2V 720P")}
AREA_BETWEEN = ((60 * 104) * (90 * 160)) ** 0.5  # latent rows x columns: as far from 480P as from 720P


def adaptive_rule(patcher, size: tuple[int, int], threshold: float, steps: int) -> tuple[ReuseRule, str]:
    """The rule for a run of `steps` steps, and the words for it.

    size: latent rows and columns at full size. threshold: relative change of the model's output.
    """
    name = published_name(patcher, size)
    if name is None:
        return MeasuredRateRule(threshold, steps), "by the change of the model's input"
    rule = PublishedRule(WAN_COEFFICIENTS[name], time_signal(patcher), threshold, steps)
    return rule, f"by the published {name} coefficients"


def published_name(patcher, size: tuple[int, int]) -> str | None:
    """The key of WAN_COEFFICIENTS for this model; None where nothing was published for it.

    Wan 2.1's image-to-video models alone have an image embedding; their two resolutions share one shape, so the run's
    says which is meant.
    """
    model = patcher.model.diffusion_model
    if model_name(patcher) != "WanModel":
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
