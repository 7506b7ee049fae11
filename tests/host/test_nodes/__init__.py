"""Nodes of the host tests: conditioning without a text encoder, another pack's attention override, raw results."""

import math
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import comfy.nested_tensor
import torch
from comfy.patcher_extension import WrappersMP

from . import other_packs
from .patch import Patch

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


class TinyModel:
    """A model of tiny_models.MODELS."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "make", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {})}}

    def make(self, name):
        import tiny_models

        return (tiny_models.make(name),)


class OtherOverride(Patch):
    """What another pack does: an attention override that calls the one before it, and counts."""

    WIDGETS = {"tag": ("STRING", {"default": "other"})}

    def change(self, patched, tag):
        CALLS.clear()
        options = patched.model_options["transformer_options"]
        previous = options.get("optimized_attention_override")

        def override(func, *args, **kwargs):
            CALLS[tag] = CALLS.get(tag, 0) + 1
            return func(*args, **kwargs) if previous is None else previous(func, *args, **kwargs)

        options["optimized_attention_override"] = override


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


def guide_entry(frames: int, strength: float, pixel_mask=None) -> dict:
    """What ComfyUI's LTXVAddGuide notes of a guide of the latent's size."""
    return {
        "pre_filter_count": frames * 12 * 12,
        "strength": strength,
        "pixel_mask": pixel_mask,
        "latent_shape": [frames, 12, 12],
    }


class ImageCondition:
    """What the image-to-video nodes of ComfyUI put into a conditioning, at the size of the other test latents.

    kinds: words that are keys of `entries`.
    """

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "add", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"conditioning": ("CONDITIONING",), "kinds": ("STRING", {})}}

    def add(self, conditioning, kinds):
        generator = torch.Generator().manual_seed(4)
        image, mask = torch.randn(1, 16, 3, 24, 24, generator=generator), torch.ones(1, 1, 3, 24, 24)
        mask[:, :, 0] = 0
        wide = torch.randn(1, 24, 2, 16, 16, generator=torch.Generator().manual_seed(7))
        clip = SimpleNamespace(penultimate_hidden_states=torch.randn(1, 257, 1280, generator=generator))
        entries = {
            "concat": {"concat_latent_image": image, "concat_mask": mask},
            "control images": {"concat_latent_image": torch.cat([image, image], 1)},
            "mask": {"attention_mask": (torch.arange(12)[None] < 11).long()},
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
            "guide": {"keyframe_idxs": torch.zeros(1, 3, 12 * 12, 2)},  # the last frame of a latent of LTX
            "strength": {"guide_attention_entries": [guide_entry(1, 0.6)]},
            "two strengths": {
                "keyframe_idxs": torch.zeros(1, 3, 2 * 12 * 12, 2),
                "guide_attention_entries": [guide_entry(1, 0.6), guide_entry(1, 1.0)],
            },
            "weighed pixels": {"guide_attention_entries": [guide_entry(1, 1.0, torch.rand(1, 1, 1, 96, 96))]},
            "references": {"reference_latents": [image[:, :, :1]]},
            "subjects": {"reference_latents": [image[:, :, :1], image[:, :, 1:2]]},
            "camera": {"camera_conditions": torch.randn(1, 24, 3, 192, 192, generator=generator)},
            "speech": {"audio_embed": torch.randn(1, 25, 64, 12, generator=generator)},
            "voice": {"audio_embed": torch.randn(1, 3, 8, 5, 1280, generator=generator)},
            "music": {"audio_embed": torch.randn(1, 20, 35, generator=generator)},
            "control": {"control_video": image},
            "motion": {"reference_motion": torch.randn(1, 16, 19, 24, 24, generator=generator)},
            "pose": {"pose_video_latent": image[:, :, 1:]},
            "half pose": {"pose_video_latent": image[..., ::2, ::2]},
            "masks": {
                "driving_mask_28ch": (torch.randn(1, 3, 28, 12, 12, generator=generator) > 0).float(),
                "ref_mask_28ch": (torch.randn(1, 4, 28, 24, 24, generator=generator) > 0).float(),
                "ref_mask_flag": True,
            },
            "features": {
                "clip_vision_output": SimpleNamespace(last_hidden_state=torch.randn(1, 9, 1152, generator=generator))
            },
            "glyphs": {"conditioning_byt5small": torch.randn(1, 5, 1472, generator=generator)},
            "replace": {"time_dim_replace": image[:, :, :1]},
            "h3 keyframe": {
                "minimax_keyframes": [{"resolved_frame_index": 0, "latent": wide[:, :, :1]}],
                "minimax_frame_count": 22,
            },
            "h3 reference": {
                "minimax_refs": [
                    {"kind": "image", "latent_h": 10, "latent_w": 14, "latent": wide[:, :, :1, :10, :14]},
                    {"kind": "audio", "ref_audio_t": 9, "audio_latent": torch.randn(1, 32, 2, 9, generator=generator)},
                ]
            },
        }
        added = {key: value for kind in filter(None, kinds.split(",")) for key, value in entries[kind].items()}
        return ([[text, {**extra, **added}] for text, extra in conditioning],)


class Watch(Patch):
    """Notes the shapes of what every model call gets, and its sigma. values: its latent and prediction too."""

    OPTIONAL = {"values": ("BOOLEAN", {"default": False})}

    def change(self, patched, values=False):
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

        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "jenga_tests", apply_model)


class Quantised(Patch):
    """Linears of the blocks whose weights are kept in 8 bits and made whole in every call, as object patches."""

    def change(self, patched):
        for name, module in patched.model.diffusion_model.named_modules():
            if isinstance(module, torch.nn.Linear) and name.startswith("blocks."):
                scale = module.weight.abs().max() / 127
                weight, bias = (module.weight / scale).round().to(torch.int8), module.bias

                def forward(x, weight=weight, scale=scale, bias=bias):
                    return torch.nn.functional.linear(x, weight.to(x) * scale, bias)

                patched.add_object_patch(f"diffusion_model.{name}.forward", forward)


class LowMemory(Patch):
    """The model is loaded with room for a part of its weights alone: the others are cast in every call."""

    def change(self, patched):

        def outer_sample(executor, *args, **kwargs):
            patcher = executor.class_obj.model_patcher
            patcher.unpatch_model(patcher.offload_device)
            patcher.patch_model(patcher.load_device, lowvram_model_memory=1 << 20)
            return executor(*args, **kwargs)

        patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "jenga_tests", outer_sample)


class Threads(Patch):
    """Every conditioning of a prediction is a model call of its own, each in a thread of its own."""

    def change(self, patched):
        def calc_cond_batch(executor, model, conds, x, timestep, model_options):
            @torch.no_grad()  # as in the threads of ComfyUI's own split
            def computed(one):
                return executor(model, one, x, timestep, model_options)

            with ThreadPoolExecutor(len(conds)) as pool:
                alone = [[cond if i == j else None for j in range(len(conds))] for i, cond in enumerate(conds)]
                outs = list(pool.map(computed, alone))
            return [out[index] for index, out in enumerate(outs)]

        patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "jenga_tests", calc_cond_batch)


class Nudge(Patch):
    """Adds to one value of the video that a model call gets, or to one text token. Packed latents: the first part."""

    WIDGETS = {"what": ("STRING", {}), "by": ("FLOAT", {"default": 1.0})}

    def change(self, patched, what, by):
        def apply_model(executor, x, t, c_concat=None, c_crossattn=None, *args, **kwargs):
            if what == "text":
                c_crossattn = c_crossattn.clone()
                c_crossattn[:, 3] += by
            else:
                t_, h, w = map(int, what.split(","))
                x, shapes = x.clone(), kwargs.get("latent_shapes")
                shape = tuple(shapes[0] if shapes else x.shape)
                x.view(x.shape[0], -1)[:, : math.prod(shape[1:])].view(-1, *shape[1:])[:, 0, t_, h, w] += by
            return executor(x, t, c_concat, c_crossattn, *args, **kwargs)

        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "jenga_nudge", apply_model)


class RandomLatent:
    """A latent that is not empty, with an optional noise mask over all but the first frame."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "make", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        sizes = {"height": ("INT", {}), "width": ("INT", {}), "keep_first": ("BOOLEAN", {})}
        defaults = {"channels": 16, "batch": 1, "frames": 3}
        return {"required": sizes, "optional": {name: ("INT", {"default": n}) for name, n in defaults.items()}}

    def make(self, height, width, keep_first, channels=16, batch=1, frames=3):
        generator = torch.Generator().manual_seed(9)
        latent = {"samples": torch.randn(batch, channels, frames, height, width, generator=generator)}
        if keep_first:
            latent["noise_mask"] = torch.ones(batch, 1, frames, height, width)
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


