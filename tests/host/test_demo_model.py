"""The demo model in ComfyUI: its format, its loaders, its language, and the maths of the training modules."""

import json

import pytest
import torch
from comfy_host import ROOT
from safetensors.torch import load_file, safe_open

from demo import prompts, scenes
from demo.train_dit import MODEL
from demo.train_vae import DIM, FORMAT_MEAN, FORMAT_STD
from demo.wan_modules import WanTransformer, WanVae

WEIGHTS = ROOT / "demo" / "weights"
DIT, VAE = WEIGHTS / "jenga_demo_dit.safetensors", WEIGHTS / "jenga_demo_vae.safetensors"


def test_weights_are_small_bf16_and_of_the_demo_grid():
    assert DIT.stat().st_size + VAE.stat().st_size <= 16 * 2**20
    assert {value.dtype for path in (DIT, VAE) for value in load_file(path).values()} == {torch.bfloat16}
    with safe_open(DIT, "pt") as file:
        assert json.loads(file.metadata()["config"])["transformer"]["text_dim"] == prompts.TEXT_DIM


def test_stock_loaders_take_the_files_and_training_computed_the_same(host):
    """ComfyUI's own classes, with the shipped weights in fp32, against the modules that were trained."""
    import comfy.sd
    import comfy.utils

    patcher = comfy.sd.load_diffusion_model(str(DIT), model_options={"dtype": torch.float32})
    theirs = patcher.model.diffusion_model.float()
    ours = WanTransformer(**MODEL)
    ours.load_state_dict({name: value.float() for name, value in load_file(DIT).items()})
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 16, 3, 8, 10, generator=generator)
    context = prompts.encode(prompts.EXAMPLE)[0]
    with torch.no_grad():
        timestep = torch.tensor([700.0])
        difference = (theirs(x, timestep, context) - ours(x, timestep, context)).abs().max()
    assert difference < 1e-4

    state, metadata = comfy.utils.load_torch_file(str(VAE), return_metadata=True)
    vae = comfy.sd.VAE(sd=state, metadata=metadata).first_stage_model.float()
    trained = WanVae(DIM)
    trained.load_state_dict({name: value.float() for name, value in load_file(VAE).items()})
    clip = torch.rand(1, 3, 9, 32, 48, generator=generator) * 2 - 1
    with torch.no_grad():
        latent = trained.encode(clip)[0]
        assert (vae.encode(clip) - latent).abs().max() < 1e-4
        assert (vae.decode(latent) - trained.decode(latent)).abs().max() < 1e-4


def test_latents_of_scenes_are_what_the_format_expects():
    """The folded statistics: after the format's own normalisation, mean near 0 and deviation near 1."""
    vae = WanVae(DIM)
    vae.load_state_dict({name: value.float() for name, value in load_file(VAE).items()})
    scene = scenes.sample(8, torch.Generator().manual_seed(3), "cpu")
    clips = scenes.render(scene, 160, 256) * 2 - 1
    with torch.no_grad():
        latent = vae.encode(clips)[0]
    mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (FORMAT_MEAN, FORMAT_STD))
    normalised = (latent - mean) / std
    assert normalised.mean().abs() < 0.3
    assert 0.7 < normalised.std() < 1.4


def test_scenes_are_deterministic_and_agree_with_the_language():
    first, second = (scenes.sample(4, torch.Generator().manual_seed(9), "cpu") for _ in range(2))
    window = (0, 2, 0, 32, 0, 48)
    assert torch.equal(scenes.render(first, 64, 96, window), scenes.render(second, 64, 96, window))
    words = [list(options)[int(first[slot][0])] for slot, options in prompts.SLOTS.items()]
    rows, unknown = prompts.encode(" ".join(words))
    assert unknown == [] and torch.equal(rows[0], scenes.encode(first)[0])


@pytest.mark.parametrize("text", ["", "a the over"])
def test_a_prompt_without_words_is_the_null_prompt(text):
    rows, unknown = prompts.encode(text)
    assert rows.shape == (1, len(prompts.SLOTS), prompts.TEXT_DIM) and not rows.any() and unknown == []


def test_unknown_words_are_returned():
    rows, unknown = prompts.encode("a red hippopotamus bounces")
    assert unknown == ["hippopotamus"]
    assert int((rows != 0).sum()) == 2
