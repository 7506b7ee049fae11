"""ComfyUI as a library: its model classes, its sampler and this pack's nodes, without its server and its executor.

Nodes run through their own `execute`, with the defaults of their schema for every input that is not given, as a node
that was just put into a graph.
"""

import importlib.util
import os
import sys
import types
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
PACK = "jenga_pack"


def start(device: str, **options) -> None:
    """Makes `comfy` and the node pack importable. Once a process, before anything imports it: it looks for its device
    then. ComfyUI is the one that Python finds, else $JENGA_COMFYUI, else the cached one; options: of its command line.

    The attention function is attention_pytorch, which ComfyUI takes on NVIDIA unless told otherwise.
    """
    if importlib.util.find_spec("comfy") is None:
        folder = Path(os.environ.get("JENGA_COMFYUI", ROOT / ".cache" / "ComfyUI"))
        if not (folder / "comfy").is_dir():
            raise SystemExit(f"no ComfyUI in {folder}: run `python -m demo.comfyui`, or set JENGA_COMFYUI to one")
        sys.path.append(str(folder))
    # The nodes tell their status to a page; without an instance there is none.
    server = types.ModuleType("server")
    server.PromptServer = type("PromptServer", (), {})
    sys.modules.setdefault("server", server)
    from comfy.cli_args import args

    options |= {"cpu": torch.device(device).type == "cpu", "use_pytorch_cross_attention": True}
    for name, value in options.items():
        setattr(args, name, value)
    # Under a name of its own: ComfyUI too has a `nodes`.
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


def version() -> str:
    from comfyui_version import __version__

    return __version__


def jenga_attention(patcher, **widgets):
    """What *Jenga Attention* hands on for this MODEL."""
    return run_node(pack_module("nodes.attention").JengaAttention, model=patcher, **widgets)[0]


def last_report(patcher) -> dict:
    """Jenga's own figures of this MODEL's last run."""
    return pack_module("nodes.host.runs").report_of(patcher)[0].summary()


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
