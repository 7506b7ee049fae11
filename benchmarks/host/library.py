"""ComfyUI as a library: its model classes, its sampler and this pack's nodes, without its server and its executor.

Nodes run through their own `execute`, with the defaults of their schema for every input that is not given, as a node
that was just put into a graph.

`python -m benchmarks.host.library FOLDER` copies what the benchmarks of models without files need of a ComfyUI, 5 MB
of its Python files, for a machine that has none.
"""

import importlib.util
import os
import shutil
import sys
import types
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
PACK = "jenga_pack"
PARTS = ("comfy", "comfy_api", "comfy_execution", "comfy_extras/nodes_easycache.py")
PARTS += ("comfyui_version.py", "folder_paths.py", "latent_preview.py", "node_helpers.py", "protocol.py")


def start(device: str, **options) -> None:
    """Makes `comfy` and the node pack importable. Once a process, before anything imports it: it looks for its device
    then. ComfyUI is the one that Python finds, else $JENGA_COMFYUI, else the cached one; options: of its command line.

    The attention function is attention_pytorch. On NVIDIA ComfyUI takes it by itself, and is not told to: a function
    that was chosen by name is kept for anchors too.
    """
    if importlib.util.find_spec("comfy") is None:
        sys.path.append(str(comfyui()))
    # The nodes tell their status to a page; without an instance there is none.
    server = types.ModuleType("server")
    server.PromptServer = type("PromptServer", (), {})
    sys.modules.setdefault("server", server)
    from comfy.cli_args import args

    on_cpu = torch.device(device).type == "cpu"
    options |= {"cpu": on_cpu, "use_pytorch_cross_attention": on_cpu}
    for name, value in options.items():
        setattr(args, name, value)
    # Under a name of its own: ComfyUI too has a `nodes`.
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    sys.modules[PACK] = importlib.util.module_from_spec(spec)


def comfyui() -> Path:
    """The folder of a ComfyUI: $JENGA_COMFYUI, else the cached one. Raises SystemExit where there is none."""
    folder = Path(os.environ.get("JENGA_COMFYUI", ROOT / ".cache" / "ComfyUI"))
    if not (folder / "comfy").is_dir():
        raise SystemExit(f"no ComfyUI in {folder}: run `python -m demo.comfyui`, or set JENGA_COMFYUI to one")
    return folder


def copy_parts(source: Path, target: Path) -> None:
    """The Python files of PARTS, from one folder of ComfyUI to a new one."""
    for part in PARTS:
        found = source / part
        for file in [found] if found.is_file() else found.rglob("*.py"):
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


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


def unload() -> None:
    """Makes ComfyUI forget the models it has loaded."""
    import comfy.model_management

    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m benchmarks.host.library FOLDER")
    copy_parts(comfyui(), Path(sys.argv[1]))
