"""Jenga in real ComfyUI: the preset dial in front of the stock samplers, alone and beside the other nodes."""

import pytest
import torch
from comfy_host import PromptFailed, pack_module

from workflows import carved, dial, node, report, samples, sizes, staged, stock_sampler, workflow

SAMPLERS = ("KSampler", "SamplerCustom")
NO_REUSE = {"step_reuse": "off"}


def steps(outputs) -> list[int]:
    return [stage["steps"] for stage in report(outputs)["stages"]]


def run(host, *patches, sampler="KSampler", **settings):
    return host.run(stock_sampler(workflow(patches, **settings), sampler))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("sampler_name", ["euler", "dpmpp_2m_sde", "uni_pc", "heun"])
def test_stages_in_the_stock_samplers(host, sampler, sampler_name):
    outputs = run(host, dial("3-stage"), sampler=sampler, sampler_name=sampler_name, steps=6, cfg=3.0)
    assert torch.isfinite(samples(outputs)).all()
    assert samples(outputs).shape == (1, 16, 3, 24, 24)
    assert sizes(outputs) == [12, 18, 24]
    assert sum(steps(outputs)) == 6
    values = [value for value, _ in host.progress]
    assert values == sorted(values)
    assert set(values) == set(range(1, 7))
    assert {total for _, total in host.progress} == {6}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("preset", ["base", "turbo", "flash", "3-stage", "few-step"])
def test_it_is_jenga_attention_and_the_progressive_sampler_in_one(host, sampler, preset):
    settings = {"steps": 13, "cfg": 3.0}
    # At their defaults, else the sampler remarks on them.
    fields = {"scales": "0.75, 1.0", "shift_ratios": "1.0, 1.0", "upsample": "from preset"}
    two = host.run(workflow([carved()], **settings, **staged(preset=preset, step_reuse="from preset", **fields)))
    one = run(host, dial(preset), sampler=sampler, **settings)
    assert torch.equal(samples(one), samples(two))
    same = ("model_calls_computed", "model_calls_reused", "kept_share_map", "backends", "notes")
    assert {key: report(one)[key] for key in same} == {key: report(two)[key] for key in same}
    assert sizes(one) == sizes(two)


DIAL = {
    "near-lossless": ({"density": 0.1, "anchor_distance": "2"}, {"scales": "1.0", "switch_points": ""}, 0.1),
    "high": ({"density": 0.1, "anchor_distance": "4"}, {"scales": "1.0", "switch_points": ""}, 0.2),
    "balanced": ({"density": 0.1, "anchor_distance": "6"}, {"scales": "1.0", "switch_points": ""}, 0.3),
    "fast": ({"density": 0.05, "anchor_distance": "first step"}, {"scales": "0.75, 1.0", "switch_points": "0.25"}, 0.8),
}


@pytest.mark.parametrize("name", DIAL)
def test_a_position_of_the_dial_is_the_two_nodes_with_these_settings(host, name, monkeypatch):
    """The settings of docs/frontier.md, whose figures are of the two nodes. A random model changes too much to reuse a
    step, so the threshold is asked of the rule.
    """
    step_reuse, thresholds = pack_module("nodes.host.step_reuse"), []

    class Rule(step_reuse.MeasuredRateRule):
        def __init__(self, threshold: float, steps: int):
            thresholds.append(threshold)
            super().__init__(threshold, steps)

    monkeypatch.setattr(step_reuse, "MeasuredRateRule", Rule)
    attention, stages, threshold = DIAL[name]
    sampler = staged(step_reuse="adaptive", reuse_threshold=threshold, upsample="from preset", **stages)
    two = host.run(workflow([carved(**attention)], steps=20, cfg=3.0, **sampler))
    one = run(host, dial(name), steps=20, cfg=3.0)
    assert torch.equal(samples(one), samples(two))
    same = ("model_calls_computed", "model_calls_reused", "kept_share_map", "backends", "anchors", "notes")
    assert {key: report(one)[key] for key in same} == {key: report(two)[key] for key in same}
    assert report(one)["anchors"] and thresholds == [threshold, threshold]
    assert sizes(one) == ([18, 24] if name == "fast" else [24])


@pytest.mark.parametrize("number", [1, 2, 4, 8])
def test_few_step_computes_every_step_and_carves_it(host, number):
    outputs = run(host, dial("few-step"), steps=number)
    figures = report(outputs)
    assert (figures["model_calls_computed"], figures["model_calls_reused"]) == (number, 0)
    assert figures["backends"].keys() & {"dense"} == set()
    assert steps(outputs) == {1: [1], 2: [1, 1], 4: [2, 2], 8: [3, 5]}[number]
    assert sizes(outputs)[-1] == 24


