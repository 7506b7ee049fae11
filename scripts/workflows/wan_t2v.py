"""Wan 2.1 text to video: the stock graph with one Jenga node before the KSampler."""

from scripts.graph import Graph
from scripts.thumbnails import Card
from scripts.workflows.parts import LATENT_ROOM, STATUS_ROOM, WAN_21, WAN_FILES, Wan, note, report, save_video

STEPS = 30
MODEL = {"diffusion_models": "wan2.1_t2v_1.3B_fp16.safetensors"}
CARD = Card("Wan text to video", "one Jenga node before the KSampler", "balanced", "wan-1.3b", STEPS, kept=False)
NOTE = note(
    """## Wan 2.1 text to video

The stock graph with one node more: **Jenga** between the model and the KSampler. Its `preset` is the only dial:
near-lossless is closest to the dense run, balanced the default, fast for drafts, off gives the model as it came.

Bypass the node to compare. *Jenga Report* says what was kept, what ran and why.""",
    WAN_21,
    MODEL,
    WAN_FILES,
)


def build(object_info: dict) -> Graph:
    g = Graph(object_info)
    loaders, prompts, run, results = g.column(400), g.column(380), g.column(320), g.column(440)
    reports = g.column(440)
    loaders.note(NOTE, 340)
    unet = loaders.add("UNETLoader", unet_name=MODEL["diffusion_models"])
    wan = Wan.add(loaders, prompts)
    latent = prompts.add("EmptyHunyuanLatentVideo", width=832, height=480, length=81)
    shifted = run.add("ModelSamplingSD3", model=unet[0], shift=8.0)
    model = run.add("Jenga", room=STATUS_ROOM, model=shifted[0], preset="balanced")
    sampled = run.add(
        "KSampler",
        room=LATENT_ROOM,
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
    reported = report(reports, model, sampled)
    clip = results.add("VAEDecode", samples=reported[0], vae=wan.vae[0])
    save_video(results, clip[0], 16.0, "jenga/wan_t2v")
    return g
