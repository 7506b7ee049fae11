"""Small random-weight checkpoints that ComfyUI's stock UNETLoader accepts, made with ComfyUI's own modules.

Run inside a process that has ComfyUI on its path (conftest.py does). The safetensors header's `config` overrides what
ComfyUI would derive from the shapes.
"""

import importlib.util
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

TEXT_DIM = 64
HUNYUAN_TEXT_DIM = 64


def random_weights(module: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """A state dict with norms near 1 and everything else scaled so that activations stay of order 1."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, value in module.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if value.ndim > 1 and "modulation" not in name:
            weights[name] = noise / value[0].numel() ** 0.5
        elif name.endswith(("norm_q.weight", "norm_k.weight", "norm.weight", "scale")):
            weights[name] = 1 + 0.1 * noise
        else:
            weights[name] = 0.1 * noise
    return weights


def wan(path: Path, channels: tuple[int, int] = (16, 16), model_type: str = "t2v", seed: int = 1) -> None:
    """Wan: 2 heads of 128, 2 layers. channels in and out: (36, 16) with an image condition, (48, 48) Wan 2.2 5B.
    model_type: t2v, i2v or vace.
    """
    import comfy.ops
    from comfy.ldm.wan.model import VaceWanModel, WanModel

    sizes = {"dim": 256, "ffn_dim": 256, "num_heads": 2, "num_layers": 2, "text_dim": TEXT_DIM, "freq_dim": 256}
    if model_type == "vace":
        build, sizes = VaceWanModel, {**sizes, "vace_layers": 1, "vace_in_dim": 96}
    else:
        build, sizes = WanModel, {**sizes, "model_type": model_type}
    model = build(
        in_dim=channels[0],
        out_dim=channels[1],
        device="cpu",
        dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
        **sizes,
    )
    metadata = {"config": json.dumps({"transformer": {"text_dim": TEXT_DIM, "num_heads": 2}})}
    save_file(random_weights(model, seed), path, metadata=metadata)


def hunyuan_video(path: Path, in_channels: int = 16, image: bool = False, seed: int = 2) -> None:
    """HunyuanVideo: 2 heads of 128, one double and one single block, guidance embedded.

    in_channels: 33 with an image and its mask as condition (I2V, concat), 16 without (T2V, and I2V by replacement).
    image: HunyuanImage 2.1 instead, the same class without time and with 64 channels in and out.
    """
    import comfy.ops
    from comfy.ldm.hunyuan_video.model import HunyuanVideo

    model = HunyuanVideo(
        in_channels=64 if image else in_channels,
        patch_size=[1, 1] if image else [1, 2, 2],
        out_channels=64 if image else 16,
        vec_in_dim=None if image else 768,
        axes_dim=[64, 64] if image else [16, 56, 56],
        context_in_dim=HUNYUAN_TEXT_DIM,
        hidden_size=256,
        mlp_ratio=4.0,
        num_heads=2,
        depth=1,
        depth_single_blocks=1,
        theta=256,
        qkv_bias=True,
        guidance_embed=True,
        byt5=False,
        use_cond_type_embedding=False,
        vision_in_dim=None,
        meanflow=False,
        meanflow_sum=False,
        device="cpu",
        dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    )
    save_file(random_weights(model, seed), path)


def ltxv(path: Path, seed: int = 3) -> None:
    """LTX-Video: a video model that the table of families does not have."""
    from comfy.ldm.lightricks.model import LTXVModel

    sizes = {
        "attention_head_dim": 32,
        "num_attention_heads": 2,
        "cross_attention_dim": 64,
        "caption_channels": TEXT_DIM,
    }
    _save_ltx(LTXVModel, sizes, path, seed)


def ltxav(path: Path, seed: int = 4) -> None:
    """LTX-2: video and audio. A text of TEXT_DIM is that of both, as the connectors would have made it."""
    from comfy.ldm.lightricks.av_model import LTXAVModel

    sizes = {
        "attention_head_dim": 32,
        "num_attention_heads": 2,
        "cross_attention_dim": 64,
        "audio_attention_head_dim": 16,
        "audio_num_attention_heads": 2,
        "audio_cross_attention_dim": 32,
        "caption_channels": TEXT_DIM // 2,
        "connector_attention_head_dim": 32,
        "connector_num_attention_heads": 1,
        "connector_num_layers": 1,
    }
    _save_ltx(LTXAVModel, sizes, path, seed)


def _save_ltx(build: type, sizes: dict[str, int], path: Path, seed: int) -> None:
    """Two layers; the file's metadata tells the loader the sizes."""
    import comfy.ops

    model = build(num_layers=2, device="cpu", dtype=torch.float32, operations=comfy.ops.disable_weight_init, **sizes)
    metadata = {"config": json.dumps({"transformer": sizes})}
    save_file(random_weights(model, seed), path, metadata=metadata)


def minimax_h3(path: Path, seed: int = 5) -> None:
    """MiniMax H3: video and audio in one sequence, 2 heads of 128, 2 layers."""
    import comfy.ops
    from comfy.ldm.minimax.model import MiniMaxH3Model

    model = MiniMaxH3Model(
        hidden_size=256,
        num_layers=2,
        token_refiner_num_layers=1,
        num_attention_heads=2,
        ffn_hidden_size=256,
        text_dim=TEXT_DIM,
        time_embed_hidden_size=64,
        time_embed_dim=64,
        device="cpu",
        dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    )
    save_file(random_weights(model, seed), path)


def make_all(folder: Path) -> None:
    """Every checkpoint of this module, in the folder that UNETLoader looks in."""
    folder.mkdir(parents=True, exist_ok=True)
    wan(folder / "wan_t2v.safetensors")
    wan(folder / "wan_i2v.safetensors", (36, 16), "i2v")
    wan(folder / "wan_t2v_low.safetensors", seed=11)
    wan(folder / "wan22_i2v.safetensors", (36, 16))
    wan(folder / "wan22_i2v_low.safetensors", (36, 16), seed=12)
    wan(folder / "wan22_5b.safetensors", (48, 48))
    wan(folder / "wan_vace.safetensors", model_type="vace")
    hunyuan_video(folder / "hunyuan_t2v.safetensors")
    hunyuan_video(folder / "hunyuan_i2v.safetensors", 33)
    hunyuan_video(folder / "hunyuan_image.safetensors", image=True)
    ltxv(folder / "ltxv.safetensors")
    ltxav(folder / "ltxav.safetensors")
    if importlib.util.find_spec("comfy.ldm.minimax"):  # ComfyUI 0.16 does not have it
        minimax_h3(folder / "minimax_h3.safetensors")
