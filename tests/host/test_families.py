"""Every model family of the table in real ComfyUI, with its conditions: dense is dense, and stages follow the size."""

from dataclasses import dataclass, field

import pytest
import torch

from workflows import GRID, carved, dial, node, report, samples, sizes, stock_sampler, workflow

EMPTY = node("EmptyHunyuanLatentVideo", **GRID)


@dataclass(frozen=True)
class Case:
    """A checkpoint and how it is used. kinds: of JengaTestImageCondition. follows: arguments of a model call that have
    the size of the latent; fixed: those that never change.
    """

    checkpoint: str
    kinds: str = ""
    latent: dict = field(default_factory=lambda: EMPTY)
    follows: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()


CASES = {
    "wan21-t2v": Case("wan_t2v"),
    "wan21-i2v": Case("wan_i2v", "concat,clip", follows=("c_concat",), fixed=("clip_fea",)),
    "wan22-14b-i2v": Case("wan22_i2v", "concat", follows=("c_concat",)),
    "wan22-5b-t2v": Case(
        "wan22_5b", latent=node("JengaTestLatent", height=24, width=24, keep_first=False, channels=48)
    ),
    "wan22-5b-i2v": Case(
        "wan22_5b",
        latent=node("JengaTestLatent", height=24, width=24, keep_first=True, channels=48),
        follows=("denoise_mask",),
    ),
    "hunyuan-t2v": Case("hunyuan_t2v"),
    "hunyuan-i2v-concat": Case("hunyuan_i2v", "concat", follows=("c_concat",)),
    "hunyuan-i2v-replace": Case(
        "hunyuan_t2v",
        "guiding",
        latent=node("JengaTestLatent", height=24, width=24, keep_first=True),
        fixed=("guiding_frame_index",),
    ),
}


# Conditions that ComfyUI leaves at their size, so that a stage resizes them.
RESIZED = {
    "wan-vace": Case("wan_vace", "vace", follows=("vace_context",)),
    "wan-phantom": Case("wan_t2v", "phantom", follows=("time_dim_concat",)),
    "hunyuan-reference": Case("hunyuan_t2v", "reference", follows=("ref_latent",)),
}


TAKES_ONE = {  # what ComfyUI says to two, and why
    "hunyuan-reference": ("single memory location", "it writes the reference's places into rows that share them"),
    "hunyuan-i2v-replace": ("tensor a .* must match", "it modulates the replaced frame as that of one sample"),
}


def replaced_frame_takes_two() -> bool:
    """Whether HunyuanVideo's replaced frame is modulated sample by sample: older ComfyUIs have it for one alone."""
    from comfy.ldm.flux.layers import apply_mod

    try:
        apply_mod(torch.ones(2, 3, 4), torch.ones(2, 2, 4), None, [(0, 1, 0), (1, None, 1)])
    except RuntimeError:
        return False
    return True


def takes_two(name: str) -> bool:
    """Whether ComfyUI's own model takes two conditionings in one batch."""
    return name != "hunyuan-reference" and (name != "hunyuan-i2v-replace" or replaced_frame_takes_two())


def guidance(name: str) -> float:
    return 3.0 if takes_two(name) else 1.0


def prompt_of(case: Case, *patches, steps=4, cfg=3.0) -> dict:
    prompt = workflow(
        [("JengaTestWatch", {}), *patches], checkpoint=case.checkpoint, latent=case.latent, steps=steps, cfg=cfg
    )
    for name in ("positive", "negative"):
        prompt[f"{name} text"] = prompt[name]
        prompt[name] = node("JengaTestImageCondition", conditioning=[f"{name} text", 0], kinds=case.kinds)
    return stock_sampler(prompt)


@pytest.mark.parametrize("name", CASES)
def test_full_density_equals_the_unpatched_model(host, name):
    settings = {"steps": 2, "cfg": guidance(name)}
    stock = samples(host.run(prompt_of(CASES[name], **settings)))
    outputs = host.run(prompt_of(CASES[name], carved(density=1.0), **settings))
    torch.testing.assert_close(samples(outputs), stock, rtol=0, atol=1e-4)
    assert report(outputs)["kept_share"] == 1.0
    assert report(outputs)["fallbacks"] == {}
    assert "dense" not in report(outputs)["backends"]


@pytest.mark.parametrize("name", [*CASES, *RESIZED])
def test_conditions_follow_the_size_of_a_stage(host, name):
    case = {**CASES, **RESIZED}[name]
    outputs = host.run(prompt_of(case, dial("turbo"), cfg=1.0))
    channels = 48 if case.checkpoint == "wan22_5b" else 16
    assert samples(outputs).shape == (1, channels, 3, 24, 24)
    assert torch.isfinite(samples(outputs)).all()
    assert sizes(outputs) == [18, 24]
    assert report(outputs)["notes"] == []
    seen = outputs["capture"]["seen"]
    assert [call["x"][-1] for call in seen] == [18] * 3 + [24]
    for call in seen:
        for key in case.follows:
            assert call[key][-2:] == call["x"][-2:]
    for key in case.fixed:
        assert len({tuple(call[key]) for call in seen}) == 1
    assert set(case.follows + case.fixed) <= set(seen[0])


@pytest.mark.parametrize("name", ["wan22-5b-i2v", "hunyuan-i2v-replace"])
def test_the_frame_that_was_given_is_kept(host, name):
    case = CASES[name]
    prompt = prompt_of(case, dial("3-stage"), steps=6, cfg=guidance(name))
    prompt["input"] = node("JengaTestCapture", latent=["latent", 0])
    outputs = host.run(prompt)
    given = outputs["input"]["samples"][0]
    assert sizes(outputs) == [12, 18, 24]
    torch.testing.assert_close(samples(outputs)[:, :, 0], given[:, :, 0], rtol=0, atol=1e-4)
    assert not torch.allclose(samples(outputs)[:, :, 1], given[:, :, 1], atol=1e-2)