def test_previews_have_the_size_of_their_stage(host):
    previews = []
    host.on_preview = lambda preview: previews.append(preview[1].size)
    host.run(stock_sampler(workflow([dial()], steps=4)), preview_method="latent2rgb")
    assert previews == [(18, 18)] * 3 + [(24, 24)]


def test_off_is_the_model_as_it_came(host):
    stock = samples(run(host))
    run(host, dial())
    outputs = run(host, dial("off"))
    assert torch.equal(samples(outputs), stock)
    assert any(node_id == "p0" and text.startswith("off") for node_id, text in host.status)


def test_every_queue_is_like_the_first_and_stock_is_untouched(host):
    stock = samples(run(host))
    first = samples(run(host, dial(), cfg=3.0))
    assert not torch.equal(samples(run(host, dial(), cfg=3.0, seed=6)), first)
    small = node("EmptyHunyuanLatentVideo", width=128, height=128, length=9, batch_size=1)
    assert sizes(run(host, dial(), cfg=3.0, latent=small)) == [12, 16]
    again = run(host, dial(), cfg=3.0)
    assert torch.equal(samples(again), first)
    assert report(again)["model_calls_computed"] == 3
    assert torch.equal(samples(run(host)), stock)


def test_the_node_shows_the_stage_and_the_figures(host):
    run(host, dial(), steps=4)
    texts = [text for node_id, text in host.status if node_id == "p0"]
    assert any("stage 1, latent 18×18" in text for text in texts)
    assert "stage 2, latent 24×24" in texts[-1]
    assert "4 model calls" in texts[-1]


def test_the_last_of_two_dials_counts(host):
    alone = run(host, dial("flash"), steps=6)
    outputs = run(host, dial("3-stage"), dial("flash"), steps=6)
    assert torch.equal(samples(outputs), samples(alone))
    assert sizes(outputs) == sizes(alone) == [18, 24]
    assert report(outputs)["backends"] == report(alone)["backends"]


WITHOUT_STAGES = {
    "stranger": (12, "nobody knows what of the conditions of Stranger follows the size of its latent"),
    "wan_causal": (16, "CausalWanModel has no stages and no step reuse: it makes its frames in turn"),
}


@pytest.mark.parametrize("checkpoint", WITHOUT_STAGES)
@pytest.mark.parametrize("before", [(), (carved(),)], ids=["alone", "behind Jenga Attention"])
def test_a_preset_that_is_not_used_is_said(host, checkpoint, before):
    channels, reason = WITHOUT_STAGES[checkpoint]
    latent = node("JengaTestLatent", height=24, width=24, keep_first=False, channels=channels)
    settings = {"checkpoint": checkpoint, "latent": latent, "steps": 4}
    for preset in ("flash", "turbo"):  # of a node that was changed nothing is left
        outputs = run(host, *before, dial(preset, reuse_threshold=0.3), **settings)
        words = [note for note in report(outputs)["notes"] if "is not used" in note]
        assert words == [f"preset {preset} is not used: {reason}"]
        assert sum("reuse_threshold does nothing" in note for note in report(outputs)["notes"]) == 1
        assert sizes(outputs) == [24] and report(outputs)["model_calls_computed"] == 4
        node_id = f"p{len(before)}"
        assert any(one == node_id and words[0] in text for one, text in host.status)
    if before:
        assert not any("is not used" in note for note in report(run(host, *before, **settings))["notes"])


ONLY = "of preset balanced only the kept share and the anchors are used"
WHAT_IS_USED = {  # of a dial, by its own widgets and what is before it
    "balanced": ((), dial("balanced"), ONLY),
    "another quality": ((), dial("balanced", quality="high"), "quality high is used, preset balanced is not"),
    "behind Jenga Attention": ((carved(),), dial("balanced"), "preset balanced is not used"),
}


@pytest.mark.parametrize("case", WHAT_IS_USED)
def test_what_of_a_position_of_the_dial_is_used_without_stages_is_said(host, case):
    before, patch, words = WHAT_IS_USED[case]
    channels, reason = WITHOUT_STAGES["stranger"]
    latent = node("JengaTestLatent", height=24, width=24, keep_first=False, channels=channels)
    outputs = run(host, *before, patch, checkpoint="stranger", latent=latent, steps=8)
    assert f"{words}: {reason}" in report(outputs)["notes"]
    assert said(host, f"p{len(before)}", f"{words}: {reason}")
    assert ("anchor step" in report(outputs)["dense_by_choice"]) == (not before)


