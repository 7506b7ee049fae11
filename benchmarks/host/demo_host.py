"""The demo model inside ComfyUI's own classes: loaders, stock sampler, VAE, and the Jenga nodes."""

import platform
import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.host.library import ROOT, pack_module, run_node, start, version
from benchmarks.host.sampling import MIN_TOKENS, SamplingHost
from demo import machine
from demo.contact_sheet import PROMPTS

WEIGHTS = ROOT / "demo" / "weights"
SIZES = {"full": (40, 64), "three quarters": (30, 48), "half": (20, 32)}  # latent rows and columns; 13 latent frames
DTYPES = {**machine.DTYPES, "default": None}  # default: ComfyUI's choice
FRAMES, CHANNELS = 13, 16
FULL_TOKENS = 8320


def _channels_last(vae: torch.nn.Module) -> None:
    """The layout in which a CPU decodes in half the time."""
    for module in vae.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)
        elif isinstance(module, torch.nn.Conv2d):
            module.to(memory_format=torch.channels_last)


class DemoHost(SamplingHost):
    """Model, VAE and conditioning at one latent size. `model` is the MODEL that a loader node hands out.

    Numbers of prompts beyond the texts are the same texts with other noise. dtype: what the model computes in, one of
    DTYPES, or auto: the faster one on a CPU, on a GPU ComfyUI's choice.
    """

    def __init__(self, size: str, device: str, dtype: str = "auto", texts: Sequence[str] = PROMPTS):
        here = machine.measure(cpu=device == "cpu")
        print(here)
        vae = "bf16" if here.vae.name == "default" else here.vae.name  # on a GPU what its weights are
        start(device, gpu_only=device != "cpu", **{f"{vae}_vae": True})  # frames stay where they are compared
        import comfy.sd
        import comfy.utils

        comfy.utils.set_progress_bar_enabled(False)

        self.device = torch.device(device)
        self.rows, self.columns = SIZES[size]
        self.tokens = FRAMES * self.rows * self.columns // 4
        # So that the same stages are carved at every size.
        self.min_tokens = MIN_TOKENS * self.tokens // FULL_TOKENS
        self.model = comfy.sd.load_diffusion_model(str(WEIGHTS / "jenga_demo_dit.safetensors"))
        chosen = DTYPES[here.model.name if dtype == "auto" else dtype]
        if chosen is not None:
            self.model.set_model_compute_dtype(chosen)
        path = str(WEIGHTS / "jenga_demo_vae.safetensors")
        state, metadata = comfy.utils.load_torch_file(path, return_metadata=True)
        self.vae = comfy.sd.VAE(sd=state, metadata=metadata)
        if self.device.type == "cpu":
            _channels_last(self.vae.first_stage_model)
        encode = pack_module("demo.prompt_node").JengaDemoPrompt
        self.conditionings = [run_node(encode, text=text)[0] for text in texts]
        self.empty = run_node(encode, text="")[0]
        self.computed = 0  # model calls since `timed` began
        self.model.model.diffusion_model.blocks[0].register_forward_pre_hook(self._count)

    def _count(self, *_) -> None:
        self.computed += 1

    @property
    def dtype(self) -> str:
        """What the model computes in: bfloat16, float32, …"""
        cast = self.model.get_model_object("manual_cast_dtype")
        return str(cast or self.model.model.get_dtype()).removeprefix("torch.")

    def described(self) -> str:
        """What runs, and where, for the head of a table."""
        where = torch.cuda.get_device_name() if self.device.type == "cuda" else machine.processor()
        versions = f"torch {torch.__version__}, Python {platform.python_version()}, ComfyUI {version()}"
        return f"{where}, {versions}, {self.dtype}, {self.tokens:,} tokens"

    def conditions(self, prompt: int) -> tuple[list, list]:
        return self.conditionings[prompt % len(self.conditionings)], self.empty

    def latent(self) -> torch.Tensor:
        """An empty latent [1, C, T, H, W]."""
        return torch.zeros(1, CHANNELS, FRAMES, self.rows, self.columns)

    def timed(self, call: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float, int]:
        """A sampling call: its latent, seconds with the device's work, and computed model calls."""
        self.computed = 0
        self._wait()
        begin = time.perf_counter()
        latent = call()
        self._wait()
        return latent, time.perf_counter() - begin, self.computed

    @torch.inference_mode()
    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Frames [F, H, W, 3] in 0..1 of a latent."""
        return self.vae.decode(latent).flatten(0, 1).float().clamp(0, 1)

    @torch.inference_mode()
    def reconstruct(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames [F, H, W, 3] in 0..1, encoded and decoded."""
        return self.decode(self.vae.encode(frames))

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