def two_experts(checkpoints, kinds, switch, *patches, steps=6) -> dict:
    """Wan 2.2 14B as it is used: two models, two KSamplers (Advanced), one schedule."""
    high = prompt_of(Case(checkpoints[0], kinds), *patches, steps=steps)
    low = prompt_of(Case(checkpoints[1], kinds), *patches, steps=steps)
    prompt = dict(high)
    for name in low:
        if name == "unet" or name[0] == "p" and name[1:].isdigit():
            inputs = low[name]["inputs"]
            model = {"model": [f"low {inputs['model'][0]}", 0]} if "model" in inputs else {}
            prompt[f"low {name}"] = {**low[name], "inputs": {**inputs, **model}}
    both = {key: value for key, value in high["sampler"]["inputs"].items() if key not in ("seed", "denoise")}
    both |= {"noise_seed": high["sampler"]["inputs"]["seed"]}
    last = both["model"][0]
    first = {"add_noise": "enable", "start_at_step": 0, "end_at_step": switch, "return_with_leftover_noise": "enable"}
    second = {"add_noise": "disable", "start_at_step": switch, "end_at_step": 10000}
    second |= {"return_with_leftover_noise": "disable", "model": [f"low {last}", 0], "latent_image": ["high", 0]}
    prompt["high"] = node("KSamplerAdvanced", **both, **first)
    prompt["sampler"] = node("KSamplerAdvanced", **{**both, **second})
    prompt["high report"] = node("JengaReport", model=[last, 0], latent=["high", 0])
    prompt["report"] = node("JengaReport", model=[f"low {last}", 0], latent=["sampler", 0])
    return prompt


EXPERTS = {"t2v": (("wan_t2v", "wan_t2v_low"), ""), "i2v": (("wan22_i2v", "wan22_i2v_low"), "concat")}


@pytest.mark.parametrize("name", EXPERTS)
def test_two_experts_at_full_density_equal_stock(host, name):
    stock = samples(host.run(two_experts(*EXPERTS[name], 2, steps=4)))
    outputs = host.run(two_experts(*EXPERTS[name], 2, carved(density=1.0), steps=4))
    torch.testing.assert_close(samples(outputs), stock, rtol=0, atol=1e-4)
    for which in ("report", "high report"):
        assert outputs[which]["jenga_report"][0]["kept_share"] == 1.0


@pytest.mark.parametrize("name", EXPERTS)
@pytest.mark.parametrize(("switch", "before"), [(4, [12, 18]), (5, [12, 18, 24])])
def test_two_experts_share_the_stages(host, name, switch, before):
    """The first expert's part ends in a small stage, or after the last change of size (Wan's boundary of .875)."""
    stock = host.run(two_experts(*EXPERTS[name], switch, steps=6))
    outputs = host.run(two_experts(*EXPERTS[name], switch, dial("3-stage"), steps=6))
    high, low = outputs["high report"]["jenga_report"][0], report(outputs)
    assert [stage["latent_shape"][-1] for stage in high["stages"]] == before
    assert [stage["latent_shape"][-1] for stage in low["stages"]] == [24]
    assert samples(outputs).shape == samples(stock).shape
    # The experts meet at the sigma of the schedule that they share; a wrong level would leave noise or blow up.
    assert [call["sigma"] for call in outputs["capture"]["seen"]] == [c["sigma"] for c in stock["capture"]["seen"]]
    assert any("keeps its sigmas" in note for note in high["notes"])
    assert 0.5 < samples(outputs).std() / samples(stock).std() < 2


def test_a_second_expert_cannot_shrink_a_latent_that_carries_noise(host):
    outputs = host.run(two_experts(*EXPERTS["t2v"], 1, dial("turbo"), steps=6))
    assert [stage["latent_shape"][-1] for stage in outputs["high report"]["jenga_report"][0]["stages"]] == [18]
    assert [stage["latent_shape"][-1] for stage in report(outputs)["stages"]] == [24]
    assert any("it carries its noise already" in note for note in report(outputs)["notes"])


@pytest.mark.parametrize("name", RESIZED)
def test_a_resized_condition_is_whole_again_at_full_size(host, name):
    """One stage at full size gets the conditions as they came: the result is the stock one."""
    case = RESIZED[name]
    stock = samples(host.run(prompt_of(case, steps=2, cfg=1.0)))
    outputs = host.run(prompt_of(case, dial("base", min_tokens=10**6), steps=2, cfg=1.0))
    assert torch.equal(samples(outputs), stock)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (
            Case("hunyuan_t2v", "reference", node("JengaTestLatent", height=16, width=24, keep_first=False)),
            "ref_latent of another size",
        ),
        (Case("wan_t2v", "keyframes"), "keyframe_idxs"),
    ],
)
def test_what_cannot_follow_the_size_keeps_all_steps_full_and_says_so(host, case, reason):
    outputs = host.run(prompt_of(case, dial("turbo"), cfg=1.0))
    assert sizes(outputs) == [24]
    assert torch.isfinite(samples(outputs)).all()
    assert any(f"the conditioning has {reason}" in note for note in report(outputs)["notes"])
    assert any(node_id == "p1" and f"the conditioning has {reason}" in text for node_id, text in host.status)
