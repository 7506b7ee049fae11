"""Wan 2.1 image to video: the stock graph with one Jenga node before the KSampler."""

from scripts.graph import Graph
from scripts.thumbnails import Card
from scripts.workflows.parts import LATENT_ROOM, STATUS_ROOM, WAN_21, WAN_FILES, Wan, note, report, save_video

STEPS = 20
MODEL = {"diffusion_models": "wan2.1_i2v_480p_14B_fp16.safetensors", "clip_vision": "clip_vision_h.safetensors"}
CARD = Card("Wan image to video", "the picture follows every size", "fast", "wan-14b", STEPS, kept=False)
NOTE = note(
    """## Wan 2.1 image to video

Choose a picture in *Load Image*, say what moves, queue. **Jenga** before the KSampler is the only addition to the stock
graph; the start picture is resized with the latent, so that the small stage sees it too.

*Jenga Report* says what was kept, what ran and why.""",
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
    wan = Wan.add(loaders, prompts, "the person in the picture turns the head and smiles, hair moves in the wind")
    vision_model = loaders.add("CLIPVisionLoader", clip_name=MODEL["clip_vision"])
    picture = prompts.add("LoadImage", room=240, image="example.png")
    vision = prompts.add("CLIPVisionEncode", clip_vision=vision_model[0], image=picture[0], crop="none")
    start = run.add(
        "WanImageToVideo",
        positive=wan.positive[0],
        negative=wan.negative[0],
        vae=wan.vae[0],
        clip_vision_output=vision[0],
        start_image=picture[0],
        width=832,
        height=480,
        length=81,
    )
    shifted = run.add("ModelSamplingSD3", model=unet[0], shift=8.0)
    model = run.add("Jenga", room=STATUS_ROOM, model=shifted[0], preset="fast")
    sampled = run.add(
        "KSampler",
        room=LATENT_ROOM,
        model=model[0],
        positive=start[0],
        negative=start[1],
        latent_image=start[2],
        seed=7,
        steps=STEPS,
        cfg=6.0,
        sampler_name="uni_pc",
        scheduler="simple",
    )
    reported = report(reports, model, sampled)
    clip = results.add("VAEDecode", samples=reported[0], vae=wan.vae[0])
    save_video(results, clip[0], 16.0, "jenga/wan_i2v")
    return g
