"""ComfyUI started once and forked for every broken state of the installation: `python broken_start.py BASE RESULTS`.

Every fork loads the custom nodes as ComfyUI does and runs the stock workflow, the same with Jenga Attention, and that
with `strict`. What came out goes to RESULTS/<state>.pt. JENGA_COMFYUI names the ComfyUI.
"""

import os
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACK = "any name, 2"  # of the pack's folder


def without_pack(site: Path) -> None:
    pass


def no_library(site: Path) -> None:
    _copy(site)


def foreign_library(site: Path) -> None:
    library = _copy(site) / "lib" / "libjenga_cpu.so"
    library.parent.mkdir()
    library.write_bytes(b"MZ, a library of another platform")


def old_torch(site: Path) -> None:
    torch.__version__ = type(torch.__version__)("2.8.0")


def old_wheel(site: Path) -> None:
    package = _copy(site)
    init = package / "__init__.py"
    init.write_text(init.read_text().replace('__version__ = "', '__version__ = "0.0.'))


STATES: tuple[Callable[[Path], None], ...] = (without_pack, no_library, foreign_library, old_torch, old_wheel)


def _copy(site: Path) -> Path:
    """The Python part alone, first on the path: what is installed is not seen."""
    package = site / "jenga"
    shutil.copytree(ROOT / "python" / "jenga", package, ignore=shutil.ignore_patterns("__pycache__", "lib"))
    sys.path.insert(0, str(site))
    return package


def run(state: Callable[[Path], None], base: Path) -> dict:
    """What the three workflows gave in this state."""
    from comfy_host import Host, PromptFailed

    from workflows import carved, report, samples, workflow

    site = base / "site" / state.__name__
    site.mkdir(parents=True)
    state(site)
    host = Host(base)
    stock = workflow()
    del stock["report"]  # a node of the pack
    found = {"stock": samples(host.run(stock))}
    if state is without_pack:
        return found
    outputs = host.run(workflow([carved()]))
    found |= {"carved": samples(outputs), "backends": report(outputs)["backends"], "texts": host.status.copy()}
    host.forget()
    try:
        host.run(workflow([carved(strict=True)]))
        found["strict"] = ""
    except PromptFailed as error:
        found["strict"] = str(error)
    return found


def main() -> None:
    base, results = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)  # a thread pool does not survive a fork
    packs = base / "custom_nodes"
    packs.mkdir()
    (packs / "jenga_test_nodes").symlink_to(HERE / "test_nodes", target_is_directory=True)
    from comfy_host import import_comfyui

    os.chdir(os.environ["JENGA_COMFYUI"])
    import_comfyui(base)
    for state in STATES:
        child = os.fork()
        if child == 0:
            try:
                torch.save(run(state, base), results / f"{state.__name__}.pt")
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.waitpid(child, 0)
        if state is without_pack:
            (packs / PACK).symlink_to(ROOT, target_is_directory=True)


if __name__ == "__main__":
    main()
