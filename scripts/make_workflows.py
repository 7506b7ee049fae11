"""Write the example workflows: `python -m scripts.make_workflows`, after a node's inputs have changed.

Asks a running ComfyUI for /object_info, so that every graph has the widgets that the nodes really have.
"""

import tempfile
from pathlib import Path

from demo import comfyui
from demo.server import ROOT, Server
from scripts.workflows import demo_ab

FOLDER = ROOT / "workflows"
BUILDERS = {"demo_ab": demo_ab}


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as base,
        Server(comfyui.ensure(), Path(base), cpu=True, models=ROOT / "demo" / "weights") as server,
    ):
        object_info = server.get("object_info")
    for name, module in BUILDERS.items():
        (FOLDER / f"{name}.json").write_text(module.build(object_info).dumps())
        print(f"workflows/{name}.json")


if __name__ == "__main__":
    main()
