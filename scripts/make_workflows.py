"""Write the example workflows: `python -m scripts.make_workflows`, after a node's inputs have changed.

Asks a running ComfyUI for /object_info, so that every graph has the widgets that the nodes really have.
"""

import tempfile
from pathlib import Path

from demo import comfyui
from demo.server import ROOT, Server
from scripts.graph import Graph

WORKFLOWS = ROOT / "workflows"
DEMO_NOTE = """## Jenga: dense against carved, same noise

The upper sampler runs the unpatched model, the lower one the model with **Jenga Attention** and the
**Progressive Resolution Sampler**. Both get the same noise, conditioning, sampler and steps.

* *Jenga Attention*, `density`: the share of key blocks that every query block keeps. 1.0 is dense.
* *Progressive Resolution Sampler*, `preset`: base, turbo, flash, 3-stage.
* *Jenga Report* says what ran, what was kept and why; *Jenga Compare* shows both clips and how far they differ.

The model and the VAE are in `demo/weights` of this pack: copy them to `models/diffusion_models` and `models/vae`.
The first run includes loading; queue twice before you compare times."""


def demo_ab(object_info: dict) -> Graph:
    """The demo model, dense and with Jenga, compared."""
    g = Graph(object_info)
    g.add("MarkdownNote", (0, -300), (620, 260), "Read me", text=DEMO_NOTE)
    unet = g.add("UNETLoader", (0, 0), unet_name="jenga_demo_dit.safetensors")
    model = g.add("ModelComputeDtype", (0, 140), model=unet[0])
    vae = g.add("VAELoader", (0, 260), vae_name="jenga_demo_vae.safetensors")
    positive = g.add("JengaDemoPrompt", (0, 370), (380, 130), "Prompt")
    negative = g.add("JengaDemoPrompt", (0, 550), (380, 100), "Negative prompt", text="")
    latent = g.add("EmptyHunyuanLatentVideo", (0, 700), width=512, height=320, length=49)
    noise = g.add("RandomNoise", (430, 0), noise_seed=7)
    sampler = g.add("KSamplerSelect", (430, 130), (300, 60), sampler_name="euler")
    sigmas = g.add("BasicScheduler", (430, 240), model=model[0], scheduler="simple", steps=30)
    carved = g.add("JengaAttention", (430, 420), (320, 160), model=model[0])
    conditions = {"positive": positive[0], "negative": negative[0], "cfg": 1.0}
    shared = {"noise": noise[0], "sampler": sampler[0], "sigmas": sigmas[0], "latent_image": latent[0]}
    dense_guider = g.add("CFGGuider", (800, 0), title="Dense", model=model[0], **conditions)
    jenga_guider = g.add("CFGGuider", (800, 420), title="Jenga", model=carved[0], **conditions)
    dense = g.add("SamplerCustomAdvanced", (1140, 0), guider=dense_guider[0], **shared)
    jenga = g.add("JengaProgressiveSampler", (1140, 420), (320, 240), guider=jenga_guider[0], preset="turbo", **shared)
    report = g.add("JengaReport", (1140, 720), (320, 140), model=carved[0], latent=jenga[0])
    dense_clip = g.add("VAEDecode", (1500, 0), samples=dense[0], vae=vae[0])
    jenga_clip = g.add("VAEDecode", (1500, 420), samples=report[0], vae=vae[0])
    g.add("PreviewAny", (1500, 620), (360, 260), "Report", source=report[1])
    g.add("PreviewImage", (1500, 920), (460, 340), "Kept share, layer × step", images=report[2])
    compare = g.add("JengaCompare", (1500, 150), (320, 220), images_a=dense_clip[0], images_b=jenga_clip[0])
    video = g.add("CreateVideo", (1880, 0), images=compare[0], fps=16.0)
    g.add("SaveVideo", (1880, 140), (640, 360), video=video[0], filename_prefix="jenga/side_by_side")
    g.add("PreviewImage", (1990, 560), (460, 300), "PSNR and SSIM", images=compare[1])
    g.add("PreviewAny", (1990, 900), (460, 200), "Metrics", source=compare[2])
    return g


BUILDERS = {"demo_ab": demo_ab}


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as base,
        Server(comfyui.ensure(), Path(base), cpu=True, models=ROOT / "demo" / "weights") as server,
    ):
        object_info = server.get("object_info")
    for name, build in BUILDERS.items():
        (WORKFLOWS / f"{name}.json").write_text(build(object_info).dumps())
        print(f"workflows/{name}.json")


if __name__ == "__main__":
    main()
