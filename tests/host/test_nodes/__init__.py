"""Nodes of the host tests: conditioning without a text encoder, another pack's attention override, raw results."""

import torch

CALLS: dict[str, int] = {}  # override tag -> calls; the tests read and clear it


class RandomConditioning:
    """A fixed random text embedding."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "make", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 0}), "masked_tokens": ("INT", {"default": 0})}}

    def make(self, seed, masked_tokens):
        generator = torch.Generator().manual_seed(seed)
        extra = {"pooled_output": torch.randn(1, 768, generator=generator)}
        if masked_tokens:
            mask = torch.ones(1, 12, dtype=torch.long)
            mask[:, 12 - masked_tokens :] = 0
            extra["attention_mask"] = mask
        return ([[torch.randn(1, 12, 64, generator=generator), extra]],)


class OtherOverride:
    """What another pack does: an attention override that calls the one before it, and counts."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "patch", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "tag": ("STRING", {"default": "other"})}}

    def patch(self, model, tag):
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
        return {"ui": {"samples": [latent["samples"].clone()]}}


NODE_CLASS_MAPPINGS = {
    "JengaTestConditioning": RandomConditioning,
    "JengaTestOverride": OtherOverride,
    "JengaTestCapture": Capture,
}
