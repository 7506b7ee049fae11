"""HunyuanVideo text to video with Jenga Attention and the Progressive Resolution Sampler: every setting in view."""

from scripts.graph import Graph
from scripts.thumbnails import Card
from scripts.workflows.parts import LATENT_ROOM, STATUS_ROOM, note, report, save_video

STEPS = 20
MODEL = {"diffusion_models": "hunyuan_video_t2v_720p_bf16.safetensors", "vae": "hunyuan_video_vae_bf16.safetensors"}
ENCODERS = ("clip_l.safetensors", "llava_llama3_fp8_scaled.safetensors")
CARD = Card("HunyuanVideo", "text to video, every setting in view", "turbo", "hunyuan-video", STEPS, kept=False)
NOTE = note(
    """## HunyuanVideo text to video

**Jenga Attention** carves the model, as closely as its `quality` says; the **Progressive Resolution Sampler**, in the
place of *SamplerCustomAdvanced*, runs the early steps on a smaller latent. (The node *Jenga* has carving and stages
behind one dial.)

*Jenga Report* says what was kept, what ran and why.""",
    "Comfy-Org/HunyuanVideo_repackaged",
    MODEL,
    *({"text_encoders": name} for name in ENCODERS),
)


def build(object_info: dict) -> Graph:
    g = Graph(object_info)
    loaders, prompts, models, run = g.column(400), g.column(360), g.column(300), g.column(320)
    results, reports = g.column(440), g.column(440)
    loaders.note(NOTE, 360)
    unet = loaders.add("UNETLoader", unet_name=MODEL["diffusion_models"])
    clip = loaders.add("DualCLIPLoader", clip_name1=ENCODERS[0], clip_name2=ENCODERS[1], type="hunyuan_video")
    vae = loaders.add("VAELoader", vae_name=MODEL["vae"])
    text = "a paper boat drifts down a rainy street, reflections of neon signs in the water, close-up, shallow focus"
    prompt = prompts.add("CLIPTextEncode", "Prompt", clip=clip[0], text=text)
    guidance = prompts.add("FluxGuidance", conditioning=prompt[0], guidance=6.0)
    latent = prompts.add("EmptyHunyuanLatentVideo", width=848, height=480, length=73)
    noise = prompts.add("RandomNoise", noise_seed=7)
    sampler = prompts.add("KSamplerSelect", sampler_name="euler")
    shifted = models.add("ModelSamplingSD3", model=unet[0], shift=7.0)
    carved = models.add("JengaAttention", room=STATUS_ROOM, model=shifted[0])
    guider = models.add("BasicGuider", model=carved[0], conditioning=guidance[0])
    sigmas = models.add("BasicScheduler", model=shifted[0], scheduler="simple", steps=STEPS)
    sampled = run.add(
        "JengaProgressiveSampler",
        room=STATUS_ROOM + LATENT_ROOM,
        noise=noise[0],
        guider=guider[0],
        sampler=sampler[0],
        sigmas=sigmas[0],
        latent_image=latent[0],
        preset="turbo",
    )
    reported = report(reports, carved, sampled)
    frames = results.add(
        "VAEDecodeTiled",
        samples=reported[0],
        vae=vae[0],
        tile_size=256,
        overlap=64,
        temporal_size=64,
        temporal_overlap=8,
    )
    save_video(results, frames[0], 24.0, "jenga/hunyuan_t2v")
    return g
