"""Video models of ComfyUI's own classes in their published sizes, with random weights made on the device.

Speed may be judged on them, quality may not: their attention has no structure and their output no meaning.
"""

from dataclasses import dataclass

import torch

WAN = {
    "image_model": "wan2.1",
    "model_type": "t2v",
    "patch_size": (1, 2, 2),
    "in_dim": 16,
    "out_dim": 16,
    "freq_dim": 256,
    "window_size": (-1, -1),
    "qk_norm": True,
    "cross_attn_norm": True,
    "eps": 1e-6,
}
HUNYUAN = {
    "image_model": "hunyuan_video",
    "patch_size": [1, 2, 2],
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 768,
    "context_in_dim": 4096,
    "axes_dim": [16, 56, 56],
    "mlp_ratio": 4.0,
    "theta": 256,
    "qkv_bias": True,
    "guidance_embed": True,
    "byt5": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
    "meanflow": False,
    "meanflow_sum": False,
}


@dataclass(frozen=True)
class VideoModel:
    """One model at one size.

    config: class in comfy.supported_models. unet: its unet_config. clip: pixels wide, pixels high, frames.
    text: tokens and channels of the text condition. blocks: how many transformer blocks of each kind, by the name that
    ComfyUI's block replacement has for the kind.
    """

    title: str
    config: str
    unet: dict
    clip: tuple[int, int, int]
    text: tuple[int, int]
    blocks: dict[str, int]

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """[1, 16, T, H, W]: both VAEs make one latent pixel of 8 x 8 x 4."""
        width, height, frames = self.clip
        return (1, 16, (frames - 1) // 4 + 1, height // 8, width // 8)

    @property
    def video_tokens(self) -> int:
        _, _, t, h, w = self.latent_shape
        return t * (h // 2) * (w // 2)


def _wan(title: str, dim: int, ffn_dim: int, layers: int, clip: tuple[int, int, int], text_dim: int = 4096):
    sizes = {"dim": dim, "ffn_dim": ffn_dim, "num_heads": dim // 128, "num_layers": layers, "text_dim": text_dim}
    return VideoModel(title, "WAN21_T2V", {**WAN, **sizes}, clip, (512, text_dim), {"double_block": layers})


def _hunyuan(title: str, hidden: int, double: int, single: int, clip: tuple[int, int, int], text: tuple[int, int]):
    sizes = {"hidden_size": hidden, "num_heads": hidden // 128, "depth": double, "depth_single_blocks": single}
    unet = {**HUNYUAN, **sizes, "context_in_dim": text[1]}
    return VideoModel(title, "HunyuanVideo", unet, clip, text, {"double_block": double, "single_block": single})


MODELS = {
    "wan1.3b": _wan("Wan 1.3B", 1536, 8960, 30, (832, 480, 81)),
    "wan14b": _wan("Wan 14B", 5120, 13824, 40, (1280, 720, 81)),
    "hunyuan": _hunyuan("HunyuanVideo 13B", 3072, 20, 40, (1280, 720, 125), (256, 4096)),
}
TINY_CLIP = (192, 192, 17)  # 720 video tokens: 12 blocks of keys
TINY_MODELS = {
    "wan1.3b": _wan("tiny Wan", 256, 256, 2, TINY_CLIP, 64),
    "wan14b": _wan("tiny Wan, wider", 384, 384, 3, TINY_CLIP, 64),
    "hunyuan": _hunyuan("tiny HunyuanVideo", 256, 2, 2, TINY_CLIP, (64, 64)),
}


def build(model: VideoModel, dtype: torch.dtype, fp8: bool = False):
    """ComfyUI's ModelPatcher around the model with random weights. They are made on the GPU and stay there.

    fp8: weights in float8_e4m3fn, by ComfyUI's `--fast fp8_matrix_mult`; where the device has no such products they are
    cast to dtype at every use.
    """
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    device = comfy.model_management.get_torch_device()
    config = getattr(comfy.supported_models, model.config)(model.unet)
    if fp8:
        config.optimizations["fp8"] = True
        config.set_inference_dtype(torch.float8_e4m3fn, dtype)
    else:
        config.set_inference_dtype(dtype, None)
    built = config.get_model({}, device=device)
    fill_randomly(built.diffusion_model, torch.Generator(device).manual_seed(0), dtype)
    return comfy.model_patcher.ModelPatcher(built, load_device=device, offload_device=device)


def fill_randomly(module: torch.nn.Module, generator: torch.Generator, dtype: torch.dtype) -> None:
    """Matrices that keep the scale of what they multiply, norms of 1, no biases: activations stay of order 1.

    dtype: in which they are drawn, whatever they are kept in.
    """
    for name, weight in module.named_parameters():
        if weight.ndim > 1:
            drawn = torch.empty_like(weight, dtype=dtype).normal_(0, weight[0].numel() ** -0.5, generator=generator)
            weight.copy_(drawn)
        else:
            weight.copy_(torch.full_like(weight, 0 if name.endswith("bias") else 1, dtype=dtype))


def conditioning(model: VideoModel) -> list:
    """Random CONDITIONING: text [1, tokens, channels] and, for HunyuanVideo, the pooled text [1, 768]."""
    generator = torch.Generator().manual_seed(1)
    extras = {"pooled_output": torch.randn(1, 768, generator=generator)} if "vec_in_dim" in model.unet else {}
    return [[torch.randn(1, *model.text, generator=generator), extras]]


def first_blocks_only(patcher, model: VideoModel):
    """A clone of a MODEL that runs one transformer block of each kind: all shapes of the whole, for a warm-up."""
    clone = patcher.clone()
    for kind, count in model.blocks.items():
        for index in range(1, count):
            clone.set_model_patch_replace(lambda arguments, _: arguments, "dit", kind, index)
    return clone
