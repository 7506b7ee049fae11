"""The stock sampler and the Progressive Resolution Sampler on a MODEL, called as their nodes call them."""

import torch

from benchmarks.host.library import pack_module, run_node

MIN_TOKENS = 4096  # the nodes' default, for a model at full size


class Noise:
    """What RandomNoise hands to a sampler node."""

    def __init__(self, seed: int):
        self.seed = seed

    def generate_noise(self, latent: dict) -> torch.Tensor:
        import comfy.sample

        return comfy.sample.prepare_noise(latent["samples"], self.seed)


class SamplingHost:
    """What benchmarks.host.preset_runs asks of a host. Sampling is that of KSampler: euler, scheduler simple, CFG 1.

    model: the MODEL that rows patch. device: where it computes. min_tokens: of the nodes. The seed of a prompt is its
    number.
    """

    model: object
    device: torch.device
    min_tokens: int

    def latent(self) -> torch.Tensor:
        """An empty latent [1, C, T, H, W]."""
        raise NotImplementedError

    def conditions(self, prompt: int) -> tuple[list, list]:
        """CONDITIONING of a prompt, positive and negative."""
        raise NotImplementedError

    @torch.inference_mode()
    def sample(self, model, prompt: int, steps: int) -> torch.Tensor:
        """KSampler: the latent of a prompt, by number."""
        import comfy.sample

        latent = self.latent()
        noise = comfy.sample.prepare_noise(latent, prompt)
        options = {"denoise": 1.0, "disable_pbar": True, "seed": prompt}
        conditions = self.conditions(prompt)
        return comfy.sample.sample(model, noise, steps, 1.0, "euler", "simple", *conditions, latent, **options)

    @torch.inference_mode()
    def sample_progressive(self, model, prompt: int, steps: int, **inputs) -> torch.Tensor:
        """Progressive Resolution Sampler on the same noise and schedule; inputs: those of the node."""
        import comfy.samplers

        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(*self.conditions(prompt))
        guider.set_cfg(1.0)
        output, _ = run_node(
            pack_module("nodes.sampler").JengaProgressiveSampler,
            noise=Noise(prompt),
            guider=guider,
            sampler=comfy.samplers.sampler_object("euler"),
            sigmas=self.sigmas(model, steps),
            latent_image={"samples": self.latent()},
            **inputs,
        )
        return output["samples"]

    def sigmas(self, model, steps: int) -> torch.Tensor:
        """The schedule of both samplers, on the CPU."""
        import comfy.samplers

        return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps).cpu()
