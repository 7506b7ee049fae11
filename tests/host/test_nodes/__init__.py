"""Nodes of the host tests: conditioning without a text encoder, another pack's attention override, raw results."""

import torch

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
        return {"ui": {"samples": [latent["samples"].clone()], "override_calls": [dict(CALLS)]}}


class RandomLatent:
    """A latent that is not empty, with an optional noise mask over all but the first frame."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "make", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"height": ("INT", {}), "width": ("INT", {}), "keep_first": ("BOOLEAN", {})}}

    def make(self, height, width, keep_first):
        generator = torch.Generator().manual_seed(9)
        latent = {"samples": torch.randn(1, 16, 3, height, width, generator=generator)}
        if keep_first:
            latent["noise_mask"] = torch.ones(1, 1, 3, height, width)
            latent["noise_mask"][:, :, 0] = 0
        return (latent,)


NODE_CLASS_MAPPINGS = {
    "JengaTestConditioning": RandomConditioning,
    "JengaTestOverride": OtherOverride,
    "JengaTestCapture": Capture,
    "JengaTestLatent": RandomLatent,
}
