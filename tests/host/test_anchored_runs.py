"""Anchors in real ComfyUI: guidance, batches, stages, reuse, two samplers, interrupts, second queues, the widgets."""

import gc

import pytest
import torch
from comfy_host import PromptFailed
from safetensors.torch import save_file

import jenga.runtime.session
from jenga.carving.residuals import AnchorState
from workflows import CARVING, GRID, carved, node, report, samples, staged, workflow

LONG = {"steps": 7}


def anchored(**changes) -> tuple[str, dict]:
    options = {"quality": "custom", "anchor_distance": "3", "residual_bits": "4", "anchor_memory": 0.0}
    return carved(**{"density": 0.15, **options, **changes})


def anchors(outputs) -> int:
    return report(outputs)["dense_by_choice"].get("anchor step", 0)


def states_alive() -> int:
    gc.collect()
    return sum(type(thing) is AnchorState for thing in gc.get_objects())


def error(latent, stock) -> float:
    return float((latent - stock).norm() / stock.norm())


@pytest.mark.parametrize(
    ("checkpoint", "masked_tokens"), [("wan_t2v", 0), ("wan_i2v", 0), ("hunyuan_t2v", 0), ("hunyuan_t2v", 5)]
)
def test_anchors_bring_a_run_closer_to_stock(host, checkpoint, masked_tokens):
    settings = {"checkpoint": checkpoint, "conditioning": {"masked_tokens": masked_tokens}, **LONG}
    stock = samples(host.run(workflow(**settings)))
    plain, outputs = (host.run(workflow([patch], **settings)) for patch in (carved(density=0.15), anchored()))
    assert error(samples(outputs), stock) < 0.5 * error(samples(plain), stock)
    # 2 layers, 7 steps: both at step 0, layer 0 at 3 and 6, layer 1 at 2 and 5
    assert anchors(outputs) == 6
    assert [row.index(1.0, 1) for row in report(outputs)["kept_share_map"]] == [3, 2]
    assert any("anchors: 4-bit residuals" in text for node_id, text in host.status if node_id == "p0")


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_all_steps_dense_is_stock(host, cfg):
    """Three steps and anchors on the first: with everything kept the others are dense too."""
    settings = {"cfg": cfg, "steps": 3}
    stock = samples(host.run(workflow(**settings)))
    outputs = host.run(workflow([anchored(density=1.0)], **settings))
    torch.testing.assert_close(samples(outputs), stock, rtol=0, atol=1e-4)


def test_guidance_in_one_batch_or_two_is_the_same(host, monkeypatch):
    """ComfyUI batches the two conditionings where they fit; two batches of one must give the same clip."""
    import comfy.model_base

    settings = {"cfg": 3.0, **LONG}
    patch_of_16_bits = anchored(residual_bits="16")  # 4-bit codes flip where two sums differ in their last bit
    together = host.run(workflow([patch_of_16_bits], **settings))
    host.forget()
    with monkeypatch.context() as patch:
        patch.setattr(comfy.model_base.BaseModel, "memory_required", lambda *args, **kwargs: float("inf"))
        apart = host.run(workflow([patch_of_16_bits], **settings))
    assert report(apart)["model_calls_computed"] == 2 * report(together)["model_calls_computed"] == 14
    assert anchors(apart) == 2 * anchors(together) == 12
    assert error(samples(apart), samples(together)) < 1e-4


def test_a_batch_of_two_clips_is_each_of_them(host):
    latent = node("EmptyHunyuanLatentVideo", **{**GRID, "batch_size": 2})
    stock = samples(host.run(workflow(cfg=3.0, latent=latent, **LONG)))
    both = samples(host.run(workflow([anchored()], cfg=3.0, latent=latent, **LONG)))
    plain = samples(host.run(workflow([carved(density=0.15)], cfg=3.0, latent=latent, **LONG)))
    for clip in (0, 1):
        assert error(both[clip], stock[clip]) < 0.5 * error(plain[clip], stock[clip])


def test_every_size_starts_with_anchors(host):
    outputs = host.run(workflow([anchored(anchor_distance="16")], steps=14, **staged()))
    shares = report(outputs)["kept_share_map"]
    first = report(outputs)["stages"][0]["steps"]
    assert [[column for column, share in enumerate(row) if share == 1.0] for row in shares] == [[0, first], [0, first]]


