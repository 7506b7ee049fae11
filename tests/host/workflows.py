"""API prompts of the host tests: a checkpoint, optional patches, one of the samplers, and what came out."""

import copy

from tiny_models import MODELS

COMPILE = ("TorchCompileModel", {"backend": "cudagraphs"})  # on a CPU: traced, then run without inductor

GRID = {"width": 192, "height": 192, "length": 9, "batch_size": 1}  # latent 3 x 24 x 24: 432 tokens, 7 key blocks
CARVING = {
    "density": 0.3,
    "top_p": 0.0,
    "kv_block_size": "64",
    "tail_block_size": "64",
    "compensation": "mean",
    "curve": "gilbert3d",
    "dense_blocks": "",
    "start_percent": 0.0,
    "end_percent": 1.0,
    "min_tokens": 0,
    "backend": "auto",
    "strict": False,
    "enabled": True,
}
STAGES = {
    "preset": "custom",
    "step_reuse": "off",
    "scales": "0.5, 1.0",
    "switch_points": "0.5",
    "shift_ratios": "1.0",
    "upsample": "bicubic",
    "stage_noise": "dct",
}


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def loader(checkpoint: str) -> dict:
    """The stock loader of a tiny checkpoint; for a name of tiny_models.MODELS the node that makes it."""
    if checkpoint in MODELS:
        return node("JengaTestModel", name=checkpoint)
    return node("UNETLoader", unet_name=f"{checkpoint}.safetensors", weight_dtype="default")


def workflow(
    patches=(),
    sampler="SamplerCustomAdvanced",
    checkpoint="wan_t2v",
    steps=3,
    cfg=1.0,
    sampler_name="euler",
    seed=5,
    conditioning=None,
    latent=None,
    noise=None,
    **sampler_inputs,
) -> dict:
    """patches: (class_type, inputs) applied to the model one after the other; node ids p0, p1, …

    conditioning: inputs of the test conditioning node; latent, noise: nodes in place of the default ones.
    The report reads the last patched model. Outputs of interest: "capture" (ui samples), "report".
    """
    texts = {"masked_tokens": 0, "key": "", **(conditioning or {})}
    prompt = {
        "unet": loader(checkpoint),
        "positive": node("JengaTestConditioning", seed=1, **texts),
        "negative": node("JengaTestConditioning", seed=2, **texts),
        "noise": noise or node("RandomNoise", noise_seed=seed),
        "pick": node("KSamplerSelect", sampler_name=sampler_name),
        "latent": latent or node("EmptyHunyuanLatentVideo", **GRID),
    }
    model = ["unet", 0]
    for index, (class_type, inputs) in enumerate(patches):
        prompt[f"p{index}"] = node(class_type, model=model, **inputs)
        model = [f"p{index}", 0]
    prompt["sigmas"] = node("BasicScheduler", model=model, scheduler="simple", steps=steps, denoise=1.0)
    prompt["guider"] = node("CFGGuider", model=model, positive=["positive", 0], negative=["negative", 0], cfg=cfg)
    prompt["sampler"] = node(
        sampler,
        noise=["noise", 0],
        guider=["guider", 0],
        sampler=["pick", 0],
        sigmas=["sigmas", 0],
        latent_image=["latent", 0],
        **sampler_inputs,
    )
    prompt["capture"] = node("JengaTestCapture", latent=["sampler", 0])
    prompt["report"] = node("JengaReport", model=model, latent=["sampler", 0])
    return prompt


def carved(**changes) -> tuple[str, dict]:
    """A Jenga Attention patch."""
    return "JengaAttention", {**CARVING, **changes}


def staged(**changes) -> dict:
    """Arguments of workflow() for the progressive sampler."""
    return {"sampler": "JengaProgressiveSampler", **copy.deepcopy(STAGES), **changes}


def samples(outputs: dict):
    return outputs["capture"]["samples"][0]


def sizes(outputs: dict) -> list[int]:
    """Latent columns of every stage."""
    return [stage["latent_shape"][-1] for stage in report(outputs)["stages"]]


def report(outputs: dict) -> dict:
    return outputs["report"]["jenga_report"][0]


def dial(preset="turbo", **changes) -> tuple[str, dict]:
    """A Jenga patch."""
    settings = {"step_reuse": "from preset", "reuse_threshold": 0.15, "dense_blocks": "", "min_tokens": 0}
    settings |= {"backend": "auto", "strict": False}
    return "Jenga", {"preset": preset, **settings, **changes}


def stock_sampler(prompt: dict, class_type: str = "KSampler") -> dict:
    """The prompt of workflow() with KSampler or SamplerCustom in the place of its sampler; the same noise and steps."""
    guider, sampler, sigmas = (prompt[name]["inputs"] for name in ("guider", "sampler", "sigmas"))
    inputs = {name: guider[name] for name in ("model", "positive", "negative", "cfg")}
    inputs["latent_image"] = sampler["latent_image"]
    seed = prompt["noise"]["inputs"].get("noise_seed", 0)
    if class_type == "KSampler":
        inputs |= {name: sigmas[name] for name in ("scheduler", "steps", "denoise")}
        inputs |= {"seed": seed, "sampler_name": prompt["pick"]["inputs"]["sampler_name"]}
    else:
        inputs |= {"add_noise": True, "noise_seed": seed, "sampler": ["pick", 0], "sigmas": sampler["sigmas"]}
    return {**prompt, "sampler": node(class_type, **inputs)}


def windows(schedule: str, length: int = 17, overlap: int = 8) -> tuple[str, dict]:
    """ComfyUI's own context windows. 17 frames are 5 latent ones; every window but the first gets one more in front."""
    return "WanContextWindowsManual", {
        "context_length": length,
        "context_overlap": overlap,
        "context_schedule": schedule,
        "context_stride": 1,
        "closed_loop": False,
        "fuse_method": "pyramid",
        "freenoise": False,
        "retain_first_frame": False,
        "split_conds_to_windows": False,
    }
