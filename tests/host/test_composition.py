"""Jenga beside what people put on the same model: with all blocks kept the run is that without Jenga, else carved."""

import pytest
import torch
from safetensors.torch import save_file

from workflows import COMPILE, carved, dial, node, report, samples, stock_sampler, windows, workflow

CACHE = {"reuse_threshold": 0.3, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}
ANCHORED = {"density": 0.15, "quality": "custom", "anchor_distance": "3", "residual_bits": "16"}
NODES = {
    "lora": ("LoraLoaderModelOnly", {"lora_name": "composed.safetensors", "strength_model": 1.0}),
    "EasyCache": ("EasyCache", CACHE),
    "LazyCache": ("LazyCache", CACHE),
    "context windows": windows("standard_static", length=9, overlap=4),
    "NAG": ("NAGuidance", {"nag_scale": 5.0, "nag_alpha": 0.5, "nag_tau": 1.5}),
    "compile": COMPILE,  # on a CPU: traced, then run without inductor
    "quantised linears": ("JengaTestQuantised", {}),
    "low memory": ("JengaTestLowMemory", {}),
    "another override": ("JengaTestOverride", {"tag": "other"}),
}


@pytest.fixture
def lora(host):
    """A LoRA of the tiny Wan model, where the stock loader looks for it."""
    folder = host.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(6)
    tensors = {
        f"diffusion_model.blocks.{block}.self_attn.{name}.{part}.weight": torch.randn(*shape, generator=generator) / 8
        for block in range(2)
        for name in "qkvo"
        for part, shape in {"lora_up": (256, 4), "lora_down": (4, 256)}.items()
    }
    save_file(tensors, folder / "composed.safetensors")


def prompt_of(*patches, checkpoint="wan_t2v", weight_dtype="default", length=9, **settings) -> dict:
    latent = node("EmptyHunyuanLatentVideo", width=192, height=192, length=length, batch_size=1)
    prompt = workflow(patches, checkpoint=checkpoint, steps=4, cfg=3.0, latent=latent, **settings)
    prompt["unet"]["inputs"]["weight_dtype"] = weight_dtype
    return stock_sampler(prompt)


def check(host, others, before: bool, **settings):
    """Jenga Attention in front of the other nodes or behind them."""

    def run(*ours):
        return host.run(prompt_of(*((*ours, *others) if before else (*others, *ours)), **settings))

    stock, whole, sparse = run(), run(carved(density=1.0)), run(carved(density=0.3))
    torch.testing.assert_close(samples(whole), samples(stock), rtol=0, atol=1e-4)
    for outputs in (whole, sparse):
        assert report(outputs)["fallbacks"] == {} and "dense" not in report(outputs)["backends"]
    assert report(whole)["kept_share"] == 1.0 and report(sparse)["kept_share"] < 0.6
    assert not torch.equal(samples(sparse), samples(stock))


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("name", NODES)
def test_another_node_beside_jenga(host, lora, name, before):
    check(host, [NODES[name]], before, length=21 if name == "context windows" else 9)


@pytest.mark.parametrize("weight_dtype", ["fp8_e4m3fn", "fp8_e5m2"])
def test_weights_that_are_cast(host, weight_dtype):
    check(host, [], True, weight_dtype=weight_dtype)


def test_one_model_in_two_branches_of_one_graph(host):
    """Each branch has the settings of its own patch, in one queue and one after the other."""
    alone = [samples(host.run(prompt_of(carved(density=density)))) for density in (0.3, 0.6)]
    prompt = prompt_of(carved(density=0.3))
    prompt["q0"] = node("JengaAttention", **{**carved(density=0.6)[1], "model": ["unet", 0]})
    prompt["second"] = node("KSampler", **{**prompt["sampler"]["inputs"], "model": ["q0", 0]})
    prompt["second capture"] = node("JengaTestCapture", latent=["second", 0])
    prompt["second report"] = node("JengaReport", model=["q0", 0], latent=["second", 0])
    outputs = host.run(prompt)
    assert torch.equal(samples(outputs), alone[0])
    assert torch.equal(outputs["second capture"]["samples"][0], alone[1])
    assert report(outputs)["kept_share"] < outputs["second report"]["jenga_report"][0]["kept_share"]


def test_conditionings_in_threads_are_conditionings_in_turn(host):
    """What a node does that has each conditioning computed on a device of its own."""
    expected = samples(host.run(prompt_of(carved(density=0.3))))
    outputs = host.run(prompt_of(carved(density=0.3), ("JengaTestThreads", {})))
    torch.testing.assert_close(samples(outputs), expected, rtol=0, atol=1e-4)
    assert report(outputs)["fallbacks"] == {} and report(outputs)["kept_share"] < 0.6


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("patch", [carved(density=1.0), carved(density=0.3), carved(**ANCHORED), dial("turbo")])
def test_multigpu_cfg_split(host, monkeypatch, patch, before):
    """ComfyUI's own node, with a second CPU in the place of a second GPU: a model of its own in a thread of its own."""
    import comfy.model_management

    import nodes

    if "MultiGPU_WorkUnits" not in nodes.NODE_CLASS_MAPPINGS:
        pytest.skip("this ComfyUI has no MultiGPU CFG Split")
    devices = [torch.device("cpu"), torch.device("cpu", 1)]
    monkeypatch.setattr(comfy.model_management, "get_all_torch_devices", lambda exclude_current=False: devices)
    split = "MultiGPU_WorkUnits", {"max_gpus": 2}
    expected = host.run(prompt_of(patch))
    outputs = host.run(prompt_of(*((patch, split) if before else (split, patch))))
    assert report(outputs)["model_calls_computed"] == 2 * report(expected)["model_calls_computed"]
    assert report(outputs)["fallbacks"] == {}
    assert (samples(outputs) - samples(expected)).norm() < 1e-4 * samples(expected).norm()
