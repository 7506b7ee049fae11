"""The runs the demo compares, each as an edit of the one workflow a user can open.

dense       the stock sampler on the unpatched model
carving     the stock sampler on the model with Jenga Attention
resolution  the progressive sampler with the preset's stages, step reuse off
jenga       the preset as it is

One after the other they attribute the speed-up: dense / carving, carving / resolution, resolution / jenga.
"""

import copy

VARIANTS = ("dense", "carving", "resolution", "jenga")
STOCK_SAMPLER = "SamplerCustomAdvanced"
JENGA_SAMPLER = "JengaProgressiveSampler"
REPORT = "JengaReport"
LATENT_SLOT = 0  # of both samplers


def find(prompt: dict, class_type: str) -> str:
    """The id of the only node of a type. Raises ValueError if there is not exactly one."""
    found = [node for node, entry in prompt.items() if entry["class_type"] == class_type]
    if len(found) != 1:
        raise ValueError(f"workflow: it must hold exactly one {class_type}, got {len(found)}")
    return found[0]


def find_all(prompt: dict, class_type: str) -> list[str]:
    """The ids of all nodes of a type."""
    return [node for node, entry in prompt.items() if entry["class_type"] == class_type]


def configure(prompt: dict, *, text: str | None, preset: str, seed: int, steps: int, dtype: str) -> dict:
    """A copy of the workflow's prompt with the run's settings; text None keeps the workflow's own."""
    prompt = copy.deepcopy(prompt)
    prompt[find(prompt, "RandomNoise")]["inputs"]["noise_seed"] = seed
    prompt[find(prompt, "BasicScheduler")]["inputs"]["steps"] = steps
    prompt[find(prompt, "ModelComputeDtype")]["inputs"]["dtype"] = dtype
    prompt[find(prompt, JENGA_SAMPLER)]["inputs"]["preset"] = preset
    if text is not None:
        guider = prompt[find(prompt, JENGA_SAMPLER)]["inputs"]["guider"][0]
        prompt[prompt[guider]["inputs"]["positive"][0]]["inputs"]["text"] = text
    return prompt


def variant(prompt: dict, name: str, frames_prefix: str) -> tuple[dict, str]:
    """The prompt that makes one variant's frames and nothing else, and the id of its sampler node.

    frames_prefix: where SaveImage puts the decoded frames, in ComfyUI's output folder.
    """
    prompt, sampler = _sampling(prompt, name)
    vae = prompt[find_all(prompt, "VAEDecode")[0]]["inputs"]["vae"]
    prompt["decode"] = {"class_type": "VAEDecode", "inputs": {"samples": [sampler, LATENT_SLOT], "vae": vae}}
    prompt["frames"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["decode", 0], "filename_prefix": frames_prefix},
    }
    outputs = {"frames"}
    if name != "dense":
        report = find(prompt, REPORT)
        prompt[report]["inputs"]["latent"] = [sampler, LATENT_SLOT]
        outputs.add(report)
    return ancestors(prompt, outputs), sampler


def warm_up(prompt: dict, name: str) -> tuple[dict, str]:
    """The same sampling for a run that nobody looks at: its latent goes to a file, not through the VAE."""
    prompt, sampler = _sampling(prompt, name)
    inputs = {"samples": [sampler, LATENT_SLOT], "filename_prefix": "warm_up"}
    prompt["latent"] = {"class_type": "SaveLatent", "inputs": inputs}
    return ancestors(prompt, {"latent"}), sampler


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
