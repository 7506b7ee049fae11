"""The runs the demo compares, each as an edit of the one workflow a user can open.

dense       the stock sampler on the unpatched model
carving     the stock sampler on the model with Jenga Attention
resolution  the progressive sampler with the preset's stages, step reuse off
jenga       the preset as it is

One after the other they attribute the speed-up: dense / carving, carving / resolution, resolution / jenga. A position
of the dial with one stage has no resolution: that run would be carving once more.
"""

import copy

from jenga.sampling import preset_words
from jenga.sampling.presets import PresetRow

VARIANTS = ("dense", "carving", "resolution", "jenga")
ADDED = {"carving": "carving", "resolution": "resolution", "jenga": "step_reuse"}  # to the run before
STOCK_SAMPLER = "SamplerCustomAdvanced"
JENGA_SAMPLER = "JengaProgressiveSampler"
REPORT = "JengaReport"
EMPTY_LATENT = "EmptyHunyuanLatentVideo"
LATENT_SLOT = 0  # of both samplers


def names(preset: PresetRow) -> tuple[str, ...]:
    """The variants of a preset, each one thing more than the one before it."""
    same = preset.dial and len(preset.stages) == 1
    return tuple(name for name in VARIANTS if not (same and name == "resolution"))


def latent_frames(frames: int) -> int:
    """Of the VAE's latent of so many frames: the first stands for itself, every other one for four."""
    return (frames - 1) // 4 + 1


def find(prompt: dict, class_type: str) -> str:
    """The id of the only node of a type. Raises ValueError if there is not exactly one."""
    found = [node for node, entry in prompt.items() if entry["class_type"] == class_type]
    if len(found) != 1:
        raise ValueError(f"workflow: it must hold exactly one {class_type}, got {len(found)}")
    return found[0]


def find_all(prompt: dict, class_type: str) -> list[str]:
    """The ids of all nodes of a type."""
    return [node for node, entry in prompt.items() if entry["class_type"] == class_type]


def configure(
    prompt: dict, *, text: str | None, preset: PresetRow, seed: int, steps: int, frames: int, dtype: str
) -> dict:
    """A copy of the workflow's prompt with the run's settings; text None keeps the workflow's own.

    A clip of fewer frames is carved as the workflow's own is: the least number of tokens follows it.
    """
    prompt = copy.deepcopy(prompt)
    latent, carved = (prompt[find(prompt, name)]["inputs"] for name in (EMPTY_LATENT, "JengaAttention"))
    carved["min_tokens"] = carved["min_tokens"] * latent_frames(frames) // latent_frames(latent["length"])
    latent["length"] = frames
    prompt[find(prompt, "RandomNoise")]["inputs"]["noise_seed"] = seed
    prompt[find(prompt, "BasicScheduler")]["inputs"]["steps"] = steps
    prompt[find(prompt, "ModelComputeDtype")]["inputs"]["dtype"] = dtype
    sampled = prompt[find(prompt, JENGA_SAMPLER)]["inputs"]
    sampled["preset"] = preset.name
    if preset.dial:
        carved |= {"quality": "custom", "density": preset.dial.share, "anchor_distance": preset.dial.anchor_distance}
        sampled |= by_hand(preset)
    if text is not None:
        guider = prompt[find(prompt, JENGA_SAMPLER)]["inputs"]["guider"][0]
        prompt[prompt[guider]["inputs"]["positive"][0]]["inputs"]["text"] = text
    return prompt


def by_hand(preset: PresetRow) -> dict:
    """Inputs of the progressive sampler that give a position of the dial its stages and its step reuse."""
    scales, switch_points = preset_words.by_hand(preset.stages)
    return {
        "preset": "custom",
        "scales": scales,
        "switch_points": switch_points,
        "shift_ratios": "1.0",
        "step_reuse": "adaptive",
        "reuse_threshold": preset.dial.threshold,
    }


def variant(prompt: dict, name: str) -> tuple[dict, str]:
    """The prompt that samples one variant and nothing else, and the id of its sampler node.

    Its latent is what the node "latent" saves; all but dense have a report.
    """
    prompt, sampler = _sampling(prompt, name)
    outputs = {"latent"}
    if name != "dense":
        report = find(prompt, REPORT)
        prompt[report]["inputs"]["latent"] = [sampler, LATENT_SLOT]
        outputs.add(report)
    return ancestors(_save_latent(prompt, sampler, name), outputs), sampler


def decoding(prompt: dict, latent: str, frames_prefix: str) -> dict:
    """The prompt whose node "decode" decodes a saved latent and whose node "frames" saves the frames.

    latent: path in ComfyUI's output folder. frames_prefix: where SaveImage puts the frames there.
    """
    prompt = copy.deepcopy(prompt)
    vae = prompt[find_all(prompt, "VAEDecode")[0]]["inputs"]["vae"]
    prompt["latent"] = {"class_type": "LoadLatent", "inputs": {"latent": f"{latent} [output]"}}
    prompt["decode"] = {"class_type": "VAEDecode", "inputs": {"samples": ["latent", 0], "vae": vae}}
    inputs = {"images": ["decode", 0], "filename_prefix": frames_prefix}
    prompt["frames"] = {"class_type": "SaveImage", "inputs": inputs}
    return ancestors(prompt, {"frames"})


def warm_up(prompt: dict, name: str) -> tuple[dict, str]:
    """The same sampling for a run that nobody looks at, and without a report."""
    prompt, sampler = _sampling(prompt, name)
    return ancestors(_save_latent(prompt, sampler, "warm_up"), {"latent"}), sampler


def _save_latent(prompt: dict, sampler: str, folder: str) -> dict:
    """prompt with a node "latent" that saves the sampler's latent in a folder of ComfyUI's output folder."""
    inputs = {"samples": [sampler, LATENT_SLOT], "filename_prefix": f"{folder}/latent"}
    return {**prompt, "latent": {"class_type": "SaveLatent", "inputs": inputs}}


def _sampling(prompt: dict, name: str) -> tuple[dict, str]:
    """A copy of the prompt in which the variant's sampler is set up, and the id of that node."""
    prompt = copy.deepcopy(prompt)
    sampler = find(prompt, STOCK_SAMPLER if name == "dense" else JENGA_SAMPLER)
    if name == "carving":
        entry = prompt[sampler]
        kept = ("noise", "guider", "sampler", "sigmas", "latent_image")
        entry["inputs"] = {key: entry["inputs"][key] for key in kept}
        entry["class_type"] = STOCK_SAMPLER
    elif name == "resolution":
        prompt[sampler]["inputs"]["step_reuse"] = "off"
    return prompt, sampler


def ancestors(prompt: dict, outputs: set[str]) -> dict:
    """The part of a prompt that the given nodes need."""
    kept, queue = {}, list(outputs)
    while queue:
        node = queue.pop()
        if node not in kept:
            kept[node] = prompt[node]
            queue += [value[0] for value in prompt[node]["inputs"].values() if isinstance(value, list)]
    return kept
