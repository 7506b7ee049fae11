"""The README's picture: `python -m scripts.screenshot` runs the demo workflow in ComfyUI's page and photographs it.

Writes docs/demo_graph.png, and from the clip that the run made the thumbnail workflows/demo_ab.jpg. Two minutes on two
cores.
"""

import tempfile
from pathlib import Path

import av
import numpy as np
from PIL import Image

from demo import comfyui, machine
from demo.server import ROOT, WEIGHTS, Server
from scripts import thumbnails
from scripts.page import Page

RUN_SECONDS = 1200
PALETTE = 256  # colours: enough for a page, and a quarter of the bytes
STEPS = 14  # of the workflow's 30: enough for stages and reused steps to show


def main() -> None:
    here = machine.measure(cpu=True)
    print(here)
    with (
        tempfile.TemporaryDirectory() as base,
        Server(comfyui.ensure(), Path(base), machine=here, models=WEIGHTS) as server,
        Page(server.address) as page,
    ):
        page.open_template("jenga", "demo_ab")
        page.set_widgets("BasicScheduler", steps=STEPS)
        page.run(RUN_SECONDS)
        target = ROOT / "docs" / "demo_graph.png"
        picture = page.screenshot().quantize(PALETTE, Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE)
        picture.save(target, optimize=True)
        print(target.relative_to(ROOT))
        (clip,) = (Path(base) / "output" / "jenga").glob("side_by_side*.mp4")
        with av.open(str(clip)) as video:
            frames = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])
        thumbnails.two_frames(frames, ROOT / "workflows" / "demo_ab.jpg")


if __name__ == "__main__":
    main()