class Kept:
    """A latent of video and audio that is not empty, with a noise mask that keeps the first frame of its video or the
    first half of its audio.
    """

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "make", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",), "part": ("STRING", {})}}

    def make(self, latent, part):
        generator = torch.Generator().manual_seed(11)
        parts = [torch.randn(one.shape, generator=generator) for one in latent["samples"].unbind()]
        masks = [torch.ones_like(one) for one in parts]
        if part == "video":
            masks[0][:, :, 0] = 0
        else:
            masks[1][..., : masks[1].shape[-1] // 2] = 0
        nested = comfy.nested_tensor.NestedTensor
        return ({**latent, "samples": nested(parts), "noise_mask": nested(masks)},)


NODE_CLASS_MAPPINGS = {
    "JengaTestConditioning": RandomConditioning,
    "JengaTestModel": TinyModel,
    "JengaTestOverride": OtherOverride,
    "JengaTestCapture": Capture,
    "JengaTestCaptureAny": CaptureAny,
    "JengaTestQuantised": Quantised,
    "JengaTestLowMemory": LowMemory,
    "JengaTestThreads": Threads,
    "JengaTestNudge": Nudge,
    "JengaTestLatent": RandomLatent,
    "JengaTestAudioLatent": AudioLatent,
    "JengaTestKept": Kept,
    "JengaTestImageCondition": ImageCondition,
    "JengaTestWatch": Watch,
    **other_packs.NODE_CLASS_MAPPINGS,
}
