"""Stages that keep the trajectory, in real ComfyUI: with a model that knows the clip the run is the full-size one."""

import pytest
import torch
from comfy_host import require_model
from tiny_models import MODELS

from jenga.sampling.resolution import resize
from workflows import carved, dial, node, report, samples, sizes, staged, stock_sampler, workflow

SIDE = 12  # of the small stage; the clip that the model knows has no frequency that it cannot hold
TRAJECTORY = {"upsample": "trajectory"}
TWO = {"scales": "0.5, 1.0", "switch_points": "0.5", **TRAJECTORY}
THREE = {"scales": "0.5, 0.75, 1.0", "switch_points": "0.3, 0.6", **TRAJECTORY}
VIDEO = node("EmptyLTXVLatentVideo", width=768, height=768, length=17, batch_size=1)
EMPTY = {"wan_t2v": node("EmptyHunyuanLatentVideo", width=192, height=192, length=9, batch_size=2)}
MASKED = node("JengaTestLatent", height=24, width=24, keep_first=True)
# noise levels: of a flow, of v-prediction, of EDM, of a flow whose sigma is noise over signal
CHANNELS = {"wan_t2v": 16, "cogvideox": 16, "cosmos1": 16, "predict2": 16, "ltxav": 128}


def prompt_of(checkpoint="wan_t2v", knows=True, latent=None, values=True, **settings) -> dict:
    patches = [("JengaTestWatch", {"values": values})]
    if knows:
        patches.append(("JengaTestKnowing", {"side": SIDE}))
    prompt = workflow(patches, checkpoint=checkpoint, latent=latent, **{"steps": 6, **settings})
    if checkpoint == "ltxav":
        prompt["video"] = latent or VIDEO
        prompt["audio"] = node("JengaTestAudioLatent", length=20, keep_half=latent is not None)
        prompt["latent"] = node("LTXVConcatAVLatent", video_latent=["video", 0], audio_latent=["audio", 0])
        prompt["apart"] = node("LTXVSeparateAVLatent", av_latent=["sampler", 0])
        prompt["capture"] = node("JengaTestCapture", latent=["apart", 0])
    return prompt


def latents(outputs) -> list[torch.Tensor]:
    """The noisy latent of every model call."""
    return [call["values"][0] for call in outputs["capture"]["seen"]]


