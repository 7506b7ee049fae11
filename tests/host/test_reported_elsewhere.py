"""What users of comparable node packs reported of those, tried on ours: the report's repository and number are in the
docstring.
"""

import itertools

import pytest
import torch
from comfy_host import require_model
from safetensors.torch import save_file

from workflows import COMPILE, GRID, carved, dial, node, report, samples, staged, stock_sampler, workflow

ANCHORED = {"quality": "custom", "anchor_distance": "3", "residual_bits": "16"}
REUSE = {"min_tokens": 10**6, "step_reuse": "static"}
CACHE = {"start_percent": 0.0, "end_percent": 1.0, "verbose": False}


def run(host, *patches, **settings):
    return host.run(stock_sampler(workflow(patches, **{"steps": 12, **settings})))


def close(found, expected, tolerance=1e-4) -> bool:
    return float((samples(found) - samples(expected)).norm()) < tolerance * float(samples(expected).norm())


def make_lora(host) -> str:
    folder = host.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(6)
    tensors = {
        f"diffusion_model.blocks.{block}.self_attn.{name}.{part}.weight": torch.randn(*shape, generator=generator) / 8
        for block in range(2)
        for name in "qkvo"
        for part, shape in {"lora_up": (256, 4), "lora_down": (4, 256)}.items()
    }
    save_file(tensors, folder / "reported.safetensors")
    return "reported.safetensors"


@pytest.mark.parametrize("patch", [dial("base", **REUSE), carved(**ANCHORED), dial("turbo", step_reuse="static")])
def test_memory_that_comes_and_goes_during_a_run(host, monkeypatch, patch):
    """welltop-cn/ComfyUI-TeaCache 158, kijai/ComfyUI-WanVideoWrapper 174, Comfy-Org/ComfyUI 8078: both conditionings
    are a batch at one step and two calls at the next, as the free memory is, and what was kept had the other shape.
    """
    import comfy.model_base

    together = run(host, patch, cfg=3.0)
    host.forget()
    calls = itertools.count()
    needed = lambda *args, **kwargs: float("inf") if next(calls) // 3 % 2 else 0.0  # noqa: E731
    with monkeypatch.context() as scarce:
        scarce.setattr(comfy.model_base.BaseModel, "memory_required", needed)
        mixed = run(host, patch, cfg=3.0)
    assert report(mixed)["model_calls_computed"] > report(together)["model_calls_computed"]
    assert close(mixed, together)
    assert report(mixed)["fallbacks"] == {}


@pytest.mark.parametrize("sigmas", ["0.0, 0.0", "0.7", "0.9, 0.9"])
@pytest.mark.parametrize(
    "patch", [dial("turbo", step_reuse="adaptive"), carved(**ANCHORED), carved(quality="balanced")]
)
def test_a_schedule_without_a_way_to_go(host, patch, sigmas):
    """Zehong-Ma/ComfyUI-MagCache 38: samplers that call the model by themselves hand over [0, 0] as the schedule."""

    def prompt(*patches):
        made = workflow(patches, steps=3)
        made["sigmas"] = node("JengaTestSigmas", sigmas=sigmas)
        made["pick"] = node("JengaTestLookingSampler")
        return host.run(made)

    stock, outputs = prompt(), prompt(patch)
    assert torch.isfinite(samples(stock)).all()
    assert samples(outputs).shape == samples(stock).shape and torch.isfinite(samples(outputs)).all()
    assert report(outputs)["model_calls_computed"] >= 1


