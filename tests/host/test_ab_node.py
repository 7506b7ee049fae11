"""Jenga A/B in real ComfyUI: its two latents are those of the stock sampler, its figures are right."""

import json
import statistics

import pytest
import torch
from comfy_host import PromptFailed
from skimage.metrics import peak_signal_noise_ratio
from test_faults import kept_objects

from workflows import COMPILE, carved, dial, node, report, samples, staged, stock_sampler, workflow

OTHER = ("JengaTestOverride", {"tag": "other"})


def ab_prompt(*patches, repeats=1, noise_floor=False, **settings) -> dict:
    """The stock sampler's prompt with Jenga A/B in its place; both latents are captured."""
    prompt = stock_sampler(workflow(patches, **settings))
    del prompt["report"]
    prompt["sampler"] = node("JengaAB", **prompt["sampler"]["inputs"], repeats=repeats, noise_floor=noise_floor)
    prompt["jenga"] = node("JengaTestCapture", latent=["sampler", 1])
    prompt["text"] = node("PreviewAny", source=["sampler", 2])
    return prompt


def ab(host, *patches, **settings) -> dict:
    return host.run(ab_prompt(*patches, **settings))


def stock(host, *patches, **settings):
    return samples(host.run(stock_sampler(workflow(patches, **settings))))


def dense_and_jenga(outputs) -> tuple[torch.Tensor, torch.Tensor]:
    return samples(outputs), outputs["jenga"]["samples"][0]


def figures(outputs) -> dict:
    return outputs["sampler"]["jenga_ab"][0]


@pytest.mark.parametrize("sampler_name", ["euler", "euler_ancestral", "dpmpp_2m_sde"])
@pytest.mark.parametrize("patch", [carved(), dial("3-stage")])
def test_both_latents_are_the_stock_samplers(host, patch, sampler_name):
    settings = {"steps": 4, "cfg": 3.0, "sampler_name": sampler_name}
    dense, jenga = dense_and_jenga(ab(host, patch, repeats=2, **settings))
    assert torch.equal(dense, stock(host, **settings))
    assert torch.equal(jenga, stock(host, patch, **settings))
    assert not torch.equal(dense, jenga)


def test_inputs_of_the_stock_sampler_count(host):
    latent = node("JengaTestLatent", height=24, width=24, keep_first=True, batch=2)

    def prompt(make, *patches):
        made = make(*patches, latent=latent, steps=4, seed=8)
        made["sampler"]["inputs"] |= {"denoise": 0.6, "scheduler": "normal"}
        return made

    dense, jenga = dense_and_jenga(host.run(prompt(ab_prompt, carved())))
    assert torch.equal(dense, samples(host.run(prompt(lambda *p, **s: stock_sampler(workflow(p, **s))))))
    assert torch.equal(jenga, samples(host.run(prompt(lambda *p, **s: stock_sampler(workflow(p, **s)), carved()))))


def test_the_figures(host):
    outputs = ab(host, dial("3-stage"), steps=4, repeats=3, noise_floor=True)
    found, (dense, jenga) = figures(outputs), dense_and_jenga(outputs)
    json.dumps(found, allow_nan=False)
    assert found["order"] == ["dense", "jenga", "jenga", "dense", "dense", "jenga"]
    medians = {name: statistics.median(seconds) for name, seconds in found["seconds"].items()}
    assert {name: len(seconds) for name, seconds in found["seconds"].items()} == {"dense": 3, "jenga": 3}
    assert min(medians.values()) > 0
    assert found["median_seconds"] == medians
    assert found["speed_up"] == medians["dense"] / medians["jenga"]
    assert found["relative_l2"] == pytest.approx(float((jenga - dense).norm() / dense.norm()), rel=1e-4)
    spread = float(dense.max() - dense.min())
    psnr = peak_signal_noise_ratio(dense.numpy(), jenga.numpy(), data_range=spread)
    assert found["psnr"] == pytest.approx(psnr, abs=1e-2)
    run = found["jenga"]
    assert [stage["latent_shape"][-1] for stage in run["stages"]] == [12, 18, 24]
    assert run["seconds"] <= found["seconds"]["jenga"][-1]
    text = outputs["sampler"]["text"][0]
    assert text == outputs["text"]["text"][0]
    for words in (
        f"| {found['speed_up']:.2f}× | {found['relative_l2']:.3g} | {found['psnr']:.1f} |",
        "| kept share of video keys |",
        "| stage | scale |",
        *run["backends"],
    ):
        assert words in text
    assert any(node_id == "sampler" and f"{found['speed_up']:.2f}×" in words for node_id, words in host.status)


def test_the_runs_alternate_after_a_warm_up_under_one_progress_bar(host):
    prompt = ab_prompt(carved(), steps=4, repeats=2)
    prompt["watch"] = node("JengaTestWatch", model=["p0", 0])
    prompt["sampler"]["inputs"]["model"] = ["watch", 0]
    outputs = host.run(prompt)
    # dense warm-up, dense, jenga warm-up, jenga, jenga, dense warm-up, dense
    calls = [len(capture["seen"]) for capture in (outputs["capture"], outputs["jenga"])]
    assert sum(calls) == 1 + 4 + 3 + 4 + 4 + 1 + 4
    names = [text.split(": ")[1] for node_id, text in host.status if node_id == "sampler" and text.startswith("run ")]
    assert names == ["dense, warm-up", "dense", "jenga, warm-up", "jenga", "jenga", "dense, warm-up", "dense"]
    carving = [node_id == "p0" for node_id, text in host.status if node_id == "p0" or text.startswith("run ")]
    changes = [now for before, now in zip([None, *carving], carving, strict=False) if now != before]
    assert changes == [False, True] * 3 + [False]  # the carving node spoke in the three runs of Jenga alone
    values = [value for value, _ in host.progress]
    assert values == sorted(values)
    assert {total for _, total in host.progress} == {21}
    assert values[-1] == 21


