"""Small random transformers of diffusers' own classes, the arguments of a call, and a pipeline that is only a loop."""

from contextlib import nullcontext

import torch
from diffusers import (
    AllegroTransformer3DModel,
    ChronoEditTransformer3DModel,
    CogVideoXTransformer3DModel,
    CosmosTransformer3DModel,
    DiffusionPipeline,
    EasyAnimateTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoTransformer3DModel,
    Kandinsky5Transformer3DModel,
    LTX2VideoTransformer3DModel,
    LTXVideoTransformer3DModel,
    MiniMaxH3Transformer3DModel,
    MochiTransformer3DModel,
    MotifVideoTransformer3DModel,
    SkyReelsV2Transformer3DModel,
    WanAnimateTransformer3DModel,
    WanTransformer3DModel,
    WanVACETransformer3DModel,
)

from jenga import AnchorConfig, JengaConfig
from jenga.runtime.settings import CarvingSettings

ANCHORS = {"plain": (), "anchored": (AnchorConfig(2, residual_bits=16),)}
EXACT = 1e-4

FRAMES, ROWS, COLUMNS = 3, 16, 32  # of the latent; 3 x 8 x 16 tokens where a patch is 2 x 2
TEXT = 8
HEADS, HEAD_DIM = 4, 16


def settings(density=1.0, anchors=(), **others) -> CarvingSettings:
    return CarvingSettings(JengaConfig(density=density, backend="reference"), anchors, min_tokens=0, **others)


def error(found, expected) -> float:
    return float((found - expected).norm() / expected.norm())


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def text(dim: int, seed: int, tokens: int = TEXT) -> torch.Tensor:
    return draw(1, tokens, dim, seed=100 + seed)


def text_mask(seed: int) -> torch.Tensor:
    """The last token is padding; of the second prompt the last two."""
    return (torch.arange(TEXT) < TEXT - 1 - seed).long()[None]


BESIDE = "beside"  # latents beside the noisy ones, in the channels behind theirs
WAN = dict(
    num_attention_heads=HEADS,
    attention_head_dim=HEAD_DIM,
    in_channels=4,
    out_channels=4,
    text_dim=16,
    freq_dim=16,
    ffn_dim=32,
)


def wan():
    return WanTransformer3DModel(num_layers=2, **WAN), lambda seed: {"encoder_hidden_states": text(16, seed)}, 4


def wan_image():
    """The image's features go beside the text, its latents beside the noisy ones, as another part of the channels."""
    channels = {"in_channels": 9, "image_dim": 12, "added_kv_proj_dim": HEADS * HEAD_DIM}
    model = WanTransformer3DModel(num_layers=2, **{**WAN, **channels})
    features, image = draw(1, 5, 12, seed=7), draw(1, 5, FRAMES, ROWS, COLUMNS, seed=5)

    def arguments(seed):
        return {
            "encoder_hidden_states": text(16, seed, 512),
            "encoder_hidden_states_image": features,
            BESIDE: image,
        }

    return model, arguments, 4


def skyreels():
    model = SkyReelsV2Transformer3DModel(num_layers=2, **WAN)
    return model, lambda seed: {"encoder_hidden_states": text(16, seed)}, 4


def chronoedit():
    """A picture that is edited, as a clip of its change: its features and latents as in Wan's image to video."""
    channels = {"in_channels": 9, "image_dim": 12, "added_kv_proj_dim": HEADS * HEAD_DIM}
    model = ChronoEditTransformer3DModel(num_layers=2, **{**WAN, **channels})
    return model, wan_image()[1], 4


def wan_vace():
    model = WanVACETransformer3DModel(num_layers=2, vace_layers=[0, 1], vace_in_channels=8, **WAN)
    control = draw(1, 8, FRAMES, ROWS, COLUMNS, seed=5)
    return model, lambda seed: {"encoder_hidden_states": text(16, seed), "control_hidden_states": control}, 4


def wan_animate():
    model = WanAnimateTransformer3DModel(
        num_layers=2,
        latent_channels=4,
        image_dim=16,
        motion_encoder_channel_sizes={"4": 8, "8": 8, "16": 8},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
        **{**WAN, "in_channels": None},
    )
    pose, face = draw(1, 4, FRAMES - 1, ROWS, COLUMNS, seed=5), draw(1, 3, 5, 16, 16, seed=6)

    def arguments(seed):
        return {
            "encoder_hidden_states": text(16, seed, 512),
            "encoder_hidden_states_image": draw(1, 4, 16, seed=7),
            "pose_hidden_states": pose,
            "face_pixel_values": face,
        }

    return model, arguments, 4


