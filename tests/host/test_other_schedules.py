"""Other code that reads the schedule, counts steps or keeps a latent's size, beside a run of several sizes."""

import pytest
import torch

from workflows import carved, dial, node, report, samples, sizes, staged, stock_sampler, workflow

FULL = {"min_tokens": 10**6, "step_reuse": "off"}


def run(host, *patches, steps=6, **settings):
    prompt = stock_sampler(workflow(patches, steps=steps, **settings))
    prompt["steps"] = node("JengaTestCaptureSteps", latent=["sampler", 0])
    return host.run(prompt)


@pytest.mark.parametrize("preset", ["turbo", "3-stage"])
def test_a_function_that_looks_its_step_up_finds_every_one_once(host, preset):
    outputs = run(host, ("JengaTestScheduleReader", {}), dial(preset, step_reuse="off"), cfg=3.0)
    assert len(sizes(outputs)) > 1
    assert outputs["steps"]["steps"] == list(range(6))


def test_our_own_anchors_count_the_steps_of_their_size(host):
    """The whole schedule in the options is not the part that runs at one size."""
    stages = staged(scales="0.5, 1.0", switch_points="0.5", shift_ratios="1.0, 1.0")
    outputs = host.run(workflow([carved(quality="near-lossless")], steps=6, **stages))
    assert any("2 steps at this size" in note for note in report(outputs)["notes"])


def test_momentum_of_guidance_runs_at_full_size_and_it_is_said(host):
    """ComfyUI's own APG keeps an average of the guidance of all steps: of one size."""
    apg = ("APG", {"eta": 1.0, "norm_threshold": 5.0, "momentum": 0.5})
    stock = samples(run(host, apg, cfg=3.0))
    outputs = run(host, apg, dial("turbo", **FULL), cfg=3.0)
    assert sizes(outputs) == [24]
    torch.testing.assert_close(samples(outputs), stock, rtol=0, atol=1e-4)
    assert any("full size" in note and "APG" in note for note in report(outputs)["notes"])
    assert any("full size" in text for node_id, text in host.status if node_id == "p1")
    again = run(host, apg, dial("turbo", **FULL), cfg=3.0)
    assert sizes(again) == [24]


def test_guidance_without_memory_keeps_its_stages(host):
    outputs = run(host, ("CFGZeroStar", {}), dial("turbo", step_reuse="off"), cfg=3.0)
    assert sizes(outputs) == [18, 24]


@pytest.mark.parametrize("patch", ["JengaTestFullSizeLatent", "JengaTestFullSizePatch"])
def test_what_a_patch_keeps_at_full_size_keeps_the_run_there(host, patch):
    """The first is ComfyUI's own wrapper of InfiniteTalk."""
    stock = samples(run(host, (patch, {})))
    outputs = run(host, (patch, {}), dial("turbo", **FULL))
    assert sizes(outputs) == [24]
    torch.testing.assert_close(samples(outputs), stock, rtol=0, atol=1e-4)
    assert any("all steps at full size" in note and "24" in note for note in report(outputs)["notes"])
    staged_run = host.run(workflow([(patch, {})], steps=6, **staged()))
    assert sizes(staged_run) == [24]


def counting(host, count, steps, *patches) -> dict:
    prompt = stock_sampler(workflow(patches, steps=steps), "SamplerCustom")
    prompt["pick"] = node("JengaTestCountingSampler", steps=count)
    prompt["steps"] = node("JengaTestCaptureSteps", latent=["sampler", 0])
    return host.run(prompt)


def test_a_sampler_that_leaves_steps_over_ends_the_run(host):
    """Two of the three steps of the small stage: the latent that comes out is that of step 2, at full size."""
    outputs = counting(host, 2, 6, dial("turbo", **FULL))
    stock = counting(host, 2, 6)
    assert outputs["steps"]["steps"] == [0, 1] == stock["steps"]["steps"]
    assert samples(outputs).shape == samples(stock).shape
    assert 0.8 < samples(outputs).std() / samples(stock).std() < 1.25
    assert any("left" in note and "step 2 of 6" in note for note in report(outputs)["notes"])


def test_a_sampler_that_runs_them_all_is_left_alone(host):
    outputs = counting(host, 6, 6, dial("turbo", **FULL))
    assert outputs["steps"]["steps"] == [0, 1, 2, 3, 0, 1]
    assert not any("left" in note for note in report(outputs)["notes"])