def test_what_of_a_position_is_used_under_the_sampler_node_is_said(host):
    for patches, words in (((dial("balanced"),), ONLY), ((dial("balanced"), carved()), "preset balanced is not used")):
        outputs = host.run(workflow(patches, steps=4, **staged()))
        assert f"another node runs the stages, not the Jenga node: {words}" in report(outputs)["notes"]
        assert ("anchor step" in report(outputs)["dense_by_choice"]) == (words is ONLY)


KEPT = "carved as the Jenga Attention node before this one says"
REPLACED = "carves in the place of the Jenga node before this one"


def said(host, node_id: str, words: str) -> bool:
    return any(name == node_id and words in text for name, text in host.status)


@pytest.mark.parametrize("order", ["before", "behind"])
def test_jenga_attention_beside_it_carves_and_the_stages_stay(host, order):
    patches = [dial("turbo"), carved(dense_blocks="1")]
    outputs = run(host, *(patches if order == "behind" else reversed(patches)), steps=6)
    assert sizes(outputs) == [18, 24]
    assert report(outputs)["dense_by_choice"] == {"dense_blocks": 6}
    assert (KEPT in report(outputs)["notes"]) == (order == "before")
    assert said(host, "p1", KEPT) == (order == "before")
    assert said(host, "p1", REPLACED) == (order == "behind")
    host.forget()  # one of the orders is the same prompt
    assert torch.equal(samples(outputs), samples(run(host, *patches, steps=6)))


def test_what_jenga_attention_overrules_is_said(host):
    outputs = run(host, carved(), dial(min_tokens=10**6, dense_blocks="0", quality="balanced"), steps=4)
    assert report(outputs)["dense_by_choice"] == {}
    words = "quality, dense_blocks, min_tokens of this node not used: Jenga Attention has its own"
    assert words in report(outputs)["notes"]
    assert said(host, "p1", words)


def test_the_last_dial_keeps_jenga_attention_and_replaces_the_dial(host):
    expected = run(host, carved(dense_blocks="1"), dial("flash"), steps=6)
    for patches in (
        (dial("3-stage"), carved(dense_blocks="1"), dial("flash")),
        (carved(dense_blocks="1"), dial("3-stage"), dial("flash")),
    ):
        outputs = run(host, *patches, steps=6)
        assert torch.equal(samples(outputs), samples(expected))
        assert sizes(outputs) == [18, 24]
        assert KEPT in report(outputs)["notes"]
    assert KEPT not in report(run(host, dial("3-stage"), dial("flash"), steps=6))["notes"]


@pytest.mark.parametrize("quality", ["balanced", "high", "near-lossless"])
def test_its_quality_is_that_of_jenga_attention(host, quality):
    """base: every step in one sampler call, long enough for anchors."""
    settings = {"steps": 13, "cfg": 3.0}
    outputs = run(host, dial("base", quality=quality, **NO_REUSE), **settings)
    expected = run(host, dial("base", **NO_REUSE), carved(quality=quality), **settings)
    assert report(outputs)["anchors"] > 0
    assert torch.equal(samples(outputs), samples(expected))
    assert report(run(host, dial("base", **NO_REUSE), **settings))["anchors"] == 0


def test_a_stage_too_short_for_anchors_keeps_the_share_of_its_preset(host):
    outputs = run(host, dial("few-step", quality="near-lossless"), steps=4)
    assert torch.equal(samples(outputs), samples(run(host, dial("few-step"), steps=4)))
    assert any("no anchors" in note for note in report(outputs)["notes"])


def test_a_threshold_that_does_nothing_is_said(host):
    words = "reuse_threshold does nothing with step_reuse from preset: it is for adaptive"
    outputs = run(host, dial(reuse_threshold=0.3))
    assert words in report(outputs)["notes"] and said(host, "p0", words)
    assert report(run(host, dial(reuse_threshold=0.3, step_reuse="adaptive")))["notes"] != [words]
    assert report(run(host, dial()))["notes"] == []


def test_the_sampler_node_owns_the_stages_and_that_is_said(host):
    alone = host.run(workflow([carved(density=0.2)], steps=4, **staged()))
    outputs = host.run(workflow([dial("3-stage")], steps=4, **staged()))
    assert sizes(outputs) == [12, 24]
    assert torch.equal(samples(outputs), samples(alone))
    words = "another node runs the stages, not the Jenga node: preset 3-stage is not used"
    assert any(words in note for note in report(outputs)["notes"])
    assert any(node_id == "p0" and words in text for node_id, text in host.status)