def hunyuan_video():
    model = HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        num_layers=1,
        num_single_layers=2,
        num_refiner_layers=1,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(4, 6, 6),
    )

    def arguments(seed):
        return {
            "encoder_hidden_states": text(16, seed),
            "encoder_attention_mask": text_mask(seed),
            "pooled_projections": draw(1, 8, seed=seed),
            "guidance": torch.tensor([6000.0]),
        }

    return model, arguments, 4


def hunyuan_video15():
    model = HunyuanVideo15Transformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        num_layers=2,
        num_refiner_layers=1,
        patch_size=2,
        text_embed_dim=16,
        text_embed_2_dim=8,
        image_embed_dim=12,
        rope_axes_dim=(4, 6, 6),
    )

    def arguments(seed):
        return {
            "encoder_hidden_states": text(16, seed),
            "encoder_attention_mask": text_mask(seed),
            "encoder_hidden_states_2": text(8, seed, 3),
            "encoder_attention_mask_2": torch.tensor([[1, 1, 0]]),
            "image_embeds": torch.zeros(1, 2, 12),
        }

    return model, arguments, 4


def ltx():
    model = LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        cross_attention_dim=HEADS * HEAD_DIM,
        num_layers=2,
        caption_channels=16,
    )

    def arguments(seed):
        return {
            "encoder_hidden_states": text(16, seed),
            "encoder_attention_mask": text_mask(seed),
            "num_frames": FRAMES,
            "height": ROWS // 2,
            "width": COLUMNS // 2,
        }

    return model, arguments, 4


def ltx2():
    model = LTX2VideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        cross_attention_dim=HEADS * HEAD_DIM,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=HEADS,
        audio_attention_head_dim=8,
        audio_cross_attention_dim=HEADS * 8,
        num_layers=2,
        caption_channels=16,
    )

    def arguments(seed):
        return {
            "audio_hidden_states": draw(1, 9, 4, seed=8),
            "encoder_hidden_states": text(16, seed),
            "audio_encoder_hidden_states": text(16, seed),
            "encoder_attention_mask": text_mask(seed),
            "audio_encoder_attention_mask": text_mask(seed),
            "num_frames": FRAMES,
            "height": ROWS // 2,
            "width": COLUMNS // 2,
            "audio_num_frames": 9,
        }

    return model, arguments, 4


def cogvideox():
    model = CogVideoXTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=16,
        num_layers=2,
        sample_width=COLUMNS,
        sample_height=ROWS,
        sample_frames=9,
        max_text_seq_length=TEXT,
    )
    return model, lambda seed: {"encoder_hidden_states": text(16, seed)}, 4


def mochi():
    model = MochiTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        num_layers=2,
        pooled_projection_dim=16,
        in_channels=4,
        text_embed_dim=16,
        time_embed_dim=8,
        max_sequence_length=TEXT,
    )

    def arguments(seed):
        return {"encoder_hidden_states": text(16, seed), "encoder_attention_mask": text_mask(seed).bool()}

    return model, arguments, 4


