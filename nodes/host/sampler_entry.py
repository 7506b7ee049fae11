"""One entry of ComfyUI's outer_sample; a run of several sizes calls it several times."""

import torch

from . import private, private_options
from .conditions import Conditions
from .latents import LatentParts
from .runs import RUN_KEY


class SamplerEntry:
    """One entry of ComfyUI's outer_sample: its arguments, and that call made again for every stage.

    Latents are in the latent space of the graph. parts: how those that came in are made up.
    """

    def __init__(
        self,
        executor,
        noise,
        latent_image,
        sampler,
        sigmas,
        denoise_mask=None,
        callback=None,
        disable_pbar=False,
        seed=None,
        **kwargs,
    ):
        self.executor, self.guider = executor, executor.class_obj
        self.noise, self.image, self.sampler, self.sigmas = noise, latent_image, sampler, sigmas
        self.mask, self.callback, self.disable_pbar, self.seed = denoise_mask, callback, disable_pbar, seed
        self.kwargs = kwargs  # latent_shapes, which older versions of ComfyUI do not pass
        self.parts = LatentParts(tuple(kwargs.get("latent_shapes") or [latent_image.shape]))
        self.conditions = Conditions(self.guider.model_patcher, self.guider.conds, self.parts.size)

    def sample(self, parts: LatentParts, noise, latent, sampler, sigmas, mask, callback, seed):
        self.guider.conds = self.conditions.at(parts.size)
        kwargs = self.kwargs
        if "latent_shapes" in kwargs:
            kwargs = {**kwargs, "latent_shapes": list(parts.shapes)}
        return self.executor(noise, latent, sampler, sigmas, mask, callback, self.disable_pbar, seed, **kwargs)

    def whole_schedule(self, sigmas: torch.Tensor) -> None:
        """Everything but the sampler sees this schedule, which has all passes; the pass's own stands beside it."""

        def sampler_sample(executor, guider, part, extra_args, *args, **kwargs):
            options = extra_args["model_options"]["transformer_options"]
            options |= {private_options.SCHEDULE: sigmas.to(part), private_options.PASS_SCHEDULE: part}
            return executor(guider, part, extra_args, *args, **kwargs)

        private.wrap_options(self.guider.model_options, private.SAMPLER_SAMPLE, RUN_KEY, sampler_sample)

    def show(self, parts: LatentParts, step: int, x0, x, steps: int) -> None:
        """Call the callback that came in. It unpacks packed latents by their full-size shapes, so it gets that size."""
        if self.callback is None:
            return
        if parts.packed:
            x0, x = (parts.resized(latent, self.parts.size, "bilinear") for latent in (x0, x))
        self.callback(step, x0, x, steps)
