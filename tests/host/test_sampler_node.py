"""Progressive Resolution Sampler in real ComfyUI: stages, samplers, noise, progress, interrupt, step reuse."""

import pytest
import torch
from comfy_host import PromptFailed

from workflows import carved, node, report, samples, sizes, staged, workflow

ONE_STAGE = {"scales": "1.0", "switch_points": "", "shift_ratios": "1.0"}


def steps(outputs) -> list[int]:
    return [stage["steps"] for stage in report(outputs)["stages"]]


@pytest.mark.parametrize("sampler_name", ["euler", "dpmpp_2m_sde"])
def test_one_stage_is_the_stock_sampler(host, sampler_name):
    stock = samples(host.run(workflow(cfg=3.0, sampler_name=sampler_name)))
    one = samples(host.run(workflow(cfg=3.0, sampler_name=sampler_name, **staged(**ONE_STAGE))))
    assert torch.equal(one, stock)


@pytest.mark.parametrize("sampler_name", ["euler", "uni_pc", "dpmpp_2m_sde", "heun"])
def test_two_stages_with_every_kind_of_sampler(host, sampler_name):
    outputs = host.run(workflow([carved()], steps=4, sampler_name=sampler_name, **staged()))
    assert torch.isfinite(samples(outputs)).all()
    assert samples(outputs).shape == (1, 16, 3, 24, 24)
    assert sizes(outputs) == [12, 24]
    assert steps(outputs) == [3, 1]
    assert {total for _, total in host.progress} == {4}
    assert sorted({value for value, _ in host.progress}) == [1, 2, 3, 4]
    assert host.progress == sorted(host.progress)


@pytest.mark.parametrize("upsample", ["bicubic", "bilinear", "nearest-exact", "dct"])
@pytest.mark.parametrize("stage_noise", ["dct", "independent"])
def test_three_stages_with_guidance(host, upsample, stage_noise):
    stages = staged(
        scales="0.5, 0.75, 1.0",
        switch_points="0.3, 0.5",
        shift_ratios="1, 1.2, 1.4",
        upsample=upsample,
        stage_noise=stage_noise,
    )
    outputs = host.run(workflow([carved()], steps=5, cfg=3.0, **stages))
    assert torch.isfinite(samples(outputs)).all()
    assert sizes(outputs) == [12, 18, 24]
    assert steps(outputs) == [2, 1, 2]


def test_previews_have_the_size_of_their_stage(host):
    previews = []
    host.on_preview = lambda preview: previews.append(preview[1].size)
    host.run(workflow(steps=4, **staged()), preview_method="latent2rgb")
    assert previews == [(12, 12)] * 3 + [(24, 24)]


def test_every_queue_is_like_the_first_and_stock_is_untouched(host):
    stock = samples(host.run(workflow([carved()])))
    first = samples(host.run(workflow([carved()], **staged())))
    assert not torch.equal(samples(host.run(workflow([carved()], seed=6, **staged()))), first)
    assert torch.equal(samples(host.run(workflow([carved()], **staged()))), first)
    assert torch.equal(samples(host.run(workflow([carved()]))), stock)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_interrupt_in_every_stage_leaves_nothing_behind(host, at):
    expected = samples(host.run(workflow([carved()], **staged())))

    with pytest.raises(PromptFailed, match="interrupted"):
        host.interrupt(workflow([carved()], **staged()), at)
    assert torch.equal(samples(host.run(workflow([carved()], **staged()))), expected)


def test_preset_sets_sizes_and_kept_share(host):
    outputs = host.run(workflow([carved(density=1.0)], steps=5, **staged(preset="turbo")))
    assert sizes(outputs) == [18, 24]
    assert steps(outputs) == [3, 2]
    shares = report(outputs)["kept_share_map"][0]
    # .25 of 4 key blocks is 1; .15 of 7 is 2: the last block is ragged, so the share is not exact.
    assert all(0.2 < share < 0.35 for share in shares)
    assert shares[0] != shares[-1]
    base = host.run(workflow([carved(density=1.0)], steps=5, **staged(preset="base")))
    assert sizes(base) == [24]
    assert steps(base) == [5]
    assert len(set(report(base)["kept_share_map"][0])) > 1 or report(base)["kept_share"] < 0.35


def test_step_reuse_computes_fewer_calls(host):
    every = host.run(workflow([carved()], steps=12, cfg=3.0, **staged()))
    outputs = host.run(workflow([carved()], steps=12, cfg=3.0, **staged(step_reuse="static")))
    figures = report(outputs)
    assert report(every)["model_calls_computed"] == 12
    assert (figures["model_calls_computed"], figures["model_calls_reused"]) == (7, 5)
    assert [share is None for share in figures["kept_share_map"][0]] == [
        step not in (0, 1, 3, 5, 7, 9, 11) for step in range(12)
    ]
    assert torch.isfinite(samples(outputs)).all()
    assert not torch.equal(samples(outputs), samples(every))


def test_step_reuse_counts_the_calls_of_heun(host):
    outputs = host.run(workflow(steps=12, sampler_name="heun", **staged(step_reuse="static", **ONE_STAGE)))
    figures = report(outputs)
    assert figures["model_calls_computed"] + figures["model_calls_reused"] == 2 * 12 - 1
    assert 12 <= figures["model_calls_computed"] < 20


