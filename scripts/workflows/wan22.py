"""Wan 2.2 text to video: two experts, a Jenga node for each; with the distilled LoRAs it is the few-step graph."""

from dataclasses import dataclass

from scripts.graph import Graph
from scripts.workflows.parts import LATENT_ROOM, STATUS_ROOM, WAN_FILES, Wan, report, save_video

MODELS = {
    noise: {"diffusion_models": f"wan2.2_t2v_{noise}_noise_14B_fp8_scaled.safetensors"} for noise in ("high", "low")
}
LORAS = {noise: {"loras": f"wan2.2_t2v_lightx2v_4steps_lora_v1.1_{noise}_noise.safetensors"} for noise in MODELS}
FILES = (*MODELS.values(), WAN_FILES)
SHIFT = 5.0


@dataclass(frozen=True)
class Run:
    """steps: of the whole schedule; the first half is the high-noise expert's. distilled: with the LoRAs."""

    preset: str
    steps: int
    cfg: float
    distilled: bool
    prefix: str


def build(object_info: dict, note: str, run: Run) -> Graph:
    g = Graph(object_info)
    loaders, prompts, models = g.column(420), g.column(380), g.column(380)
    samplers, results, high_reports, low_reports = g.column(320), g.column(440), g.column(420), g.column(420)
    loaders.note(note, 440)
    unets = {
        noise: loaders.add("UNETLoader", f"{noise} noise".capitalize(), unet_name=files["diffusion_models"])
        for noise, files in MODELS.items()
    }
    wan = Wan.add(loaders, prompts)
    latent = prompts.add("EmptyHunyuanLatentVideo", width=640, height=640, length=81)
    patched = {}
    for noise, model in unets.items():
        if run.distilled:
            model = models.add("LoraLoaderModelOnly", model=model[0], lora_name=LORAS[noise]["loras"])
        model = models.add("ModelSamplingSD3", model=model[0], shift=SHIFT)
        patched[noise] = models.add("Jenga", f"Jenga, {noise} noise", STATUS_ROOM, model=model[0], preset=run.preset)

    shared = {
        "positive": wan.positive[0],
        "negative": wan.negative[0],
        "steps": run.steps,
        "cfg": run.cfg,
        "sampler_name": "euler",
        "scheduler": "simple",
    }
    middle = run.steps // 2
    high = samplers.add(
        "KSamplerAdvanced",
        "High noise",
        LATENT_ROOM,
        model=patched["high"][0],
        latent_image=latent[0],
        add_noise="enable",
        noise_seed=7,
        start_at_step=0,
        end_at_step=middle,
        return_with_leftover_noise="enable",
        **shared,
    )
    high_report = report(high_reports, patched["high"], high, "high noise")
    low = samplers.add(
        "KSamplerAdvanced",
        "Low noise",
        LATENT_ROOM,
        model=patched["low"][0],
        latent_image=high_report[0],
        add_noise="disable",
        start_at_step=middle,
        return_with_leftover_noise="disable",
        **shared,
    )
    low_report = report(low_reports, patched["low"], low, "low noise")
    clip = results.add("VAEDecode", samples=low_report[0], vae=wan.vae[0])
    save_video(results, clip[0], 16.0, run.prefix, room=460)
    return g