def test_an_anchor_of_a_small_stage_has_the_text_amplifier(host):
    """ComfyUI's own attention has none. With everything kept, anchors must change nothing."""
    settings = {"checkpoint": "hunyuan_t2v", "steps": 4, **staged()}
    carved_alone = samples(host.run(workflow([carved(density=1.0)], **settings)))
    outputs = host.run(workflow([anchored(density=1.0, anchor_distance="2")], **settings))
    assert anchors(outputs) > 2
    torch.testing.assert_close(samples(outputs), carved_alone, rtol=0, atol=1e-4)


def test_anchors_on_the_first_step_alone(host):
    assert anchors(host.run(workflow([anchored(anchor_distance="first step")], **LONG))) == 2


def test_short_schedules_have_one_anchor_and_shorter_ones_keep_more(host):
    """The quality's rule, not that of custom settings."""
    outputs = host.run(workflow([anchored(quality="near-lossless")], **LONG))
    shares = [share for row in report(outputs)["kept_share_map"] for share in row[1:]]
    assert anchors(outputs) == 2 and 0.15 < min(shares) <= max(shares) < 0.35
    outputs = host.run(workflow([anchored(quality="near-lossless")], steps=3))
    shares = [share for row in report(outputs)["kept_share_map"] for share in row]
    assert anchors(outputs) == 0 and 0.35 < min(shares) <= max(shares) < 0.6
    assert any("no anchors: 3 steps at this size, anchors take 4" in note for note in report(outputs)["notes"])
    assert anchors(host.run(workflow([anchored(anchor_distance="2")], steps=3))) == 4


def test_reused_steps_do_not_count(host):
    """base with reuse at 16 steps: anchors follow the computed evaluations."""
    outputs = host.run(
        workflow([anchored(anchor_distance="4")], steps=16, **staged(preset="base", step_reuse="static"))
    )
    shares = report(outputs)["kept_share_map"]
    computed = [share for share in shares[0] if share is not None]
    assert report(outputs)["model_calls_reused"] > 0
    assert [index for index, share in enumerate(computed) if share == 1.0] == list(range(0, len(computed), 4))


def test_a_lora_that_changes_during_the_run_drops_what_was_kept(host):
    """ComfyUI's hook LoRA with a keyframe: the same conditioning goes on with other weights."""
    loras = host.base / "models" / "loras"
    loras.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(4)
    shapes = {"lora_up": (256, 4), "lora_down": (4, 256)}
    name = "diffusion_model.blocks.0.self_attn.q.{}.weight"
    tensors = {name.format(side): torch.randn(shape, generator=generator) for side, shape in shapes.items()}
    save_file(tensors, loras / "tiny.safetensors")

    def run(*keyframes) -> dict:
        prompt = workflow([anchored(anchor_distance="first step")], **LONG)
        prompt["lora"] = node("CreateHookLoraModelOnly", lora_name="tiny.safetensors", strength_model=1.0)
        previous = {}
        for index, (strength, start) in enumerate(keyframes):
            prompt[f"k{index}"] = node("CreateHookKeyframe", strength_mult=strength, start_percent=start, **previous)
            previous = {"prev_hook_kf": [f"k{index}", 0]}
        prompt["hooks"] = node("SetHookKeyframes", hooks=["lora", 0], hook_kf=previous["prev_hook_kf"])
        inputs = {"strength": 1.0, "set_cond_area": "default", "hooks": ["hooks", 0]}
        prompt["hooked"] = node("ConditioningSetProperties", cond_NEW=["positive", 0], **inputs)
        prompt["guider"]["inputs"]["positive"] = ["hooked", 0]
        return host.run(prompt)

    steady, changing = run((1.0, 0.0)), run((1.0, 0.0), (0.3, 0.5))
    assert not torch.equal(samples(steady), samples(changing))
    assert (anchors(steady), anchors(changing)) == (2, 4)