def test_noise_floor_is_dense_by_another_attention_function(host):
    without = ab(host, carved())
    assert figures(without)["noise_floor"] is None
    assert "| noise floor | dense, attention_sub_quad | – | – | not asked for |" in without["sampler"]["text"][0]
    outputs = ab(host, carved(), noise_floor=True)
    floor = figures(outputs)["noise_floor"]
    assert figures(outputs)["attention"] == "attention_pytorch"  # the host was started with it
    assert floor["attention"] == "attention_sub_quad"
    assert 0 < floor["relative_l2"] < 1e-3 < figures(outputs)["relative_l2"]
    assert floor["psnr"] > figures(outputs)["psnr"]
    assert torch.equal(samples(outputs), samples(without))


def test_no_memory_for_the_noise_floor_is_said_and_the_rest_counts(host, monkeypatch):
    from comfy.ldm.modules import attention

    def attention_sub_quad(*args, **kwargs):
        raise torch.OutOfMemoryError("made by this test")

    monkeypatch.setattr(attention, "attention_sub_quad", attention_sub_quad)
    outputs = ab(host, carved(), noise_floor=True)
    assert figures(outputs)["noise_floor"] is None
    assert figures(outputs)["speed_up"] > 0
    assert "out of memory" in outputs["sampler"]["text"][0]


def test_equal_latents_have_no_distance(host):
    outputs = ab(host, carved(min_tokens=10**6))
    assert (figures(outputs)["relative_l2"], figures(outputs)["psnr"]) == (0, None)
    assert "min_tokens is 1000000" in outputs["sampler"]["text"][0]


@pytest.mark.parametrize("patches", [(), (carved(enabled=False),), (dial("off"),), (OTHER,)])
def test_a_model_without_a_patch_is_refused(host, patches):
    with pytest.raises(PromptFailed, match="must carry a Jenga patch.*put Jenga or Jenga Attention before"):
        ab(host, *patches)


@pytest.mark.parametrize("patches", [(carved(), dial()), (dial(), carved()), (dial(), dial("flash"))])
def test_every_jenga_patch_is_off_in_the_dense_run(host, patches):
    outputs = ab(host, *patches, steps=4)
    dense, jenga = dense_and_jenga(outputs)
    assert torch.equal(dense, stock(host, steps=4))
    assert torch.equal(jenga, stock(host, *patches, steps=4))


@pytest.mark.parametrize("patches", [(OTHER, carved()), (carved(), OTHER), (OTHER, carved(), dial())])
def test_another_nodes_override_stays_in_both(host, patches):
    outputs = ab(host, *patches)
    dense, jenga = dense_and_jenga(outputs)
    assert torch.equal(dense, stock(host))
    assert torch.equal(jenga, stock(host, carved() if len(patches) == 2 else dial()))
    assert figures(outputs)["attention"] == "attention_pytorch under another node's override"
    calls = outputs["capture"]["override_calls"][0]["other"]
    assert calls >= 4 * 2 * 2  # warm-up and 3 steps of the dense run: 2 layers, self and cross attention


def test_a_model_that_is_not_carved_says_so(host):
    outputs = ab(host, dial(), checkpoint="wan_causal")
    assert figures(outputs)["relative_l2"] == 0
    assert "CausalWanModel runs dense" in outputs["sampler"]["text"][0]


@pytest.mark.parametrize("order", [(dial(), COMPILE), (COMPILE, dial())])
def test_a_compiled_model_is_compiled_for_each(host, order):
    outputs = ab(host, *order, steps=4, repeats=2)
    dense, jenga = dense_and_jenga(outputs)
    torch.testing.assert_close(dense, stock(host, steps=4), rtol=0, atol=1e-3)
    torch.testing.assert_close(jenga, stock(host, dial(), steps=4), rtol=0, atol=1e-3)
    assert figures(outputs)["jenga"]["backends"].keys() - {"dense"}


@pytest.mark.parametrize("at", [1, 3, 6, 10, 13])
def test_interrupt_in_every_run_leaves_nothing_behind(host, at):
    settings = {"steps": 4, "noise_floor": True}  # 1, 4, 3, 4, 4 steps of progress
    expected = dense_and_jenga(ab(host, dial("3-stage"), **settings))
    with pytest.raises(PromptFailed, match="interrupted"):
        host.interrupt(ab_prompt(dial("3-stage"), **settings), at)
    assert kept_objects() == []
    again = dense_and_jenga(ab(host, dial("3-stage"), **settings))
    assert all(map(torch.equal, again, expected))
    assert torch.equal(expected[0], stock(host, steps=4))


def test_the_report_node_behind_it_has_the_last_jenga_run(host):
    prompt = ab_prompt(carved(), steps=4, noise_floor=True)
    prompt["report"] = node("JengaReport", model=["p0", 0], latent=["sampler", 1])
    outputs = host.run(prompt)
    assert report(outputs) == figures(outputs)["jenga"]
    assert len(report(outputs)["seconds_per_step"]) == 4


def test_a_run_before_and_after_is_not_touched(host):
    settings = {"steps": 4, **staged()}
    before = samples(host.run(workflow([carved()], **settings)))
    ab(host, carved(), steps=4)
    ab(host, carved(), steps=4, seed=9)
    host.forget()
    assert torch.equal(samples(host.run(workflow([carved()], **settings))), before)
