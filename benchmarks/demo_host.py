"""The demo model inside ComfyUI's own classes, without its server: loaders, stock sampler, VAE, and the Jenga nodes.

Nodes run through their own `execute`, with the defaults of their schema for every input that is not given, as a node
that was just put into a graph. ComfyUI's nodes.py, server.py and execution.py are never imported.
"""

import importlib.util
import os
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import torch

from demo.contact_sheet import PROMPTS

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "demo" / "weights"
PACK = "jenga_pack"
SIZES = {"full": (40, 64), "half": (20, 32)}  # latent rows and columns; 13 latent frames
FRAMES, CHANNELS = 13, 16
FULL_TOKENS = 8320
MIN_TOKENS = 4096  # the nodes' default, for the full size


def start(device: str) -> None:
    """Make ComfyUI's modules and the node pack importable in this process. device: cpu or cuda; counts once.

    ComfyUI is the one that Python finds, else $JENGA_COMFYUI, else the cached one.
    """
    if importlib.util.find_spec("comfy") is None:
        sys.path.append(os.environ.get("JENGA_COMFYUI", str(ROOT / ".cache" / "ComfyUI")))
    from comfy.cli_args import args

    # Before the first import of comfy.model_management, which reads them.
    args.use_pytorch_cross_attention = True
    args.cpu = device == "cpu"
    args.gpu_only = device != "cpu"  # frames stay where they are compared
    args.bf16_vae = True  # what its weights are; fp32 takes a CPU five times as long
    # The nodes tell their status to a page; here is none.
    server = types.ModuleType("server")
    server.PromptServer = type("PromptServer", (), {"instance": None})
    sys.modules.setdefault("server", server)
    import comfy.utils

    comfy.utils.set_progress_bar_enabled(False)
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    sys.modules[PACK] = importlib.util.module_from_spec(spec)


def pack_module(name: str) -> types.ModuleType:
    """A module of the node pack, such as "nodes.jenga"; after `start`."""
    return importlib.import_module(f"{PACK}.{name}")


def run_node(node: type, **inputs) -> tuple:
    """The outputs of a node's execute."""
    defaults = {
        item.id: item.default for item in node.GET_SCHEMA().inputs if getattr(item, "default", None) is not None
    }
    return node.PREPARE_CLASS_CLONE(None).EXECUTE_NORMALIZED(**{**defaults, **inputs}).result


class Noise:
    """What RandomNoise hands to a sampler node."""

    def __init__(self, seed: int):
        self.seed = seed

    def generate_noise(self, latent: dict) -> torch.Tensor:
        import comfy.sample

        return comfy.sample.prepare_noise(latent["samples"], self.seed)


class DemoHost:
    """Model, VAE and conditioning at one latent size. `model` is the MODEL that a loader node hands out.

    The seed of a prompt is its number. Sampling is that of KSampler: euler, scheduler simple, CFG 1.
    """

    def __init__(self, size: str, device: str):
        start(device)
        import comfy.sd
        import comfy.utils

        self.device = torch.device(device)
        self.rows, self.columns = SIZES[size]
        self.tokens = FRAMES * self.rows * self.columns // 4
        # So that the same stages are carved at every size.
        self.min_tokens = MIN_TOKENS * self.tokens // FULL_TOKENS
        self.model = comfy.sd.load_diffusion_model(str(WEIGHTS / "jenga_demo_dit.safetensors"))
        path = str(WEIGHTS / "jenga_demo_vae.safetensors")
        state, metadata = comfy.utils.load_torch_file(path, return_metadata=True)
        self.vae = comfy.sd.VAE(sd=state, metadata=metadata)
        encode = pack_module("nodes.demo_prompt").JengaDemoPrompt
        self.conditionings = [run_node(encode, text=text)[0] for text in PROMPTS]
        self.empty = run_node(encode, text="")[0]
        self.computed = 0  # model calls since `timed` began
        self.model.model.diffusion_model.blocks[0].register_forward_pre_hook(self._count)

    def _count(self, *_) -> None:
        self.computed += 1

    @property
    def dtype(self) -> str:
        """What the model computes in: bfloat16, float32, …"""
        model = self.model.model
        return str(model.manual_cast_dtype or model.get_dtype()).removeprefix("torch.")

    def with_attention(self, attend: Callable) -> object:
        """A clone of the model with an attention override attend(func, q, k, v, *args, **kwargs)."""
        clone = self.model.clone()
        clone.model_options["transformer_options"]["optimized_attention_override"] = attend
        return clone

    def latent(self) -> torch.Tensor:
        """An empty latent [1, C, T, H, W]."""
        return torch.zeros(1, CHANNELS, FRAMES, self.rows, self.columns)

    @torch.inference_mode()
    def sample(self, model, prompt: int, steps: int) -> torch.Tensor:
        """KSampler: the latent of a prompt, by number."""
        import comfy.sample

        latent = self.latent()
        noise = comfy.sample.prepare_noise(latent, prompt)
        positive, negative = self.conditionings[prompt], self.empty
        options = {"denoise": 1.0, "disable_pbar": True, "seed": prompt}
        return comfy.sample.sample(model, noise, steps, 1.0, "euler", "simple", positive, negative, latent, **options)

    @torch.inference_mode()
    def sample_progressive(self, model, prompt: int, steps: int, **inputs) -> torch.Tensor:
        """Progressive Resolution Sampler on the same noise and schedule; inputs: those of the node."""
        import comfy.samplers

        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(self.conditionings[prompt], self.empty)
        guider.set_cfg(1.0)
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
        output, _ = run_node(
            pack_module("nodes.sampler").JengaProgressiveSampler,
            noise=Noise(prompt),
            guider=guider,
            sampler=comfy.samplers.sampler_object("euler"),
            sigmas=sigmas.cpu(),
            latent_image={"samples": self.latent()},
            **inputs,
        )
        return output["samples"]

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

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
