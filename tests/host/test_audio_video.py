"""Latents of video with audio in real ComfyUI: the video follows the size of a stage, the audio stays whole."""

import pytest
import torch

from jenga.sampling.resolution import dct_truncate, resize, stage_seed
from workflows import COMPILE, carved, node, report, sizes, staged, stock_sampler, workflow
from workflows import dial as any_dial

VIDEO = node("EmptyLTXVLatentVideo", width=384, height=384, length=17, batch_size=1)
VIDEO_SHAPE, AUDIO_SHAPE = (1, 128, 3, 12, 12), (1, 8, 20, 16)
SEED = 5


def prompt_of(*patches, stock="", video=VIDEO, keep_audio=False, values=False, **settings) -> dict:
    """A run of LTX-2. stock: KSampler or SamplerCustom in the place of workflow()'s sampler."""
    watch = "JengaTestWatch", {"values": values}
    prompt = workflow([watch, *patches], **{"checkpoint": "ltxav", "seed": SEED, **settings})
    prompt["video"] = video
    prompt["audio"] = node("JengaTestAudioLatent", length=AUDIO_SHAPE[2], keep_half=keep_audio)
    prompt["latent"] = node("LTXVConcatAVLatent", video_latent=["video", 0], audio_latent=["audio", 0])
    prompt["apart"] = node("LTXVSeparateAVLatent", av_latent=["sampler", 0])
    prompt["capture"] = node("JengaTestCapture", latent=["apart", 0])
    prompt["heard"] = node("JengaTestCaptureAny", value0=["apart", 1], value1=["audio", 0], value2=["video", 0])
    return stock_sampler(prompt, stock) if stock else prompt


def dial(preset="turbo") -> tuple[str, dict]:
    """A Jenga patch that leaves attention dense: these tests compare it with the sampler node alone."""
    return any_dial(preset, min_tokens=10**6)


PROGRESSIVE = "JengaProgressiveSampler"
WAYS = (PROGRESSIVE, "KSampler", "SamplerCustom")


def preset_prompt(way: str, preset="turbo", **settings) -> dict:
    """A preset in the Progressive Resolution Sampler, or in the Jenga node with that stock sampler."""
    if way == PROGRESSIVE:
        return prompt_of(**settings, **staged(preset=preset))
    return prompt_of(dial(preset), stock=way, **settings)


def latents(outputs) -> tuple[torch.Tensor, torch.Tensor]:
    return outputs["capture"]["samples"][0], outputs["heard"]["values"][0]["samples"]


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(latents(first), latents(second), strict=True))


