"""Wan 2.1 text to video by Jenga A/B: the same noise dense and with Jenga, both clips, their distance, the report."""

from scripts.graph import Graph
from scripts.thumbnails import Card
from scripts.workflows.parts import (
    STATUS_ROOM,
    WAN_21,
    WAN_FILES,
    Wan,
    note,
    preview_text,
    report,
    save_video,
)

STEPS = 30
MODEL = {"diffusion_models": "wan2.1_t2v_1.3B_fp16.safetensors"}
CARD = Card("A/B with report", "dense and Jenga on the same noise", "balanced", "wan-1.3b", STEPS, kept=False)
NOTE = note(
    """## A/B with report

**Jenga A/B**, in the place of the KSampler, samples the same noise without and with the Jenga patches of its model,
warmed up and timed; `repeats` alternates the order. Its report says how much faster and how far apart the two are.

**Jenga Compare** shows both clips (`mode`: side by side, wipe, difference, blink) and measures them frame by frame;
**Jenga Report** says what was kept, what ran and why.""",
    WAN_21,
    MODEL,
    WAN_FILES,
)


def build(object_info: dict) -> Graph:
    g = Graph(object_info)
    loaders, prompts, run = g.column(400), g.column(380), g.column(380)
    reports, results = g.column(440), g.column(440)
    loaders.note(NOTE, 420)
    unet = loaders.add("UNETLoader", unet_name=MODEL["diffusion_models"])
    wan = Wan.add(loaders, prompts)
    latent = prompts.add("EmptyHunyuanLatentVideo", width=832, height=480, length=81)
    shifted = prompts.add("ModelSamplingSD3", model=unet[0], shift=8.0)
    model = prompts.add("Jenga", room=STATUS_ROOM, model=shifted[0], preset="balanced")
    ab = run.add(
        "JengaAB",
        room=STATUS_ROOM,
        model=model[0],
        positive=wan.positive[0],
        negative=wan.negative[0],
        latent_image=latent[0],
        seed=7,
        steps=STEPS,
        cfg=6.0,
        sampler_name="uni_pc",
        scheduler="simple",
    )
    preview_text(run, "A/B", 300, ab[2])
    reported = report(reports, model, ab, output=1)
    dense_clip = results.add("VAEDecode", "Decode dense", samples=ab[0], vae=wan.vae[0])
    jenga_clip = results.add("VAEDecode", "Decode Jenga", samples=reported[0], vae=wan.vae[0])
    compare = results.add("JengaCompare", images_a=dense_clip[0], images_b=jenga_clip[0])
    preview_text(reports, "Metrics", 130, compare[2])
    results.add("PreviewImage", "PSNR and SSIM", room=220, images=compare[1])
    save_video(results, compare[0], 16.0, "jenga/ab_report", room=180)
    return g
