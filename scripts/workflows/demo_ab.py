"""The demo model, dense and with Jenga, on the same noise."""

from scripts.graph import Graph
from scripts.workflows.parts import LATENT_ROOM, STATUS_ROOM, preview_text, save_video

NOTE = """## Jenga: dense against carved, same noise

The sampler *Dense* runs the unpatched model, the other one the model with **Jenga Attention** and the
**Progressive Resolution Sampler**. Both get the same noise, conditioning, sampler and steps.

* *Jenga Attention*, `quality`: how much attention is computed, from fast to near-lossless; custom takes `density`.
* *Progressive Resolution Sampler*, `preset`: base, turbo, flash, 3-stage.
* *Jenga Report* says what ran, what was kept and why; *Jenga Compare* shows both clips and how far they differ.

The model and the VAE are in `demo/weights` of this pack: copy them to `models/diffusion_models` and `models/vae`.
The first run includes loading; queue twice before you compare times."""


def build(object_info: dict) -> Graph:
    g = Graph(object_info)
    start = g.column(360)
    start.note(NOTE, 370)
    unet = start.add("UNETLoader", unet_name="jenga_demo_dit.safetensors")
    model = start.add("ModelComputeDtype", model=unet[0])
    vae = start.add("VAELoader", vae_name="jenga_demo_vae.safetensors")

    inputs = g.column(280)
    positive = inputs.add("JengaDemoPrompt", "Prompt")
    negative = inputs.add("JengaDemoPrompt", "Negative prompt", text="")
    latent = inputs.add("EmptyHunyuanLatentVideo", width=512, height=320, length=49)
    noise = inputs.add("RandomNoise", noise_seed=7)
    sampler = inputs.add("KSamplerSelect", sampler_name="euler")
    sigmas = inputs.add("BasicScheduler", model=model[0], scheduler="simple", steps=30)

    conditions = {"positive": positive[0], "negative": negative[0], "cfg": 1.0}
    models = g.column(280)
    dense_guider = models.add("CFGGuider", "Dense guider", model=model[0], **conditions)
    carved = models.add("JengaAttention", room=STATUS_ROOM, model=model[0])
    jenga_guider = models.add("CFGGuider", "Jenga guider", model=carved[0], **conditions)

    shared = {"noise": noise[0], "sampler": sampler[0], "sigmas": sigmas[0], "latent_image": latent[0]}
    samplers = g.column(300)
    dense = samplers.add("SamplerCustomAdvanced", "Dense", LATENT_ROOM, guider=dense_guider[0], **shared)
    jenga = samplers.add(
        "JengaProgressiveSampler", room=STATUS_ROOM + LATENT_ROOM, guider=jenga_guider[0], preset="turbo", **shared
    )

    reports = g.column(440)
    report = reports.add("JengaReport", model=carved[0], latent=jenga[0])
    preview_text(reports, "Report", 300, report[1])
    reports.add("PreviewImage", "Kept share, layer × step", room=270, images=report[2])

    results = g.column(440)
    dense_clip = results.add("VAEDecode", "Decode dense", samples=dense[0], vae=vae[0])
    jenga_clip = results.add("VAEDecode", "Decode Jenga", samples=report[0], vae=vae[0])
    compare = results.add("JengaCompare", images_a=dense_clip[0], images_b=jenga_clip[0])
    results.add("PreviewImage", "PSNR and SSIM", room=220, images=compare[1])
    preview_text(reports, "Metrics", 130, compare[2])
    save_video(results, compare[0], 16.0, "jenga/side_by_side", room=180)
    return g
