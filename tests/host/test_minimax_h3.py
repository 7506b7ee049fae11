"""MiniMax H3 in real ComfyUI: audio on a noise schedule of its own, which a change of size does not touch."""

import pytest
import torch
from comfy_host import pack_module, require_model

from workflows import COMPILE, carved, dial, node, report, sizes, staged, stock_sampler, workflow

CASES = {"minimax-h3": "", "minimax-h3-keyframe": "h3 keyframe", "minimax-h3-reference": "h3 reference"}
VIDEO_SHAPE, AUDIO_SHAPE = (1, 24, 7, 16, 16), (1, 32, 2, 37)
FULL = {"min_tokens": 10**6, "step_reuse": "off"}


@pytest.fixture(autouse=True)
def _this_comfyui_has_it(host_session):
    require_model("MiniMaxH3")


def minimax(*patches, kinds="", stock="", keep=None, **settings) -> dict:
    """A run of MiniMax H3. stock: KSampler or SamplerCustom in the place of workflow()'s sampler. keep: which part of
    the latent a noise mask keeps, video (its first frame) or audio (its first half).
    """
    watch = "JengaTestWatch", {"values": True}
    prompt = workflow([watch, *patches], **{"checkpoint": "minimax_h3", "steps": 4, **settings})
    prompt["latent"] = node("EmptyMiniMaxH3LatentAV", width=256, height=256, length=22)
    if keep:
        prompt["empty"], prompt["latent"] = prompt["latent"], node("JengaTestKept", latent=["empty", 0], part=keep)
    for name in ("positive", "negative"):
        prompt[f"{name} text"] = prompt[name]
        prompt[name] = node("JengaTestImageCondition", conditioning=[f"{name} text", 0], kinds=kinds)
    prompt["apart"] = node("LTXVSeparateAVLatent", av_latent=["sampler", 0])
    prompt["capture"] = node("JengaTestCapture", latent=["apart", 0])
    prompt["given"] = node("LTXVSeparateAVLatent", av_latent=["latent", 0])
    prompt["heard"] = node("JengaTestCaptureAny", value0=["apart", 1], value1=["given", 0], value2=["given", 1])
    return stock_sampler(prompt, stock) if stock else prompt


def latents(outputs) -> tuple[torch.Tensor, torch.Tensor]:
    return outputs["capture"]["samples"][0], outputs["heard"]["values"][0]["samples"]


def audio(x: torch.Tensor) -> torch.Tensor:
    """The last part of a packed latent."""
    return x.flatten()[-torch.Size(AUDIO_SHAPE).numel() :]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("anchors", ["off", "2"])