def test_a_switch_at_the_same_size_drops_anchors(host):
    """The latent is noised anew there: every layer is dense again on the step behind it."""
    anchored = carved(quality="custom", anchor_distance="16")
    stages = staged(scales="1.0, 1.0", switch_points="0.5", shift_ratios="1.0, 1.2")
    outputs = host.run(workflow([anchored], steps=12, **stages))
    assert sizes(outputs) == [24, 24]
    first = steps(outputs)[0]
    for row in report(outputs)["kept_share_map"]:
        assert row[0] == row[first] == 1.0
        assert max(row[first + 1 : first + 3]) < 0.7


def test_without_jenga_attention_the_report_is_on_the_plain_model(host):
    outputs = host.run(workflow(**staged()))
    assert sizes(outputs) == [12, 24]
    assert report(outputs)["kept_share"] is None
    assert any("no Jenga Attention" in note for note in report(outputs)["notes"])
    assert any(node_id == "sampler" and "stage 2, latent 24×24" in text for node_id, text in host.status)


def test_part_of_a_schedule_hands_over_full_size_at_its_sigma(host):
    """Two samplers that share a schedule, as two experts do: the first ends inside the small stage."""
    prompt = workflow(steps=6, **staged(switch_points="0.9"))
    prompt["split"] = node("SplitSigmas", sigmas=["sigmas", 0], step=2)
    prompt["sampler"]["inputs"]["sigmas"] = ["split", 0]
    prompt["silence"] = node("DisableNoise")
    prompt["rest"] = node("SamplerCustomAdvanced", **{**prompt["sampler"]["inputs"]})
    prompt["rest"]["inputs"] = {
        "noise": ["silence", 0],
        "guider": ["guider", 0],
        "sampler": ["pick", 0],
        "sigmas": ["split", 1],
        "latent_image": ["sampler", 0],
    }
    prompt["capture"]["inputs"]["latent"] = ["rest", 0]
    prompt["clean"] = node("JengaTestCapture", latent=["sampler", 1])
    outputs = host.run(prompt)
    assert outputs["clean"]["samples"][0].shape == (1, 16, 3, 24, 24)
    assert sizes(outputs) == [12]
    result = samples(outputs)
    assert result.shape == (1, 16, 3, 24, 24)
    stock = samples(host.run(workflow(steps=6)))
    # A wrong noise level would leave noise or blow up: the spread is that of the stock run.
    assert 0.5 < result.std() / stock.std() < 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"latent": node("JengaTestLatent", height=2, width=24, keep_first=False)}, "at least one patch"),
        ({"conditioning": {"masked_tokens": 0, "key": "keyframe_idxs"}}, "keyframe_idxs"),
        (
            {
                "latent": node("JengaTestLatent", height=24, width=24, keep_first=False),
                "noise": node("DisableNoise"),
            },
            "noise is disabled",
        ),
    ],
)
def test_where_small_stages_cannot_be_right_the_run_says_so(host, change, reason):
    outputs = host.run(workflow(**change, **staged()))
    assert steps(outputs) == [3]
    assert any(reason in note for note in report(outputs)["notes"])
    assert any(node_id == "sampler" and reason in text for node_id, text in host.status)


def test_disabled_noise_is_off_at_the_start_only(host):
    outputs = host.run(workflow(noise=node("DisableNoise"), **staged()))
    assert sizes(outputs) == [12, 24]
    frames = samples(outputs)
    assert (frames - frames.mean((-1, -2), keepdim=True)).std() > 0.01  # noise came in at the switch


def test_noise_mask_keeps_the_clean_frame(host):
    latent = node("JengaTestLatent", height=24, width=24, keep_first=True)
    prompt = workflow(latent=latent, steps=4, **staged())
    prompt["input"] = node("JengaTestCapture", latent=["latent", 0])
    outputs = host.run(prompt)
    clean = outputs["input"]["samples"][0]
    torch.testing.assert_close(samples(outputs)[:, :, 0], clean[:, :, 0], rtol=0, atol=1e-4)
    assert not torch.allclose(samples(outputs)[:, :, 1], clean[:, :, 1], atol=1e-2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"scales": "0.5, 0.75"}, "scales must end with 1.0"),
        ({"scales": "half, 1"}, "scales must hold numbers"),
        ({"switch_points": "0.3, 0.5"}, "switch_points must hold 1 rising numbers"),
        ({"shift_ratios": "1, 2, 3"}, "shift_ratios must hold 1 or 2 numbers"),
    ],
)
def test_wrong_fields_are_named(host, change, text):
    with pytest.raises(PromptFailed, match=text):
        host.run(workflow(**staged(**change)))


def test_no_steps_is_what_stock_makes_of_it(host):
    results = []
    for arguments in ({}, staged(preset="turbo")):
        prompt = workflow(**arguments)
        prompt["split"] = node("SplitSigmas", sigmas=["sigmas", 0], step=3)
        prompt["sampler"]["inputs"]["sigmas"] = ["split", 1]
        results.append(samples(host.run(prompt)))
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"preset": "turbo"}, "scales does nothing with preset turbo: it is for custom"),
        ({"preset": "base", "upsample": "dct"}, "upsample does nothing with preset base"),
        ({"reuse_threshold": 0.3}, "reuse_threshold does nothing with step_reuse off: it is for adaptive"),
    ],
)
def test_what_does_nothing_is_said(host, change, words):
    outputs = host.run(workflow([carved()], **staged(**change)))
    assert any(words in note for note in report(outputs)["notes"])
    assert any(node_id == "sampler" and words in text for node_id, text in host.status)
