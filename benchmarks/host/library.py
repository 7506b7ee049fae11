"""ComfyUI as a library: its model classes, its sampler and this pack's node, without its server and its executor."""

import os
import sys
import types
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("JENGA_COMFYUI", ROOT / ".cache" / "ComfyUI"))


def start(device: str, folder: Path = COMFYUI) -> None:
    """Makes `comfy` importable. Once a process, before anything imports it: it looks for its device then.

    The attention function is attention_pytorch, which ComfyUI takes on NVIDIA unless told otherwise.
    """
    if not (folder / "comfy").is_dir():
        raise SystemExit(f"no ComfyUI in {folder}: run `python -m demo.comfyui`, or set JENGA_COMFYUI to one")
    sys.path.append(str(folder))  # behind this repository: both have a `nodes`
    server = types.ModuleType("server")
    server.PromptServer = type("PromptServer", (), {})  # without an instance, as where no page listens
    sys.modules["server"] = server
    from comfy.cli_args import args

    args.cpu = torch.device(device).type == "cpu"
    args.use_pytorch_cross_attention = True


def version() -> str:
    from comfyui_version import __version__

    return __version__


def jenga_attention(patcher, **widgets):
    """What *Jenga Attention* hands on for this MODEL: its own `execute`, with its defaults for all other widgets."""
    from nodes.attention import JengaAttention

    defaults = {widget.id: widget.default for widget in JengaAttention.define_schema().inputs if widget.id != "model"}
    node = JengaAttention.PREPARE_CLASS_CLONE(None)  # as the executor does; without a node id nothing is shown
    return node.execute(patcher, **{**defaults, **widgets}).result[0]


def last_report(patcher) -> dict:
    """Jenga's own figures of this MODEL's last run."""
    from nodes.runs import report_slot

    return report_slot(patcher).report.summary()


def sample_one_step(patcher, noise: torch.Tensor, conditioning: list) -> torch.Tensor:
    """One step of Euler at cfg 1, as the sampler nodes do it: one evaluation of the model. noise [1, C, T, H, W]."""
    import comfy.sample
    import comfy.samplers

    sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), "simple", 1)
    return comfy.sample.sample_custom(
        patcher,
        noise,
        1.0,
        comfy.samplers.sampler_object("euler"),
        sigmas,
        conditioning,
        conditioning,
        torch.zeros_like(noise),
        disable_pbar=True,
        seed=0,
    )


def unload() -> None:
    """Makes ComfyUI forget the models it has loaded."""
    import comfy.model_management

    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()