def test_all_blocks_kept_are_the_stock_model(host, cell, name, anchors):
    patch = carved(density=1.0, quality="custom", anchor_distance=anchors)
    outputs, stock = (host.run(minimax(*patches, kinds=CASES[name], cfg=3.0)) for patches in ((patch,), ()))
    for found, expected in zip(latents(outputs), latents(stock), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert report(outputs)["fallbacks"] == {}
    assert report(outputs)["kept_share"] == 1.0 and report(outputs)["backends"].keys() - {"dense"}
    error = max(float((x - y).abs().max()) for x, y in zip(latents(outputs), latents(stock), strict=True))
    cell(name, "all blocks kept" if anchors == "off" else "with anchors", f"{error:.0e}")
    calls = report(outputs)["model_calls_computed"]
    cell(name, "guidance", f"apart, {calls} calls" if calls == 8 else "")


@pytest.mark.parametrize("name", CASES)
def test_it_is_carved(host, cell, name):
    outputs = host.run(minimax(carved(), kinds=CASES[name]))
    assert report(outputs)["fallbacks"] == {} and "dense" not in report(outputs)["backends"]
    share = report(outputs)["kept_share"]
    assert 0.2 < share < 0.6
    cell(name, "carved", f"{share:.0%}")


def test_a_compiled_model_is_carved(host, cell):
    expected, outputs = (host.run(minimax(*patches, carved())) for patches in ((), (COMPILE,)))
    assert report(outputs)["fallbacks"] == {} and "dense" not in report(outputs)["backends"]
    for x, y in zip(latents(outputs), latents(expected), strict=True):
        assert (x - y).norm() < 1e-2 * y.norm()
    cell("minimax-h3", "compile", "yes")


@pytest.mark.parametrize("name", CASES)
def test_the_video_is_last_and_the_text_first(host, inputs, cell, name):
    values = []
    for by in (0.0, 1.0):
        inputs.clear()
        host.run(minimax(("JengaTestNudge", {"what": "1,5,3", "by": by}), carved(), kinds=CASES[name], steps=1))
        values.append(inputs[0].v[0])
    (row,) = ((values[0] - values[1]).abs().amax((0, 2)) > 1e-5).nonzero().flatten().tolist()
    given = inputs[0]
    grid = given.layout.grid
    assert row == given.video_start + grid.h * grid.w + 2 * grid.w + 1
    assert given.video_start + grid.num_tokens == given.v.shape[2] and given.text_range == (0, 12)
    cell(name, "sequence", f"{given.video_start} others, {grid.t}×{grid.h}×{grid.w} video")


@pytest.mark.parametrize("name", CASES)
def test_the_video_has_both_sizes_and_the_audio_its_own(host, cell, name):
    outputs = host.run(minimax(dial("turbo"), kinds=CASES[name], stock="KSampler", steps=6))
    assert sizes(outputs) == [12, 16]
    assert [part.shape for part in latents(outputs)] == [VIDEO_SHAPE, AUDIO_SHAPE]
    assert all(torch.isfinite(part).all() for part in latents(outputs))
    small, full = ([[*VIDEO_SHAPE[:3], side, side], list(AUDIO_SHAPE)] for side in (12, 16))
    parts = [call["parts"] for call in outputs["capture"]["seen"]]
    assert parts == [small] * 4 + [full] * 2
    assert report(outputs)["notes"] == ["no shift by stage: the audio goes on at the sigma that it has"]
    cell(name, "stages", "yes")
    cell(name, "conditions that follow", "minimax_keyframes" if "keyframe" in name else "")


@pytest.mark.parametrize("name", CASES)
def test_one_stage_is_the_stock_sampler(host, name):
    settings = {"kinds": CASES[name], "stock": "KSampler"}
    stock, outputs = host.run(minimax(**settings)), host.run(minimax(dial("base", **FULL), **settings))
    assert all(torch.equal(x, y) for x, y in zip(latents(outputs), latents(stock), strict=True))


WAYS = {
    "turbo": staged(preset="turbo", upsample="from preset"),
    "predicted clean": staged(scales="0.5, 0.75, 1.0", switch_points="0.3, 0.6", shift_ratios="1.2"),
    "trajectory": staged(upsample="trajectory"),
    "trajectory, shifted": staged(upsample="trajectory", shift_ratios="1.3"),
}


@pytest.mark.parametrize("stages", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("stage_noise", ["dct", "independent"])
@pytest.mark.parametrize("keep", [None, "video", "audio"])
def test_audio_goes_on_where_the_small_stage_left_it(host, stages, stage_noise, keep):
    """Every call of an Euler run, also the first of a stage, gets the audio that one Euler step made."""
    outputs = host.run(minimax(steps=6, keep=keep, **{**stages, "stage_noise": stage_noise}))
    assert len(sizes(outputs)) > 1
    calls = outputs["capture"]["seen"]
    for before, call in zip(calls, calls[1:], strict=False):
        (sigma,), (then,) = before["sigma"], call["sigma"]
        x, denoised = (audio(value) for value in before["values"])
        expected, found = x + (then - sigma) * (x - denoised) / sigma, audio(call["values"][0])
        if keep == "audio":  # what is kept is put into every call anew
            half = torch.ones(AUDIO_SHAPE, dtype=torch.bool)
            half[..., : AUDIO_SHAPE[-1] // 2] = False
            expected, found = expected[half.flatten()], found[half.flatten()]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("keep", ["video", "audio"])
@pytest.mark.parametrize("stock", ["KSampler", "SamplerCustom"])
def test_masks_keep_what_was_given(host, keep, stock):
    outputs = host.run(minimax(dial("turbo", **FULL), keep=keep, stock=stock))
    given = outputs["heard"]["values"][1 if keep == "video" else 2]["samples"]
    found = latents(outputs)[0 if keep == "video" else 1]
    part = (..., 0, slice(None), slice(None)) if keep == "video" else (..., slice(None, AUDIO_SHAPE[-1] // 2))
    assert sizes(outputs) == [12, 16]
    torch.testing.assert_close(found[part], given[part], rtol=0, atol=1e-4)
    assert not torch.allclose(found, given, atol=1e-2)


def test_the_audio_is_nearer_to_full_size_than_one_noised_anew(host, monkeypatch):
    """With a small model of random weights: what is carried keeps its way, what is noised anew loses it."""
    full = latents(host.run(minimax(steps=8)))[1]

    def error(**settings) -> float:
        return float((latents(host.run(minimax(steps=8, **staged(scales="0.75, 1.0"), **settings)))[1] - full).norm())

    carried = error()
    monkeypatch.setattr(pack_module("nodes.host.switch"), "carries_parts", lambda model: False)
    host.forget()
    assert carried < 0.5 * error()


@pytest.mark.parametrize("sampler_name", ["euler", "dpmpp_2m_sde", "uni_pc", "heun"])
def test_every_kind_of_sampler(host, sampler_name):
    outputs = host.run(minimax(dial("3-stage"), stock="KSampler", steps=6, sampler_name=sampler_name))
    assert sizes(outputs) == [8, 12, 16]
    assert all(torch.isfinite(part).all() for part in latents(outputs))


def test_part_of_a_schedule_hands_the_audio_over_as_it_is(host):
    """A second sampler goes on: the audio of the whole run is that of one sampler."""
    whole = minimax(stock="SamplerCustom", steps=6)
    prompt = minimax(dial("turbo", **FULL), stock="SamplerCustom", steps=6)
    prompt["split"] = node("SplitSigmas", sigmas=["sigmas", 0], step=2)
    prompt["sampler"]["inputs"]["sigmas"] = ["split", 0]
    outputs = host.run(prompt)
    assert sizes(outputs) == [12]
    whole["split"] = prompt["split"]
    whole["sampler"]["inputs"]["sigmas"] = ["split", 0]
    stock = host.run(whole)
    calls = outputs["capture"]["seen"]
    x, denoised = (audio(value) for value in calls[-1]["values"])
    (sigma,) = calls[-1]["sigma"]
    then = host.run(minimax(steps=6))["capture"]["seen"][2]["sigma"][0]
    expected = (x + (then - sigma) * (x - denoised) / sigma) / (1 - then)
    torch.testing.assert_close(latents(outputs)[1].flatten(), expected, rtol=1e-4, atol=1e-4)
    assert 0.8 < latents(outputs)[1].std() / latents(stock)[1].std() < 1.25


@pytest.mark.parametrize("rule", ["static", "adaptive"])
def test_steps_are_reused(host, rule):
    reuse = {"step_reuse": rule, "reuse_threshold": 0.5}
    outputs = host.run(minimax(steps=20, **staged(**reuse)))
    figures = report(outputs)
    assert figures["model_calls_computed"] + figures["model_calls_reused"] == 20
    assert 3 < figures["model_calls_computed"] < 20
    assert all(torch.isfinite(part).all() for part in latents(outputs))
