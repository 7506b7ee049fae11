"""Nodes of the host tests: conditioning without a text encoder, another pack's attention override, raw results."""

from types import SimpleNamespace

import torch
from comfy.patcher_extension import WrappersMP

from . import other_packs

SEEN: list[dict[str, list]] = []  # shapes of the tensors in a model call, and its sigma; reported by Capture
CALLS: dict[str, int] = {}  # override tag -> calls; reported by Capture, cleared by OtherOverride


class RandomConditioning:
    """A fixed random text embedding. masked_tokens: so many of its 12 tokens are padding. key: an extra entry."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "make", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {}), "masked_tokens": ("INT", {}), "key": ("STRING", {})}}

    def make(self, seed, masked_tokens, key):
        generator = torch.Generator().manual_seed(seed)
        extra = {"pooled_output": torch.randn(1, 768, generator=generator)}
        if masked_tokens:
            mask = torch.ones(1, 12, dtype=torch.long)
            mask[:, 12 - masked_tokens :] = 0
            extra["attention_mask"] = mask
        if key:
            extra[key] = True
        return ([[torch.randn(1, 12, 64, generator=generator), extra]],)


class OtherOverride:
    """What another pack does: an attention override that calls the one before it, and counts."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "patch", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "tag": ("STRING", {"default": "other"})}}

    def patch(self, model, tag):
        CALLS.clear()
        patched = model.clone()
        options = patched.model_options["transformer_options"]
        previous = options.get("optimized_attention_override")

        def override(func, *args, **kwargs):
            CALLS[tag] = CALLS.get(tag, 0) + 1
            return func(*args, **kwargs) if previous is None else previous(func, *args, **kwargs)

        options["optimized_attention_override"] = override
        return (patched,)


class Capture:
    """Hands tensors to the test: in one process the history keeps Python objects as they are."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "jenga tests", "capture", (), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",)}}

    def capture(self, latent):
        seen = SEEN.copy()
        SEEN.clear()
        return {"ui": {"samples": [latent["samples"].clone()], "override_calls": [dict(CALLS)], "seen": seen}}


class CaptureAny:
    """Hands up to four values of any type to the test."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "jenga tests", "capture", (), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"optional": {f"value{index}": ("*", {}) for index in range(4)}}

    def capture(self, **values):
        return {"ui": {"values": [value for _, value in sorted(values.items())]}}


class ImageCondition:
    """What the image-to-video nodes of ComfyUI put into a conditioning, at the size of the other test latents.

    kinds: words of concat, clip, guiding, reference, vace, phantom, keyframes.
    """

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "add", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"conditioning": ("CONDITIONING",), "kinds": ("STRING", {})}}

    def add(self, conditioning, kinds):
        generator = torch.Generator().manual_seed(4)
        image, mask = torch.randn(1, 16, 3, 24, 24, generator=generator), torch.ones(1, 1, 3, 24, 24)
        mask[:, :, 0] = 0
        clip = SimpleNamespace(penultimate_hidden_states=torch.randn(1, 257, 1280, generator=generator))
        entries = {
            "concat": {"concat_latent_image": image, "concat_mask": mask},
            "clip": {"clip_vision_output": clip},
            "guiding": {"guiding_frame_index": 0},
            "reference": {"ref_latent": image[:, :, :1]},
            "vace": {
                "vace_frames": [torch.cat([image, image], 1)],
                "vace_mask": [torch.ones(1, 64, 3, 24, 24)],
                "vace_strength": [1.0],
            },
            "phantom": {"time_dim_concat": image[:, :, :1]},
            "keyframes": {"keyframe_idxs": torch.zeros(1, 3, 4, 2)},
        }
        added = {key: value for kind in kinds.split() for key, value in entries[kind].items()}
        return ([[text, {**extra, **added}] for text, extra in conditioning],)


class Watch:
    """Notes the shapes of what every model call gets, and its sigma. values: its latent and prediction too."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "patch", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}, "optional": {"values": ("BOOLEAN", {"default": False})}}

    def patch(self, model, values=False):
        def apply_model(executor, x, *args, **kwargs):
            given = {**dict(zip(("t", "c_concat", "c_crossattn"), args, strict=False)), **kwargs, "x": x}
            shapes = {name: list(value.shape) for name, value in given.items() if isinstance(value, torch.Tensor)}
            parts = [list(shape) for shape in kwargs.get("latent_shapes", ())]
            seen = {**shapes, "sigma": given["t"].tolist(), "parts": parts}
            SEEN.append(seen)
            denoised = executor(x, *args, **kwargs)
            if values:
                seen["values"] = (x.clone(), denoised.clone())
            return denoised

        patched = model.clone()
        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "jenga_tests", apply_model)
        return (patched,)


class RandomLatent:
    """A latent that is not empty, with an optional noise mask over all but the first frame."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "make", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        sizes = {"height": ("INT", {}), "width": ("INT", {}), "keep_first": ("BOOLEAN", {})}
        return {"required": sizes, "optional": {"channels": ("INT", {"default": 16}), "batch": ("INT", {"default": 1})}}

    def make(self, height, width, keep_first, channels=16, batch=1):
        generator = torch.Generator().manual_seed(9)
        latent = {"samples": torch.randn(batch, channels, 3, height, width, generator=generator)}
        if keep_first:
            latent["noise_mask"] = torch.ones(batch, 1, 3, height, width)
            latent["noise_mask"][:, :, 0] = 0
        return (latent,)


class AudioLatent:
    """An audio latent of LTX-2: empty, or random with a noise mask that keeps its first half."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "make", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"length": ("INT", {}), "keep_half": ("BOOLEAN", {})}}

    def make(self, length, keep_half):
        shape = (1, 8, length, 16)
        if not keep_half:
            return ({"samples": torch.zeros(shape)},)
        mask = torch.ones(shape)
        mask[:, :, : length // 2] = 0
        return ({"samples": torch.randn(shape, generator=torch.Generator().manual_seed(10)), "noise_mask": mask},)


NODE_CLASS_MAPPINGS = {
    "JengaTestConditioning": RandomConditioning,
    "JengaTestOverride": OtherOverride,
    "JengaTestCapture": Capture,
    "JengaTestCaptureAny": CaptureAny,
    "JengaTestLatent": RandomLatent,
    "JengaTestAudioLatent": AudioLatent,
    "JengaTestImageCondition": ImageCondition,
    "JengaTestWatch": Watch,
    **other_packs.NODE_CLASS_MAPPINGS,
}