@pytest.mark.parametrize("name", ["EasyCache", "LazyCache"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("sampler_name", ["euler", "heun"])
def test_a_step_cache_that_skips_all_it_can(host, name, batch, sampler_name):
    """Comfy-Org/ComfyUI 10344 and 9594: a batch of two, and a sampler with two calls a step; nearly all are skipped."""
    latent = node("EmptyHunyuanLatentVideo", **{**GRID, "batch_size": batch})
    settings = {"cfg": 3.0, "latent": latent, "sampler_name": sampler_name, "steps": 6}
    cache = name, {**CACHE, "reuse_threshold": 0.9}
    stock, whole = run(host, cache, **settings), run(host, cache, carved(density=1.0), **settings)
    assert close(whole, stock)
    for patch in (carved(density=0.3), carved(**ANCHORED), dial("turbo")):
        outputs = run(host, cache, patch, **settings)
        assert samples(outputs).shape[0] == batch and torch.isfinite(samples(outputs)).all()
        assert report(outputs)["fallbacks"] == {}


@pytest.mark.parametrize("patch", [dial("base", **REUSE), carved(density=0.3), carved(**ANCHORED)])
def test_each_of_two_clips_in_a_batch_is_itself(host, patch):
    """chengzeyi/Comfy-WaveSpeed 57, nunchux-ai/ComfyUI-nunchaku 146: larger batches need other settings, or fail."""

    def clip(batch: int):
        latent = node("JengaTestLatent", height=24, width=24, keep_first=False, batch=batch)
        return host.run(stock_sampler(workflow([patch], steps=12, cfg=3.0, latent=latent)))

    both, first = samples(clip(2)), samples(clip(1))
    assert float((both[:1] - first).norm()) < 1e-3 * float(first.norm())


SIZES = [(1, 6, 10), (2, 13, 9), (5, 24, 2), (3, 26, 38), (7, 10, 34), (4, 3, 57)]


@pytest.mark.parametrize(("frames", "rows", "columns"), SIZES)
@pytest.mark.parametrize("block", ["64", "128"])
def test_every_size_of_a_clip(host, frames, rows, columns, block):
    """kijai/ComfyUI-WanVideoWrapper 826 and 852, woct0rdho/ComfyUI-RadialAttn 5, 9 and 28: sizes that blocks do not
    divide raise, or give black clips.
    """
    latent = node("JengaTestLatent", height=rows, width=columns, keep_first=False, frames=frames)
    settings = {"latent": latent, "steps": 3, "cfg": 3.0}
    stock = run(host, **settings)
    whole = run(host, carved(density=1.0, kv_block_size=block), **settings)
    torch.testing.assert_close(samples(whole), samples(stock), rtol=0, atol=1e-4)
    for patch in (carved(density=0.3, kv_block_size=block), carved(kv_block_size=block, **ANCHORED), dial("3-stage")):
        outputs = run(host, patch, **settings)
        assert samples(outputs).shape == samples(stock).shape and torch.isfinite(samples(outputs)).all()
        assert report(outputs)["fallbacks"] == {}


def test_attention_calls_with_arguments_of_a_later_version(host):
    """kijai/ComfyUI-KJNodes 385, 390 and 424: ComfyUI began to pass one more keyword, and the patch refused it."""
    later = {"sparse": False, "chain": True, "block": 0, "sigma": 100.0, "keyword": "preferred_precision"}
    later = ("JengaTestStranger", later)
    stock = run(host, steps=4)
    whole, sparse = (run(host, carved(density=density), later, steps=4) for density in (1.0, 0.3))
    assert close(whole, stock)
    assert report(sparse)["fallbacks"] == {} and report(sparse)["kept_share"] < 0.6


@pytest.mark.parametrize("patch", [carved(density=0.3), dial("turbo")])
def test_the_next_model_of_the_graph_is_as_without_us(host, patch):
    """kijai/ComfyUI-KJNodes 269 and 173: the patch stayed on for a second model, whose heads it could not take."""
    other = stock_sampler(workflow(checkpoint="wan_wide_heads", steps=4))
    alone = samples(host.run(other))
    prompt = stock_sampler(workflow([patch], steps=4))
    for name, made in other.items():
        if name not in ("positive", "negative", "latent", "report"):
            inputs = {
                key: [f"other {value[0]}", value[1]]
                if isinstance(value, list) and value[0] in ("unet", "sampler")
                else value
                for key, value in made["inputs"].items()
            }
            prompt[f"other {name}"] = {**made, "inputs": inputs}
    prompt["other sampler"]["inputs"]["latent_image"] = ["sampler", 0]
    chained = stock_sampler(workflow([patch], steps=4))
    first = host.run(chained)
    outputs = host.run(prompt)
    assert torch.equal(samples(outputs), samples(first))
    assert outputs["other capture"]["samples"][0].shape == alone.shape
    host.forget()
    assert torch.equal(samples(host.run(other)), alone)


def test_heads_of_a_size_of_their_own(host):
    """kijai/ComfyUI-KJNodes 269: "Unsupported head_dim: 160"."""
    stock = run(host, checkpoint="wan_wide_heads", steps=4)
    whole, sparse = (run(host, carved(density=d), checkpoint="wan_wide_heads", steps=4) for d in (1.0, 0.3))
    assert close(whole, stock)
    figures = report(sparse)
    assert figures["kept_share"] < 0.6 and figures["fallbacks"] == {}


def test_a_lora_that_changes_between_queues_of_a_compiled_model(host):
    """kijai/ComfyUI-KJNodes 234 and 289: behind a compiler the LoRA does nothing, or the last one stays on."""
    name = make_lora(host)

    def prompt(strength: float, compiled: bool):
        lora = "LoraLoaderModelOnly", {"lora_name": name, "strength_model": strength}
        extra = [COMPILE] if compiled else []
        return host.run(stock_sampler(workflow([lora, *extra, carved(density=0.3)], steps=3)))

    for strength in (0.0, 1.0, -1.0, 0.0):
        expected, outputs = prompt(strength, False), prompt(strength, True)
        assert close(outputs, expected, 1e-2)
        assert report(outputs)["fallbacks"] == {} and "dense" not in report(outputs)["backends"]


WEIGHTS = {
    "plain": [],
    "part of the weights loaded": [("JengaTestLowMemory", {})],
    "compiled": [COMPILE],
}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("patch", [{}, ANCHORED])
def test_a_lora_on_a_schedule_over_weights_of_every_kind(host, weights, patch):
    """Comfy-Org/ComfyUI 6768, Kosinkadink/ComfyUI-AnimateDiff-Evolved 369: hook LoRAs over weights that are cast."""
    name = make_lora(host)

    def prompt(*patches):
        made = workflow([*WEIGHTS[weights], *patches], steps=6, cfg=3.0)
        made["lora"] = node("CreateHookLoraModelOnly", lora_name=name, strength_model=1.0)
        made["k0"] = node("CreateHookKeyframe", strength_mult=1.0, start_percent=0.0)
        made["k1"] = node("CreateHookKeyframe", strength_mult=0.2, start_percent=0.5, prev_hook_kf=["k0", 0])
        made["hooks"] = node("SetHookKeyframes", hooks=["lora", 0], hook_kf=["k1", 0])
        inputs = {"strength": 1.0, "set_cond_area": "default", "hooks": ["hooks", 0]}
        made["hooked"] = node("ConditioningSetProperties", cond_NEW=["positive", 0], **inputs)
        made["guider"]["inputs"]["positive"] = ["hooked", 0]
        return host.run(stock_sampler(made))

    stock, unhooked = prompt(), run(host, *WEIGHTS[weights], steps=6, cfg=3.0)
    assert not close(stock, unhooked, 1e-3)
    assert close(prompt(carved(density=1.0, **patch)), stock, 1e-3)
    outputs = prompt(carved(density=0.3, **patch))
    assert report(outputs)["fallbacks"] == {} and report(outputs)["kept_share"] < 0.9


REGIONS = {
    "area": ("ConditioningSetAreaPercentageVideo", {"width": 0.5, "height": 0.5, "temporal": 1.0, "z": 0.0}),
    "part of the frames": (
        "ConditioningSetAreaPercentageVideo",
        {"width": 1.0, "height": 1.0, "temporal": 0.7, "z": 0},
    ),
    "steps": ("ConditioningSetTimestepRange", {"start": 0.3, "end": 0.8}),
}


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("patch", [{}, ANCHORED])
def test_a_prompt_for_a_region_or_a_part_of_the_steps(host, region, patch):
    """logtd/ComfyUI-Fluxtapoz 54, Comfy-Org/ComfyUI 13430: regions that do nothing. Here such a prompt is a model call
    of another size, or one of some steps alone.
    """
    class_type, inputs = REGIONS[region]
    inputs = {**inputs, **({"x": 0.25, "y": 0.5, "strength": 1.0} if "Area" in class_type else {})}

    def prompt(*patches):
        made = workflow(patches, steps=7, cfg=3.0)
        made["third"] = node("JengaTestConditioning", seed=3, masked_tokens=0, key="")
        made["region"] = node(class_type, conditioning=["third", 0], **inputs)
        made["both"] = node("ConditioningCombine", conditioning_1=["positive", 0], conditioning_2=["region", 0])
        made["guider"]["inputs"]["positive"] = ["both", 0]
        return host.run(stock_sampler(made))

    stock = prompt()
    assert not close(stock, run(host, steps=7, cfg=3.0), 1e-3)
    assert close(prompt(carved(density=1.0, **patch)), stock)
    outputs = prompt(carved(density=0.3, **patch))
    assert report(outputs)["fallbacks"] == {} and report(outputs)["kept_share"] < 0.9
    staged_run = prompt(dial("turbo", step_reuse="static"))
    assert torch.isfinite(samples(staged_run)).all()


def test_a_threshold_under_which_no_step_is_reused_is_said(host):
    """kijai/ComfyUI-WanVideoWrapper 157 and 623: "TeaCache skipped: 0", as slow as without it, and not a word why."""
    outputs = run(host, dial("base", min_tokens=10**6, step_reuse="adaptive", reuse_threshold=0.0))
    assert report(outputs)["model_calls_reused"] == 0
    assert any("no step was reused" in note for note in report(outputs)["notes"])
    assert any("no step was reused" in text for node_id, text in host.status if node_id == "p0")


def test_workflows_that_were_saved_before_an_input_was_there(host):
    """Comfy-Org/ComfyUI 16236: a node whose options had grown failed in every workflow that was saved before."""
    import nodes

    names = ("JengaAttention", "Jenga")
    for name in names:
        required = nodes.NODE_CLASS_MAPPINGS[name].INPUT_TYPES()["required"]
        given = carved()[1] if name == "JengaAttention" else dial()[1]
        patch = name, {key: given[key] for key in required if key != "model"}
        assert torch.isfinite(samples(run(host, patch, steps=3))).all()
    prompt = workflow(steps=3, **staged())
    required = nodes.NODE_CLASS_MAPPINGS["JengaProgressiveSampler"].INPUT_TYPES()["required"]
    assert set(prompt["sampler"]["inputs"]) == set(required)
    assert torch.isfinite(samples(host.run(prompt))).all()


@pytest.mark.parametrize("order", ["before", "behind"])
@pytest.mark.parametrize(
    "other", [("JengaTestOverride", {"tag": "other"}), ("EasyCache", {**CACHE, "reuse_threshold": 0.2})]
)
def test_other_nodes_beside_us_on_minimax_h3(host, order, other):
    """Zironic/H3-Optimizations 76: sparse attention gives up beside an override that it does not know, and is slower
    than without it.
    """
    require_model("MiniMaxH3")

    def prompt(*ours):
        patches = (other, *ours) if order == "before" else (*ours, other)
        made = workflow(patches, checkpoint="minimax_h3", steps=4, cfg=3.0)
        made["latent"] = node("EmptyMiniMaxH3LatentAV", width=256, height=256, length=22)
        made["apart"] = node("LTXVSeparateAVLatent", av_latent=["sampler", 0])
        made["capture"] = node("JengaTestCapture", latent=["apart", 0])
        return host.run(made)

    assert close(prompt(carved(density=1.0)), prompt())
    outputs = prompt(carved(density=0.3))
    assert report(outputs)["fallbacks"] == {} and report(outputs)["kept_share"] < 0.6
