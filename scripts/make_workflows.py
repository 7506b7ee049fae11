"""Write the example workflows: `python -m scripts.make_workflows`, after a node's inputs have changed.

Asks a running ComfyUI for /object_info, so that every graph has the widgets that the nodes really have. Thumbnails are
drawn too, but the demo's, which is a picture of what its model made (scripts/screenshot.py).
"""

import tempfile
from pathlib import Path

from demo import comfyui, machine
from demo.server import ROOT, WEIGHTS, Server
from scripts import thumbnails
from scripts.workflows import ab_report, demo_ab, few_step_lora, hunyuan_t2v, wan22_two_experts, wan_i2v, wan_t2v

FOLDER = ROOT / "workflows"
BUILDERS = (demo_ab, wan_t2v, wan_i2v, wan22_two_experts, hunyuan_t2v, few_step_lora, ab_report)


def main() -> None:
    here = machine.measure(cpu=True)
    print(here)
    with (
        tempfile.TemporaryDirectory() as base,
        Server(comfyui.ensure(), Path(base), machine=here, models=WEIGHTS) as server,
    ):
        object_info = server.get("object_info")
    for module in BUILDERS:
        name = module.__name__.rpartition(".")[2]
        (FOLDER / f"{name}.json").write_text(module.build(object_info).dumps())
        if module is not demo_ab:
            thumbnails.draw(module.CARD, FOLDER / f"{name}.jpg")
        print(f"workflows/{name}.json")


if __name__ == "__main__":
    main()