def cogvideox15():
    """Two frames in a token, and the image's latents beside the noisy ones."""
    model = CogVideoXTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        in_channels=8,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=16,
        num_layers=2,
        sample_width=COLUMNS,
        sample_height=ROWS,
        sample_frames=17,
        patch_size=2,
        patch_size_t=2,
        patch_bias=False,
        use_rotary_positional_embeddings=True,
        max_text_seq_length=TEXT,
    )
    angles = draw(2 * ROWS // 2 * COLUMNS // 2, HEAD_DIM, seed=6)
    image = draw(1, 4, 4, ROWS, COLUMNS, seed=5)

    def arguments(seed):
        return {
            "encoder_hidden_states": text(16, seed),
            "image_rotary_emb": (angles.cos(), angles.sin()),
            BESIDE: image,
        }

    return model, arguments, 4


def kandinsky5():
    model = Kandinsky5Transformer3DModel(
        in_visual_dim=4,
        out_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=8,
        time_dim=8,
        model_dim=HEADS * HEAD_DIM,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=2,
        axes_dims=(4, 6, 6),
    )
    # Made 0 for training: nothing would reach the output. Small: q and k are rounded to bfloat16 with the rotation, and
    # a difference in the last bit of a layer becomes one of bfloat16 in the next.
    for name, weight in model.named_parameters():
        if "modulation" in name:
            torch.nn.init.normal_(weight, std=0.05)
    places = [torch.arange(size) for size in (FRAMES, ROWS // 2, COLUMNS // 2)]

    def arguments(seed):
        return {
            "encoder_hidden_states": text(16, seed),
            "pooled_projections": draw(1, 8, seed=seed),
            "visual_rope_pos": places,
            "text_rope_pos": torch.arange(TEXT),
        }

    return model, arguments, 4


def cosmos():
    model = CosmosTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        num_layers=2,
        mlp_ratio=2.0,
        text_embed_dim=16,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
    )
    padding = torch.zeros(1, 1, ROWS, COLUMNS)
    return model, lambda seed: {"encoder_hidden_states": text(16, seed), "padding_mask": padding}, 4


def motif_video():
    model = MotifVideoTransformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        num_layers=1,
        num_single_layers=2,
        text_embed_dim=16,
        image_embed_dim=12,
        rope_axes_dim=(4, 6, 6),
    )
    image = draw(1, 5, FRAMES, ROWS, COLUMNS, seed=5)

    def arguments(seed):
        return {
            "encoder_hidden_states": text(16, seed),
            "encoder_attention_mask": text_mask(seed),
            "image_embeds": draw(1, 5, 12, seed=7),
            BESIDE: image,
        }

    return model, arguments, 4


def allegro():
    model = AllegroTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        num_layers=2,
        cross_attention_dim=HEADS * HEAD_DIM,
        sample_height=ROWS,
        sample_width=COLUMNS,
        sample_frames=FRAMES,
        caption_channels=16,
    )

    def arguments(seed):
        return {"encoder_hidden_states": text(16, seed), "encoder_attention_mask": text_mask(seed)}

    return model, arguments, 4


EASYANIMATE = dict(
    num_attention_heads=HEADS,
    attention_head_dim=HEAD_DIM,
    out_channels=4,
    patch_size=2,
    num_layers=2,
    time_embed_dim=8,
    text_embed_dim=16,
)


def easyanimate():
    """The second block has the same weights for text and video."""
    model = EasyAnimateTransformer3DModel(in_channels=4, mmdit_layers=1, **EASYANIMATE)
    return model, lambda seed: {"encoder_hidden_states": text(16, seed)}, 4


def easyanimate_control():
    """Latents of a control video and of the one to be painted in lie in the channels behind; two text encoders."""
    model = EasyAnimateTransformer3DModel(in_channels=12, text_embed_dim_t5=8, **EASYANIMATE)
    inpaint, control = (draw(1, 4, FRAMES, ROWS, COLUMNS, seed=seed) for seed in (5, 6))

    def arguments(seed):
        return {
            "encoder_hidden_states": text(16, seed),
            "encoder_hidden_states_t5": text(8, seed, 3),
            "inpaint_latents": inpaint,
            "control_latents": control,
        }

    return model, arguments, 4


H3_CHANNELS, H3_AUDIO_CHANNELS = 24, 32
H3_AUDIO = 9  # latents of audio in each of two channels