@pytest.mark.parametrize("stages", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("masked", [False, True], ids=["empty", "masked"])
@pytest.mark.parametrize("checkpoint", CHANNELS)
def test_a_model_that_knows_the_clip_is_led_along_the_full_size_run(host, checkpoint, masked, stages):
    """Every noisy latent after the last switch, what a noise mask protects and the audio beside the video included."""
    require_model(MODELS.get(checkpoint, (None, None))[0])
    batch = 2 if checkpoint == "wan_t2v" else 1
    sides = {"height": 24, "width": 24, "channels": CHANNELS[checkpoint], "batch": batch}
    latent = node("JengaTestLatent", keep_first=True, **sides) if masked else EMPTY.get(checkpoint)
    settings = {"checkpoint": checkpoint, "latent": latent}
    dense, outputs = (host.run(prompt_of(**settings, **stages)) for stages in ({}, staged(**stages)))
    assert sizes(outputs) == ([12, 18, 24] if stages is THREE else [12, 24])
    last = report(outputs)["stages"][-1]["steps"]
    assert 1 <= last < 6
    for found, expected in zip(latents(outputs)[-last:], latents(dense)[-last:], strict=True):
        assert (found - expected).norm() < 2e-3 * expected.norm()
    torch.testing.assert_close(samples(outputs), samples(dense), rtol=0, atol=1e-4)


def test_every_sampler_leaves_the_noise_that_its_sigma_means(host):
    """At the first step after the switch: what is not the clip is white noise of that sigma, whichever sampler ran."""
    from comfy.samplers import SAMPLER_NAMES

    wrong = {}
    for name in SAMPLER_NAMES:
        outputs = host.run(prompt_of(sampler_name=name, steps=8, **staged(**TWO)))
        seen = outputs["capture"]["seen"]
        call = next(call for call in seen if call["x"][-1] == 24)
        sigma, (x, clip) = call["sigma"][0], call["values"]
        noise = (x - (1 - sigma) * clip) / sigma
        neighbours = (noise[..., 1:] * noise[..., :-1]).mean()
        white = abs(float(noise.std()) - 1) <= 0.05 and abs(float(neighbours)) <= 0.05
        if not (white and sizes(outputs) == [12, 24]):
            wrong[name] = float(noise.std()), float(neighbours), sizes(outputs)
    assert wrong == {}


@pytest.mark.parametrize("checkpoint", ["wan_t2v", "cosmos1", "ltxav"])
def test_part_of_a_schedule_hands_over_the_full_size_latent(host, checkpoint):
    """The first of two samplers ends in its small stage; what it hands over is what the stock sampler does."""
    found = []
    for stages in ({}, staged(**TWO)):
        prompt = prompt_of(checkpoint, **stages)
        prompt["split"] = node("SplitSigmas", sigmas=["sigmas", 0], step=2)
        prompt["sampler"]["inputs"]["sigmas"] = ["split", 0]
        prompt["clean"] = node("JengaTestCaptureAny", value0=["sampler", 0], value1=["sampler", 1])
        outputs = host.run(prompt)
        found.append(outputs["clean"]["values"])
    assert sizes(outputs) == [12]
    for values in zip(*found, strict=True):
        for part, expected in zip(*map(_parts, values), strict=True):
            torch.testing.assert_close(part, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("upsample", ["trajectory", "bicubic"])
@pytest.mark.parametrize("checkpoint", ["wan_t2v", "cosmos1", "ltxav", "minimax_h3"])
def test_a_run_may_end_in_its_small_stage(host, checkpoint, upsample):
    """The last stage has no step then: the clip is the small one, enlarged."""
    require_model(MODELS.get(checkpoint, (None, None))[0])
    stages = {**TWO, "switch_points": "1.0", "upsample": upsample}
    if checkpoint == "minimax_h3":  # nothing knows its clip: its audio has a noise level of its own
        prompt = workflow(checkpoint=checkpoint, steps=6, **staged(**stages))
        prompt["latent"] = node("EmptyMiniMaxH3LatentAV", width=256, height=256, length=22)
        prompt["apart"] = node("LTXVSeparateAVLatent", av_latent=["sampler", 0])
        prompt["capture"] = node("JengaTestCapture", latent=["apart", 0])
        outputs = host.run(prompt)
        assert torch.isfinite(samples(outputs)).all() and len(sizes(outputs)) == 1
        return
    dense, outputs = host.run(prompt_of(checkpoint)), host.run(prompt_of(checkpoint, **staged(**stages)))
    assert sizes(outputs) == [12]
    mode = "dct" if upsample == "trajectory" else upsample
    expected = resize(resize(samples(dense), SIDE, SIDE, "dct"), *samples(dense).shape[-2:], mode)
    assert (samples(outputs) - expected).norm() < 2e-3 * expected.norm()


def _parts(latent: dict) -> list[torch.Tensor]:
    return latent["samples"].unbind() if latent["samples"].is_nested else [latent["samples"]]


def test_a_sampler_that_leaves_steps_over_hands_over_where_it_stopped(host):
    def counting(**stages):
        prompt = prompt_of(steps=8, **stages)
        prompt["pick"] = node("JengaTestCountingSampler", steps=2)
        prompt["steps"] = node("JengaTestCaptureSteps", latent=["sampler", 0])
        return host.run(prompt)

    stock, outputs = counting(), counting(**staged(**TWO))
    assert sizes(outputs) == [12]
    assert outputs["steps"]["steps"] == [0, 1]
    assert any("left" in note and "step 2 of 8" in note for note in report(outputs)["notes"])
    sigma = outputs["capture"]["seen"][1]["sigma"][0]
    assert sigma < stock["capture"]["seen"][1]["sigma"][0]  # the small stage's own
    small = torch.nn.functional.interpolate(samples(stock).flatten(0, 1), SIDE, mode="area")
    assert samples(outputs).shape == samples(stock).shape
    found = torch.nn.functional.interpolate(samples(outputs).flatten(0, 1), SIDE, mode="area")
    assert (found - small).norm() < 0.1 * small.norm()


def test_schedule_of_a_small_stage(host):
    """σ_s / (1 - σ_s) = s σ / (1 - σ); other patches see one schedule, the evaluated sigmas of both sizes."""
    stock = [call["sigma"][0] for call in host.run(prompt_of())["capture"]["seen"]]
    outputs = host.run(prompt_of(**staged(**TWO)))
    found = [call["sigma"][0] for call in outputs["capture"]["seen"]]
    small = report(outputs)["stages"][0]["steps"]
    assert found[small:] == stock[small:]
    for sigma, full in zip(found[:small], stock[:small], strict=True):
        assert sigma == pytest.approx(0.5 * full / (1 - 0.5 * full), abs=1e-5)
    reader = stock_sampler(workflow([("JengaTestScheduleReader", {}), dial("few-step", min_tokens=10**6)], steps=6))
    reader["steps"] = node("JengaTestCaptureSteps", latent=["sampler", 0])
    outputs = host.run(reader)
    assert sizes(outputs) == [12, 24]
    assert outputs["steps"]["steps"] == list(range(6))


def test_what_from_preset_means(host):
    """The paper's presets are predicted clean, few-step and the custom fields keep the trajectory."""
    fields = {"scales": "0.75, 1.0", "shift_ratios": "1.0, 1.0"}
    for preset, way, other in (
        ("turbo", "bicubic", "trajectory"),
        ("3-stage", "bicubic", "trajectory"),
        ("few-step", "trajectory", "bicubic"),
        ("custom", "trajectory", "bicubic"),
    ):
        found = {}
        for upsample in ("from preset", way, other):
            stages = staged(preset=preset, upsample=upsample, **fields)
            found[upsample] = samples(host.run(prompt_of(knows=False, values=False, steps=7, **stages)))
        assert torch.equal(found["from preset"], found[way]), preset
        assert not torch.equal(found["from preset"], found[other]), preset


def test_stages_of_one_trajectory_share_the_last_shift_and_it_is_said(host):
    outputs = host.run(prompt_of(**staged(**TWO, shift_ratios="1.0, 1.5")))
    assert any("times 1.5 holds for all stages" in note for note in report(outputs)["notes"])
    same = host.run(prompt_of(**staged(**TWO, shift_ratios="1.5, 1.5")))
    assert not any("holds for all stages" in note for note in report(same)["notes"])
    assert torch.equal(samples(outputs), samples(same))


@pytest.mark.parametrize("sampler_name", ["euler", "uni_pc", "dpmpp_2m_sde", "heun"])
def test_steps_are_reused_and_layers_anchored(host, sampler_name):
    anchored = carved(quality="custom", anchor_distance="4")
    stages = staged(**{**TWO, "scales": "0.75, 1.0", "step_reuse": "static"})
    prompt = workflow([anchored], steps=14, cfg=3.0, sampler_name=sampler_name, **stages)
    outputs = host.run(prompt)
    assert sizes(outputs) == [18, 24]
    assert report(outputs)["model_calls_reused"] > 0 and report(outputs)["anchors"] > 0
    assert torch.isfinite(samples(outputs)).all()


def test_disabled_noise_comes_in_at_the_switch(host):
    prompt = prompt_of(noise=node("DisableNoise"), **staged(**TWO))
    outputs = host.run(prompt)
    first = next(call for call in outputs["capture"]["seen"] if call["x"][-1] == 24)
    sigma, (x, clip) = first["sigma"][0], first["values"]
    left = x - (1 - sigma) * clip
    assert not torch.any(latents(outputs)[0])
    assert float(left.std()) > 0.5 * sigma  # three quarters of the frequencies


def test_a_noise_mask_keeps_the_clean_frame(host):
    prompt = prompt_of(knows=False, latent=MASKED, **staged(**TWO))
    prompt["input"] = node("JengaTestCapture", latent=["latent", 0])
    outputs = host.run(prompt)
    clean = outputs["input"]["samples"][0]
    torch.testing.assert_close(samples(outputs)[:, :, 0], clean[:, :, 0], rtol=0, atol=1e-4)
    assert not torch.allclose(samples(outputs)[:, :, 1], clean[:, :, 1], atol=1e-2)


def test_every_queue_is_like_the_first(host):
    first = samples(host.run(prompt_of(knows=False, **staged(**TWO))))
    host.forget()
    assert torch.equal(samples(host.run(prompt_of(knows=False, **staged(**TWO)))), first)