def test_step_reuse_is_a_switch_of_its_own(host):
    assert report(run(host, dial(), steps=20))["model_calls_reused"] > 5
    assert report(run(host, dial(**NO_REUSE), steps=20))["model_calls_reused"] == 0
    assert report(run(host, dial("few-step", step_reuse="static"), steps=20))["model_calls_reused"] > 5


@pytest.mark.parametrize("sampler_name", ["euler", "heun", "dpmpp_2m_sde"])
def test_adaptive_reuse_follows_its_threshold(host, sampler_name):
    def reused(threshold):
        patch = dial(step_reuse="adaptive", reuse_threshold=threshold)
        outputs = run(host, patch, steps=20, cfg=1.0, sampler_name=sampler_name)
        assert torch.isfinite(samples(outputs)).all()
        # The first prediction of each size is computed, and so is the last step.
        shares = report(outputs)["kept_share_map"][0]
        assert shares[0] is not None and shares[-1] is not None
        return report(outputs)["model_calls_reused"]

    computed = run(host, dial(**NO_REUSE), steps=20, cfg=1.0, sampler_name=sampler_name)
    patch = dial(step_reuse="adaptive", reuse_threshold=0.0)
    never = run(host, patch, steps=20, cfg=1.0, sampler_name=sampler_name)
    assert torch.equal(samples(never), samples(computed))
    assert report(never)["model_calls_reused"] == 0
    counts = [reused(threshold) for threshold in (0.1, 0.4, 1.0)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] <= report(computed)["model_calls_computed"] - 3


def test_easycache_beside_it_is_said_and_runs(host):
    cache = {"reuse_threshold": 1.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}
    for patches in ((dial(), ("EasyCache", cache)), (("EasyCache", cache), dial())):
        outputs = run(host, *patches, steps=12)
        assert torch.isfinite(samples(outputs)).all()
        assert sizes(outputs) == [18, 24]
        assert any("EasyCache is on this model" in note for note in report(outputs)["notes"])


@pytest.mark.parametrize("at", [1, 3, 4, 6])
def test_interrupt_in_every_stage_leaves_nothing_behind(host, at):
    expected = samples(run(host, dial("3-stage"), steps=6, cfg=3.0))
    with pytest.raises(PromptFailed, match="interrupted"):
        host.interrupt(stock_sampler(workflow([dial("3-stage")], steps=6, cfg=3.0)), at)
    assert torch.equal(samples(run(host, dial("3-stage"), steps=6, cfg=3.0)), expected)


def test_a_part_of_a_schedule_gives_its_prediction_at_full_size(host):
    """SamplerCustom's second output is what the callback saw last."""
    prompt = stock_sampler(workflow([dial()], steps=6), "SamplerCustom")
    prompt["split"] = node("SplitSigmas", sigmas=["sigmas", 0], step=2)
    prompt["sampler"]["inputs"]["sigmas"] = ["split", 0]
    prompt["clean"] = node("JengaTestCapture", latent=["sampler", 1])
    outputs = host.run(prompt)
    assert sizes(outputs) == [18]
    assert samples(outputs).shape == outputs["clean"]["samples"][0].shape == (1, 16, 3, 24, 24)
    assert samples(outputs).std() > outputs["clean"]["samples"][0].std()  # one carries noise, the other does not


def test_denoise_below_one_starts_where_its_sigma_is(host):
    latent = node("JengaTestLatent", height=24, width=24, keep_first=False)
    prompt = stock_sampler(workflow([dial()], steps=4, latent=latent))
    prompt["sampler"]["inputs"]["denoise"] = 0.3
    outputs = host.run(prompt)
    assert sizes(outputs) == [24]
    prompt["sampler"]["inputs"]["denoise"] = 0.8
    outputs = host.run(prompt)
    assert sizes(outputs) == [18, 24]
    assert torch.isfinite(samples(outputs)).all()


def test_a_model_that_must_stay_dense_passes_through_and_it_is_said(host):
    settings = {"checkpoint": "wan_causal"}
    stock = samples(run(host, **settings))
    outputs = run(host, dial(), **settings)
    assert torch.equal(samples(outputs), stock)
    assert steps(outputs) == [3]
    assert any(node_id == "p0" and "CausalWanModel runs dense" in text for node_id, text in host.status)
    with pytest.raises(PromptFailed, match="model must be one that can be carved"):
        run(host, dial(strict=True), **settings)