def minimax_h3():
    """Text, a condition of another size, two channels of audio, and the video, in one sequence."""
    model = MiniMaxH3Transformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        hidden_size=HEADS * HEAD_DIM,
        num_layers=2,
        num_refiner_layers=1,
        ffn_dim=32,
        in_channels=H3_CHANNELS,
        audio_in_channels=H3_AUDIO_CHANNELS,
        text_dim=16,
        freq_dim=16,
        time_embed_hidden_dim=16,
        time_embed_dim=8,
        rope_freq_dim=2,
    )
    times = torch.arange(H3_AUDIO)
    places = (
        torch.cartesian_prod(torch.arange(TEXT), torch.tensor([0]), torch.tensor([0])),
        torch.cartesian_prod(torch.tensor([TEXT]), torch.arange(2), torch.arange(3)),
        torch.stack([times.repeat(2) + TEXT, torch.zeros(2 * H3_AUDIO), times.repeat_interleave(2)], 1),
        torch.cartesian_prod(TEXT + 5 * torch.arange(FRAMES), torch.arange(ROWS // 2), torch.arange(COLUMNS // 2)),
    )
    kinds = torch.tensor([1, 0, 2, 0]).repeat_interleave(torch.tensor([len(part) for part in places]))
    condition = draw(1, len(places[1]), 4 * H3_CHANNELS, seed=5)
    lasting = {
        "audio_hidden_states": draw(1, 2 * H3_AUDIO, H3_AUDIO_CHANNELS, seed=8),
        "timestep_indices": torch.zeros_like(kinds),
        "token_tags": kinds,
        "position_ids": torch.cat(places).double(),
        "video_indices": (kinds == 0).nonzero().flatten(),
        "text_indices": (kinds == 1).nonzero().flatten(),
        "audio_indices": (kinds == 2).nonzero().flatten(),
    }
    return model, lambda seed: {**lasting, "encoder_hidden_states": text(16, seed), BESIDE: condition}, 4 * H3_CHANNELS


FAMILIES = (
    wan,
    wan_image,
    wan_vace,
    wan_animate,
    skyreels,
    hunyuan_video,
    hunyuan_video15,
    ltx,
    ltx2,
    cogvideox,
    cogvideox15,
    kandinsky5,
    cosmos,
    mochi,
    chronoedit,
    motif_video,
    allegro,
    easyanimate,
    easyanimate_control,
    minimax_h3,
)
PATCHED = (ltx, ltx2, minimax_h3)  # their latents are sequences of patches


class Loop(DiffusionPipeline):
    """What every video pipeline of diffusers does between its encoders: prompt and no prompt, apart or as a batch."""

    def __init__(self, transformer, scheduler, transformer_2=None):
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler, transformer_2=transformer_2)
        self.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def __call__(self, latents, arguments, steps=4, guidance=3.0, batched=False, boundary=None):
        self.scheduler.set_timesteps(steps)
        with self.progress_bar(total=steps) as bar:
            for index, timestep in enumerate(self.scheduler.timesteps):
                late = boundary is not None and index >= boundary
                model = self.transformer_2 if late else self.transformer
                if batched:
                    both = [arguments(seed) for seed in (0, 1)]
                    batch = {name: _join(name, [one[name] for one in both]) for name in both[0]}
                    with _context(model, "cond_uncond"):
                        cond, uncond = call(model, torch.cat([latents] * 2), timestep.expand(2), batch).chunk(2)
                else:
                    predicted = []
                    for seed, name in enumerate(("cond", "uncond")):
                        with _context(model, name):
                            predicted.append(call(model, latents, timestep.expand(1), arguments(seed)))
                    cond, uncond = predicted
                noise = uncond + guidance * (cond - uncond)
                latents = self.scheduler.step(noise, timestep, latents, return_dict=False)[0]
                bar.update()
        return latents


def _context(model, name):
    """The library's name for a call, where the model has step caches."""
    return model.cache_context(name) if hasattr(model, "cache_context") else nullcontext()


ONE_FOR_ALL = ("text_rope_pos", "padding_mask", "token_tags", "position_ids")


def _join(name: str, values: list):
    one = not isinstance(values[0], torch.Tensor) or name in ONE_FOR_ALL or name.endswith("_indices")
    return values[0] if one else torch.cat(values)


def call(model, latents, timestep, arguments):
    """What the model predicts of the noisy latents alone. timestep: [B]"""
    if "face_pixel_values" in arguments:  # the reference's latents and a mask lie beside the noisy ones
        latents = torch.cat([latents, latents.new_zeros(*latents.shape[:1], 8, *latents.shape[2:])], 1)
    beside = arguments.get(BESIDE)
    arguments = {name: value for name, value in arguments.items() if name != BESIDE}
    if isinstance(model, MiniMaxH3Transformer3DModel):  # what lies beside is in front; a batch has one noise level
        given = torch.cat([beside, latents], 1)
        out = model(hidden_states=given, timestep=timestep[:1], return_dict=False, **arguments)[0]
        return out[:, beside.shape[1] :]
    if beside is not None:
        latents = torch.cat([latents, beside], 2 if isinstance(model, CogVideoXTransformer3DModel) else 1)
    out = model(hidden_states=latents, timestep=timestep, return_dict=False, **arguments)
    return out if isinstance(out, torch.Tensor) else out[0]  # Kandinsky's is a tensor


def make(family, rows: int = ROWS, columns: int = COLUMNS) -> tuple[Loop, torch.Tensor, object]:
    """A pipeline of one family, its first latents, and the arguments of a call by the prompt's number.

    rows, columns: of the latent, for families whose arguments do not hold them.
    """
    torch.manual_seed(0)
    transformer, arguments, channels = family()
    transformer.eval()
    shape = (1, channels, FRAMES, rows, columns)
    if family in PATCHED:
        shape = (1, FRAMES * ROWS * COLUMNS // 4, channels)
    elif family in (cogvideox, cogvideox15):
        shape = (1, FRAMES + (family is cogvideox15), channels, ROWS, COLUMNS)
    elif family is kandinsky5:
        shape = (1, FRAMES, ROWS, COLUMNS, channels)
    return Loop(transformer, FlowMatchEulerDiscreteScheduler()), draw(*shape, seed=3), arguments
