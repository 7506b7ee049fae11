"""Carving in raylight, which runs a model of ComfyUI on one worker process a GPU: `patch` on every worker's MODEL.

raylight exchanges sequence for heads through xfuser and then asks the model's *inner attention*, a processor in the
options of the model call, which is ours here; it sees all tokens of its rank's heads. Only forwards that hand their
options on to attention reach a processor: MiniMax H3's does. Those of Wan, HunyuanVideo, LTX and the others call
attention without the options, in every version read until November 2026, so they are refused with that reason.

| what is not raylight's or ComfyUI's public API | where it is kept | if it is gone |
|---|---|---|
| the processor of a model call | transformer_options["raylight_inner_attention"] | nothing is carved; a run says so |
| the order of MiniMax H3's tokens | minimax_payload["layout"].segments | the run is dense and says so |
| conditioning, noise level, schedule | transformer_options "uuids", "sigmas", "sample_sigmas" | as in the nodes |
"""

import math
from collections.abc import Callable
from contextlib import nullcontext

import torch

from ..carving.config import JengaConfig
from ..report.report import Report
from ..runtime.call import ModelCall
from ..runtime.carved_call import CarvedCall
from ..runtime.layout import TokenLayout, latent_grid
from ..runtime.run import Run, StageState
from ..runtime.session import attend, refuse
from ..runtime.settings import CarvingSettings
from .ranks import shared_run
from .settings import chosen

PROCESSOR = "raylight_inner_attention"
NAME = "jenga:carving"
CARVED = "jenga_carved"  # transformer_options of one model call: its CarvedCall
MODELS = ("MiniMaxH3Model",)
NOT_HANDED_ON = "raylight's forward of this model does not hand its options on to attention"
NO_LAYOUT = "the payload of this model call does not say where its video tokens are"


def patch(model, config_or_quality: str | JengaConfig | CarvingSettings = "balanced"):
    """A clone of a worker's MODEL whose self-attention is carved in the runs of raylight's samplers.

    config_or_quality: as for `jenga.integrations.diffusers.apply`. Call it on every worker alike, as raylight's own
    patches are: from a method under its `ray_patch`. Raises ValueError for a model that no processor would reach.
    """
    name = type(model.model.diffusion_model).__name__
    if name not in MODELS:
        raise ValueError(f"patch: model must be one of {', '.join(MODELS)} under raylight, got {name}: {NOT_HANDED_ON}")
    patched = model.clone()
    attention = InnerAttention(chosen(config_or_quality, "patch"), model.model.model_sampling.percent_to_sigma)
    patched.model_options.setdefault("transformer_options", {})[PROCESSOR] = attention
    wrappers = {
        "outer_sample": attention.outer_sample,
        "predict_noise": attention.predict_noise,
        "diffusion_model": attention.diffusion_model,
    }
    for kind, wrapper in wrappers.items():
        patched.remove_wrappers_with_key(kind, NAME)
        patched.add_wrapper_with_key(kind, NAME, wrapper)
    return patched


def report_of(model) -> Report | None:
    """What the last run of a patched MODEL did on its worker, None before one; rank 0 has the seconds of all ranks."""
    return model.model_options["transformer_options"][PROCESSOR].report


class InnerAttention:
    """The processor, and the wrappers that tell it of runs and model calls. One worker runs one thing at a time.

    to_sigma: the noise level at a part of the schedule.
    """

    supports_ring = False  # raylight refuses it then: a ring shows a rank a part of the keys at a time

    def __init__(self, settings: CarvingSettings, to_sigma: Callable[[float], float]):
        self._settings, self._to_sigma = settings, to_sigma
        self.report: Report | None = None
        self._stage: StageState | None = None

    @torch.compiler.disable
    def __call__(self, dense_attention, q, k, v, *, transformer_options, **kwargs):
        """q k v [B, S of all ranks, heads of this rank, D] -> the same shape."""
        carved = transformer_options.get(CARVED)
        if carved is None or kwargs.get("joint_tensor_key") is not None or kwargs.get("causal") or q.shape != k.shape:
            return dense_attention(q, k, v, **kwargs)

        def dense() -> torch.Tensor:
            out = dense_attention(q, k, v, **kwargs)
            return (out[0] if isinstance(out, tuple) else out).transpose(1, 2)

        heads_first = (x.transpose(1, 2) for x in (q, k, v))
        out = attend(carved, None, *heads_first, None, kwargs.get("softmax_scale"), dense)
        return (dense() if out is None else out).transpose(1, 2)

    def outer_sample(self, executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
        """A run, on every worker. A sampler inside another one's run is part of it."""
        if self._stage is not None:
            return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        shapes = kwargs.get("latent_shapes") or [latent_image.shape]
        self.report = Report()
        run = Run(self.report)
        self._stage = StageState(run)
        group = _ranks()
        try:
            with (
                self.report.stage(1.0, tuple(shapes[0]), max(0, len(sigmas) - 1)),
                nullcontext() if group is None else shared_run(group, run),
            ):
                return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        finally:
            self._stage = None
            run.close()

    def predict_noise(self, executor, x, timestep, *args, **kwargs):
        if self._stage is None:
            return executor(x, timestep, *args, **kwargs)
        self._stage.run.begin_evaluation(timestep)
        with self.report.evaluation(x.device):
            return executor(x, timestep, *args, **kwargs)

    def diffusion_model(self, executor, x, timestep, context, transformer_options=None, *args, **kwargs):
        """One model call. x: [video, audio] latents."""
        options = dict(transformer_options or {})
        if self._stage is not None:
            options[CARVED] = carved = self._begin(executor.class_obj, x[0], timestep, options, kwargs)
        out = executor(x, timestep, context, options, *args, **kwargs)
        if self._stage is not None:
            self.report.model_call(False)
            if carved.layout is None:
                refuse(carved, NO_LAYOUT)
            elif not carved.attended:
                refuse(carved, NOT_HANDED_ON)
            carved.name_missing_blocks()
        return out

    def _begin(self, module, video: torch.Tensor, timestep, options: dict, arguments: dict) -> CarvedCall:
        run = self._stage.run
        names = tuple(options.get("uuids") or options.get("cond_or_uncond") or (None,))
        layout, sigmas = video_layout(module, video, arguments), options.get("sigmas")
        sigma = timestep.flatten()[0] if sigmas is None else sigmas.flatten()[0]
        call = ModelCall(run.number_passes(names), run.evaluation, layout, sigma, _steps(options))
        outside = self._settings.outside_schedule(sigma, self._to_sigma)
        return CarvedCall.begin(self, self._settings, self._stage, call, outside)


def video_layout(module, video: torch.Tensor, arguments: dict) -> TokenLayout | None:
    """Where the video lies in MiniMax H3's sequence: after text, conditions and audio, before the rows that make the
    sequence divide by the ranks, which are context here as they are keys for dense attention there.
    """
    order = (arguments.get("minimax_payload") or {}).get("layout")
    spans = [(start, stop) for start, stop, kind in getattr(order, "segments", ()) if kind == "video"]
    grid = latent_grid(module.patch_size, video.shape)
    if len(spans) != 1 or spans[0][1] - spans[0][0] != grid.num_tokens:
        return None
    return TokenLayout(grid, before=spans[0][0], least=spans[0][0])


def _steps(options: dict) -> float:
    sigmas = options.get("sample_sigmas")
    return math.inf if sigmas is None else len(sigmas) - 1


def _ranks():
    """The process group of the ranks that share a sequence; None where there are none."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    from xfuser.core.distributed import get_sp_group

    return get_sp_group().device_group
