"""A large model with random weights as benchmarks.host.preset_runs takes its host: any row of it runs, and is timed."""

import copy

import torch

from benchmarks.host import video_models
from benchmarks.host.meter import Meter, Times
from benchmarks.host.sampling import MIN_TOKENS, SamplingHost
from benchmarks.host.video_models import VideoModel


class WholeModel(SamplingHost):
    """times: of the last run. fp8: weights in FP8, and ComfyUI's fast products of them where the device has these."""

    def __init__(self, video: VideoModel, fp8: bool = False, tiny: bool = False):
        self.video, self.model = video, video_models.build(video, torch.bfloat16, fp8)
        self.device = self.model.load_device
        self.min_tokens = 0 if tiny else MIN_TOKENS
        self.times: Times | None = None
        self._latest: list[Meter] = []  # ComfyUI takes a loaded MODEL that nobody holds any more for a leak

    def first_blocks_only(self) -> "WholeModel":
        """The same with one transformer block of each kind: all shapes of the whole, for a warm-up."""
        short = copy.copy(self)
        short.model = video_models.first_blocks_only(self.model, self.video)
        return short

    def latent(self) -> torch.Tensor:
        return torch.zeros(self.video.latent_shape)

    def conditions(self, prompt: int) -> tuple[list, list]:
        conditioning = video_models.conditioning(self.video)
        return conditioning, conditioning

    def sample(self, model, prompt: int, steps: int) -> torch.Tensor:
        stock = super().sample
        return self._measured(model, lambda patcher: stock(patcher, prompt, steps))

    def sample_progressive(self, model, prompt: int, steps: int, **inputs) -> torch.Tensor:
        progressive = super().sample_progressive
        return self._measured(model, lambda patcher: progressive(patcher, prompt, steps, **inputs))

    def _measured(self, model, sample) -> torch.Tensor:
        """Raises RuntimeError for an output that is not finite, and where weights were not on the device."""
        meter = Meter(model)
        out, self.times = meter.run(lambda: sample(meter.patcher), self.device)
        self._latest[:] = [meter]  # the one before is let go now that this one is loaded
        if not out.isfinite().all():
            raise RuntimeError(f"{self.video.title}: the output must be finite, got nan or inf")
        if self.model.model.model_lowvram:
            raise RuntimeError(f"{self.video.title}: all weights must be on the device, got some offloaded by ComfyUI")
        return out