def noise_of(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """ComfyUI's noise of a seed: one generator draws the parts in turn."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator) for shape in (VIDEO_SHAPE, AUDIO_SHAPE))


def unpacked(x: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    video = (*VIDEO_SHAPE[:3], side, side)
    count = torch.Size(video).numel()
    return x[..., :count].reshape(video), x[..., count:].reshape(AUDIO_SHAPE)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sampler_name", ["euler", "dpmpp_2m_sde", "uni_pc", "heun"])
def test_the_video_has_both_sizes_and_the_audio_its_own(host, way, sampler_name):
    outputs = host.run(preset_prompt(way, steps=4, cfg=3.0, sampler_name=sampler_name))
    assert [part.shape for part in latents(outputs)] == [VIDEO_SHAPE, AUDIO_SHAPE]
    assert all(torch.isfinite(part).all() for part in latents(outputs))
    assert sizes(outputs) == [9, 12]
    assert [stage["steps"] for stage in report(outputs)["stages"]] == [3, 1]
    parts = [call["parts"] for call in outputs["capture"]["seen"]]
    small, full = [[[*VIDEO_SHAPE[:3], side, side], list(AUDIO_SHAPE)] for side in (9, 12)]
    switch = parts.index(full)
    assert switch >= 3
    assert parts == [small] * switch + [full] * (len(parts) - switch)
    values = [value for value, _ in host.progress]
    assert values == sorted(values)
    assert set(host.progress) == {(value, 4) for value in range(1, 5)}


def test_three_stages(host, cell):
    outputs = host.run(prompt_of(dial("3-stage"), stock="KSampler", steps=6))
    assert sizes(outputs) == [6, 9, 12]
    assert [part.shape for part in latents(outputs)] == [VIDEO_SHAPE, AUDIO_SHAPE]
    assert all(torch.isfinite(part).all() for part in latents(outputs))
    cell("ltx2", "stages", "yes")


@pytest.mark.parametrize("way", WAYS)
def test_one_stage_is_the_stock_sampler(host, way):
    expected = host.run(prompt_of(cfg=3.0, stock="" if way == PROGRESSIVE else way))
    outputs = host.run(preset_prompt(way, "base", cfg=3.0))
    assert same(outputs, expected)
    assert sizes(outputs) == [12]


@pytest.mark.parametrize("anchors", ["off", "2"])
def test_all_blocks_of_the_video_kept_are_the_stock_model(host, cell, anchors):
    patch = carved(density=1.0, quality="custom", anchor_distance=anchors)
    outputs, stock = (host.run(prompt_of(*patches, cfg=3.0)) for patches in ((patch,), ()))
    for found, expected in zip(latents(outputs), latents(stock), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert report(outputs)["fallbacks"] == {}
    assert report(outputs)["kept_share"] == 1.0 and report(outputs)["backends"].keys() - {"dense"}
    error = max(float((x - y).abs().max()) for x, y in zip(latents(outputs), latents(stock), strict=True))
    cell("ltx2", "all blocks kept" if anchors == "off" else "with anchors", f"{error:.0e}")
    cell("ltx2", "guidance", "one batch, 3 calls" if report(outputs)["model_calls_computed"] == 3 else "")


@pytest.mark.parametrize("length", [20, 432])
def test_the_video_is_carved_and_the_audio_is_not(host, inputs, cell, length):
    """Also where both have the same number of tokens: the audio is narrower."""
    prompt = prompt_of(carved())
    prompt["audio"]["inputs"]["length"] = length
    outputs = host.run(prompt)
    assert report(outputs)["fallbacks"] == {} and report(outputs)["kept_share"] < 0.6
    assert [tuple(given.v.shape) for given in inputs] == [(1, 2, 432, 32)] * (2 * 3)
    share = report(outputs)["kept_share"]
    cell("ltx2", "carved", f"{share:.0%}")
    cell("ltx2", "sequence", "3×12×12 video")


@pytest.mark.parametrize("way", WAYS)
def test_every_queue_is_like_the_first_and_stock_is_untouched(host, way):
    stock = host.run(prompt_of())
    first = host.run(preset_prompt(way))
    other = host.run(preset_prompt(way, seed=SEED + 1))
    assert not any(torch.equal(a, b) for a, b in zip(latents(other), latents(first), strict=True))
    host.forget()
    assert same(host.run(preset_prompt(way)), first)
    host.forget()
    assert same(host.run(prompt_of()), stock)


def test_the_jenga_node_is_the_progressive_sampler(host):
    settings = {"steps": 13, "cfg": 3.0}
    node_alone = host.run(prompt_of(dial("turbo"), stock="KSampler", **settings))
    both = host.run(prompt_of(**settings, **staged(preset="turbo", step_reuse="from preset")))
    assert same(node_alone, both)
    assert report(node_alone)["model_calls_reused"] == report(both)["model_calls_reused"] > 0
    assert all(reason.endswith("min_tokens is 1000000") for reason in report(node_alone)["dense_by_choice"])


@pytest.mark.parametrize("stage_noise", ["dct", "independent"])
@pytest.mark.parametrize("shift", ["1.0", "1.0, 1.4"])
def test_both_parts_are_predicted_clean_and_noised_to_the_next_sigma(host, stage_noise, shift):
    """A shift moves the first sigma of the second stage away from where the first stage ended."""
    stages = staged(shift_ratios=shift, stage_noise=stage_noise)
    calls = host.run(prompt_of(values=True, steps=4, **stages))["capture"]["seen"]
    stock = host.run(prompt_of(steps=4))["capture"]["seen"]
    video_noise, audio_noise = noise_of(SEED)
    if stage_noise == "dct":
        small_noise = dct_truncate(video_noise, 6, 6)
    else:
        small_noise = torch.randn((*VIDEO_SHAPE[:3], 6, 6), generator=torch.Generator().manual_seed(SEED))
        video_noise = torch.randn(VIDEO_SHAPE, generator=torch.Generator().manual_seed(stage_seed(SEED, 1)))
    video, audio = unpacked(calls[0]["values"][0], 6)
    torch.testing.assert_close(video, small_noise)
    torch.testing.assert_close(audio, audio_noise)

    clean_video, clean_audio = unpacked(calls[2]["values"][1], 6)
    sigma = calls[3]["sigma"][0]
    assert (sigma == stock[3]["sigma"][0]) == (shift == "1.0")
    video, audio = unpacked(calls[3]["values"][0], 12)
    torch.testing.assert_close(video, (1 - sigma) * resize(clean_video, 12, 12, "bicubic") + sigma * video_noise)
    torch.testing.assert_close(audio, (1 - sigma) * clean_audio + sigma * audio_noise)


def test_the_result_is_nearer_to_full_size_than_another_seed_is(host):
    full = latents(host.run(prompt_of(steps=8)))
    other = latents(host.run(prompt_of(steps=8, seed=SEED + 1)))
    small = latents(host.run(prompt_of(steps=8, **staged(scales="0.75, 1.0"))))
    for index, name in enumerate(("video", "audio")):
        near, far = ((x[index] - full[index]).norm() for x in (small, other))
        assert 0 < near < far, name


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("keep_video", "keep_audio"), [(True, True), (True, False), (False, True)])
def test_masks_keep_what_was_given_of_each_part(host, way, keep_video, keep_audio):
    video = node("JengaTestLatent", height=12, width=12, keep_first=keep_video, channels=128)
    outputs = host.run(preset_prompt(way, steps=4, video=video, keep_audio=keep_audio))
    assert sizes(outputs) == [9, 12]
    given_audio, given_video = (latent["samples"] for latent in outputs["heard"]["values"][1:])
    found_video, found_audio = latents(outputs)
    half = AUDIO_SHAPE[2] // 2
    for kept, found, given in (
        (keep_video, found_video[:, :, 0], given_video[:, :, 0]),
        (keep_audio, found_audio[:, :, :half], given_audio[:, :, :half]),
        (False, found_video[:, :, 1:], given_video[:, :, 1:]),
        (False, found_audio[:, :, half:], given_audio[:, :, half:]),
    ):
        assert torch.allclose(found, given, rtol=0, atol=1e-4) == kept


def test_masks_of_both_parts_reach_the_model_at_the_size_of_the_stage(host):
    video = node("JengaTestLatent", height=12, width=12, keep_first=True, channels=128)
    outputs = host.run(prompt_of(steps=4, video=video, keep_audio=True, **staged()))
    seen = outputs["capture"]["seen"]
    assert [call["denoise_mask"][-2:] for call in seen] == [[6, 6]] * 3 + [[12, 12]]
    assert [call["audio_denoise_mask"] for call in seen] == [list(AUDIO_SHAPE)] * 4


def test_the_callback_gets_full_size_and_previews_run(host, cell):
    """Older ComfyUIs have no colours for LTX-2's latents: they show nothing without Jenga either."""
    import comfy.latent_formats

    colours = comfy.latent_formats.LTXAV().latent_rgb_factors
    for stages in ({}, staged()):
        previews = []
        host.on_preview = lambda preview, sizes=previews: sizes.append(preview[1].size)
        host.run(prompt_of(steps=4, **stages), preview_method="latent2rgb")
        assert previews == ([] if colours is None else [(12, 12)] * 4)
    if colours is None:
        cell("ltx2", "cannot", "previews (it has no colours for these latents)")


@pytest.mark.parametrize("way", [PROGRESSIVE, "SamplerCustom"])
def test_part_of_a_schedule_hands_over_both_parts_at_its_sigma(host, way):
    """The second output is the prediction; the first one is it with the run's own noise at the sigma of the split."""
    prompt = preset_prompt(way, steps=6)
    prompt["split"] = node("SplitSigmas", sigmas=["sigmas", 0], step=2)
    prompt["sampler"]["inputs"]["sigmas"] = ["split", 0]
    prompt["clean apart"] = node("LTXVSeparateAVLatent", av_latent=["sampler", 1])
    prompt["clean"] = node(
        "JengaTestCaptureAny", value0=["clean apart", 0], value1=["clean apart", 1], value2=["split", 1]
    )
    outputs = host.run(prompt)
    assert sizes(outputs) == [9]
    clean_video, clean_audio, rest = outputs["clean"]["values"]
    sigma = float(rest[0])
    for found, clean, noise in zip(
        latents(outputs), (clean_video["samples"], clean_audio["samples"]), noise_of(SEED), strict=True
    ):
        torch.testing.assert_close(found * (1 - sigma), (1 - sigma) * clean + sigma * noise)


def test_a_second_sampler_goes_on_with_both_parts(host):
    prompt = prompt_of(steps=6, **staged(switch_points="0.9"))
    prompt["split"] = node("SplitSigmas", sigmas=["sigmas", 0], step=2)
    prompt["first"] = node(PROGRESSIVE, **{**prompt["sampler"]["inputs"], "sigmas": ["split", 0]})
    prompt["silence"] = node("DisableNoise")
    prompt["sampler"]["inputs"] |= {"noise": ["silence", 0], "sigmas": ["split", 1], "latent_image": ["first", 0]}
    outputs = host.run(prompt)
    assert any("it carries its noise already" in note for note in report(outputs)["notes"])
    for found, stock in zip(latents(outputs), latents(host.run(prompt_of(steps=6))), strict=True):
        assert found.shape == stock.shape
        # A wrong noise level would leave noise or blow up: the spread is that of the stock run.
        assert 0.5 < found.std() / stock.std() < 2


def test_disabled_noise_comes_in_at_the_switch_in_both_parts(host):
    calls = host.run(prompt_of(values=True, steps=4, noise=node("DisableNoise"), **staged()))["capture"]["seen"]
    assert not torch.any(unpacked(calls[0]["values"][0], 6)[0])
    clean_video, clean_audio = unpacked(calls[2]["values"][1], 6)
    found, sigma = calls[3]["values"][0], calls[3]["sigma"][0]
    noise = torch.randn(found.shape, generator=torch.Generator().manual_seed(stage_seed(0, 1)))
    expected = (resize(clean_video, 12, 12, "bicubic"), clean_audio)
    for x, clean, fresh in zip(unpacked(found, 12), expected, unpacked(noise, 12), strict=True):
        torch.testing.assert_close(x, (1 - sigma) * clean + sigma * fresh)


@pytest.mark.parametrize("sampler_name", ["euler", "heun"])
@pytest.mark.parametrize("rule", ["static", "adaptive"])
def test_steps_are_reused(host, sampler_name, rule):
    settings = {"steps": 20, "cfg": 3.0, "sampler_name": sampler_name}
    every = host.run(prompt_of(**settings, **staged()))
    outputs = host.run(prompt_of(**settings, **staged(step_reuse=rule, reuse_threshold=0.5)))
    figures, calls = report(outputs), report(every)["model_calls_computed"]
    assert sizes(outputs) == [6, 12]
    assert calls == {"euler": 20, "heun": 39}[sampler_name]
    assert figures["model_calls_computed"] + figures["model_calls_reused"] == calls
    assert 3 < figures["model_calls_computed"] < calls
    for part, computed in zip(latents(outputs), latents(every), strict=True):
        assert torch.isfinite(part).all()
        assert not torch.equal(part, computed)


def test_guides_keep_all_steps_full_and_that_is_said(host):
    masked = node("JengaTestLatent", height=12, width=12, keep_first=True, channels=128)  # guides come with a mask

    def run(*patches):
        prompt = prompt_of(*patches, stock="KSampler", steps=4, video=masked)
        for name in ("positive", "negative"):
            prompt[f"{name} text"] = prompt[name]
            prompt[name] = node("JengaTestImageCondition", conditioning=[f"{name} text", 0], kinds="keyframes")
        return host.run(prompt)

    stock, outputs = run(), run(dial("turbo"))
    assert sizes(outputs) == [12]
    assert same(outputs, stock)
    reason = "the conditioning has keyframe_idxs, which does not follow the size"
    assert any(reason in note for note in report(outputs)["notes"])
    assert any(node_id == "p1" and reason in text for node_id, text in host.status)


def test_ltx2_without_audio_has_stages_too(host):
    prompt = workflow([dial("turbo")], checkpoint="ltxav", latent=VIDEO, steps=4)
    outputs = host.run(stock_sampler(prompt))
    assert sizes(outputs) == [9, 12]
    assert outputs["capture"]["samples"][0].shape == VIDEO_SHAPE


def test_a_compiled_model_is_carved(host, cell):
    expected, outputs = (host.run(prompt_of(*patches, carved())) for patches in ((), (COMPILE,)))
    assert report(outputs)["fallbacks"] == {} and "dense" not in report(outputs)["backends"]
    for x, y in zip(latents(outputs), latents(expected), strict=True):
        assert (x - y).norm() < 1e-2 * y.norm()
    assert 0.2 < report(expected)["kept_share"] < 0.6
    cell("ltx2", "compile", "yes")
