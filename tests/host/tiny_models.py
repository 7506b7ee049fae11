"""Small random models of ComfyUI's own classes, made in the process that runs them: of families whose sizes the loader
fixes, and of those whose smallest checkpoint is large. MODELS: name -> class of comfy.supported_models, unet_config.
"""

TEXT_DIM = 64
WAN = {"dim": 256, "ffn_dim": 256, "num_heads": 2, "num_layers": 2, "text_dim": TEXT_DIM, "freq_dim": 256}
HUNYUAN = {
    "vec_in_dim": None,
    "context_in_dim": TEXT_DIM,
    "hidden_size": 256,
    "mlp_ratio": 4.0,
    "num_heads": 2,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [16, 56, 56],
    "theta": 256,
    "qkv_bias": True,
    "guidance_embed": False,
    "meanflow": False,
}
COG = {
    "num_attention_heads": 2,
    "attention_head_dim": 64,
    "num_layers": 2,
    "text_embed_dim": TEXT_DIM,
    "time_embed_dim": 64,
    "use_rotary_positional_embeddings": True,
}
COSMOS = {
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 128,
    "num_blocks": 2,
    "num_heads": 2,
    "concat_padding_mask": True,
    "crossattn_emb_channels": TEXT_DIM,
    "pos_emb_cls": "rope3d",
    "pos_emb_interpolation": "crop",
    "use_adaln_lora": True,
    "adaln_lora_dim": 32,
}
MODELS = {
    "wan_fun": ("WAN21_FunControl2V", {**WAN, "model_type": "i2v", "in_dim": 48, "in_dim_ref_conv": 16}),
    "wan_camera": ("WAN21_Camera", {**WAN, "model_type": "camera", "in_dim": 32}),
    "wan_s2v": ("WAN22_S2V", {**WAN, "model_type": "s2v", "audio_dim": 64, "audio_inject_layers": [0]}),
    "wan_humo": ("WAN21_HuMo", {**WAN, "model_type": "humo", "in_dim": 16}),
    "wan_scail": ("WAN21_SCAIL", {**WAN, "model_type": "scail"}),
    "wan_scail2": ("WAN21_SCAIL2", {**WAN, "model_type": "scail2"}),
    "wan_animate": ("WAN22_Animate", {**WAN, "model_type": "animate", "in_dim": 36}),
    "wan_dancer": ("WAN22_WanDancer", {**WAN, "model_type": "wandancer", "in_dim": 36, "audio_inject_layers": [0]}),
    "wan_wide_heads": ("WAN21_T2V", {**WAN, "model_type": "t2v", "dim": 320}),
    "wan_causal": ("WAN21_CausalAR_T2V", {**WAN, "model_type": "t2v"}),
    "hunyuan15": (
        "HunyuanVideo15",
        {
            **HUNYUAN,
            "in_channels": 65,
            "out_channels": 32,
            "patch_size": [1, 1, 1],
            "byt5": True,
            "use_cond_type_embedding": True,
            "vision_in_dim": 1152,
            "meanflow_sum": True,
        },
    ),
    "cogvideox": ("CogVideoX_T2V", COG),
    "cogvideox15": ("CogVideoX_T2V", {**COG, "patch_size_t": 2}),
    "cogvideox_i2v": ("CogVideoX_I2V", {**COG, "in_channels": 32}),
    "kandinsky5": (
        "Kandinsky5",
        {
            "in_text_dim": TEXT_DIM,
            "time_dim": 64,
            "model_dim": 128,
            "ff_dim": 128,
            "visual_embed_dim": 132,
            "num_text_blocks": 1,
            "num_visual_blocks": 2,
            "axes_dims": (16, 24, 24),
        },
    ),
    "cosmos1": (
        "CosmosT2V",
        {
            **COSMOS,
            "block_config": "FA-CA-MLP",
            "block_x_format": "THWBD",
            "affline_emb_norm": True,
            "extra_per_block_abs_pos_emb": True,
            "extra_per_block_abs_pos_emb_type": "learnable",
        },
    ),
    "predict2": (
        "CosmosT2IPredict2",
        {**COSMOS, "pos_emb_learnable": True, "min_fps": 1, "max_fps": 30, "rope_enable_fps_modulation": False},
    ),
    "mochi": (
        "GenmoMochi",
        {
            "depth": 2,
            "num_heads": 2,
            "hidden_size_x": 256,
            "hidden_size_y": 128,
            "mlp_ratio_x": 48.0,  # the class fixes its hidden size
            "mlp_ratio_y": 2.0,
            "learn_sigma": False,
            "in_channels": 12,
            "qk_norm": True,
            "qkv_bias": False,
            "out_bias": True,
            "posenc_preserve_area": True,
            "timestep_scale": 1000.0,
            "use_t5": True,
            "t5_feat_dim": TEXT_DIM,
            "t5_token_length": 12,
        },
    ),
}

STRANGERS = {"stranger": "Stranger", "column_stranger": "ColumnStranger"}  # classes of strangers.py
MODELS |= {name: MODELS["mochi"] for name in STRANGERS}


def make(name: str, seed: int = 20):
    """A ModelPatcher of MODELS[name] on the CPU, in float32. For a name of STRANGERS it is sampled as Mochi is."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models
    import strangers
    import torch
    from tiny_checkpoints import random_weights

    supported, config = MODELS[name]
    found = getattr(comfy.supported_models, supported)(config)
    found.set_inference_dtype(torch.float32, None)
    model = found.get_model({}, "")
    if name in STRANGERS:
        model.diffusion_model = getattr(strangers, STRANGERS[name])()
    model.diffusion_model.load_state_dict(random_weights(model.diffusion_model, seed))
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))