def test_two_samplers_for_two_experts(host):
    """Wan 2.2's way: two models, two samplers, the schedule cut between them; each run has anchors of its own."""
    prompt = workflow([anchored()], checkpoint="wan22_i2v", steps=14)
    prompt["split"] = node("SplitSigmas", sigmas=["sigmas", 0], step=7)
    prompt["sampler"]["inputs"]["sigmas"] = ["split", 0]
    prompt["p1"] = node("JengaAttention", model=["unet", 0], **anchored()[1])
    prompt["guider2"] = {**prompt["guider"], "inputs": {**prompt["guider"]["inputs"], "model": ["p1", 0]}}
    inputs = {"sigmas": ["split", 1], "latent_image": ["sampler", 0], "noise": ["none", 0], "guider": ["guider2", 0]}
    prompt["none"] = node("DisableNoise")
    prompt["sampler2"] = {**prompt["sampler"], "inputs": {**prompt["sampler"]["inputs"], **inputs}}
    prompt["capture"] = node("JengaTestCapture", latent=["sampler2", 0])
    prompt["report2"] = node("JengaReport", model=["p1", 0], latent=["sampler2", 0])
    outputs = host.run(prompt)
    assert torch.isfinite(samples(outputs)).all()
    assert [outputs[name]["jenga_report"][0]["dense_by_choice"] for name in ("report", "report2")] == [
        {"anchor step": 6}
    ] * 2


def test_nothing_is_kept_after_a_run_and_every_queue_is_like_the_first(host):
    first = samples(host.run(workflow([anchored()], **LONG)))
    assert states_alive() == 0
    assert not torch.equal(samples(host.run(workflow([anchored()], seed=6, **LONG))), first)
    assert torch.equal(samples(host.run(workflow([anchored()], **LONG))), first)


def test_an_interrupted_run_keeps_nothing(host):
    expected = samples(host.run(workflow([anchored()], **LONG)))

    alive = []
    with pytest.raises(PromptFailed, match="interrupted"):
        host.interrupt(workflow([anchored()], **LONG), at=4, before=lambda: alive.append(states_alive()))
    assert alive == [2] and states_alive() == 0
    assert torch.equal(samples(host.run(workflow([anchored()], **LONG))), expected)


def test_a_full_budget_is_said_on_the_node_and_the_rest_carves(host):
    """432 tokens, 2 heads of 128, 4 bits: 59 KB a layer: 6e-5 GB hold one."""
    outputs = host.run(workflow([anchored(anchor_memory=6e-5)], **LONG))
    assert anchors(outputs) == 3  # layer 0 alone
    text = "1 of 2 layers carve without anchors: the budget of 0 MiB is full"
    assert any(text in note for note in report(outputs)["notes"])
    assert any(text in line for node_id, line in host.status if node_id == "p0")
    with pytest.raises(PromptFailed, match=f"strict must not meet a fallback, got anchors: .*{text}"):
        host.run(workflow([anchored(anchor_memory=6e-5, strict=True)], **LONG))


def test_out_of_memory_at_an_anchor_falls_back_dense(host, monkeypatch):
    stock = samples(host.run(workflow(**LONG)))

    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError("made by this test")

    with monkeypatch.context() as patch:
        patch.setattr(jenga.runtime.session, "attend_anchored", fail)
        host.forget()
        outputs = host.run(workflow([anchored()], **LONG))
    assert torch.equal(samples(outputs), stock)
    assert report(outputs)["fallbacks"] == {"dense attention: out of memory": 14}


def test_a_preset_of_the_sampler_leaves_the_kept_share_to_anchors(host):
    """turbo keeps 25 and 15 %; with anchors the node's own share counts."""
    stages = staged(preset="base", step_reuse="off")
    shares = report(host.run(workflow([anchored(density=0.5)], steps=8, **stages)))["kept_share_map"][0]
    assert all(share == 1.0 or share > 0.45 for share in shares)
    shares = report(host.run(workflow([carved(density=0.5)], steps=8, **stages)))["kept_share_map"][0]
    assert all(share < 0.45 for share in shares)


def test_prompts_of_before_are_carving_alone(host):
    """The widgets of the first version, and nothing else: accepted, and no anchors."""
    assert "quality" not in CARVING
    outputs = host.run(workflow([carved()], **LONG))
    assert anchors(outputs) == 0 and not any("anchors" in note for note in report(outputs)["notes"])


@pytest.mark.parametrize(("quality", "expected"), [("fast", 0), ("balanced", 4), ("high", 4), ("near-lossless", 8)])
def test_quality_sets_both(host, quality, expected):
    outputs = host.run(workflow([anchored(quality=quality, density=1.0)], steps=13))
    assert anchors(outputs) == expected
    shares = [share for row in report(outputs)["kept_share_map"] for share in row if share < 1]
    assert shares and max(shares) < 0.3
