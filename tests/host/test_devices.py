"""Heads over several devices in real ComfyUI: here each of them is the CPU under a name of its own."""

import pytest
import torch
from comfy_host import PromptFailed, pack_module

from workflows import carved, node, report, samples, workflow

LONG = {"steps": 5, "cfg": 3.0}
DEVICES = "cpu, cpu:1, cpu:2"


def patched(**changes) -> tuple[str, dict]:
    options = {"quality": "custom", "anchor_distance": "3", "residual_bits": "4", "anchor_memory": 0.0}
    return carved(**{"density": 0.15, **options, **changes})


LTX = node("EmptyLTXVLatentVideo", width=384, height=384, length=17, batch_size=1)
CASES = {
    "wan": {"cfg": 3.0},
    "hunyuan": {"checkpoint": "hunyuan_t2v", "conditioning": {"masked_tokens": 5}},
    "ltx": {"checkpoint": "ltxv", "conditioning": {"masked_tokens": 5}, "latent": LTX, "cfg": 3.0},
}


@pytest.mark.parametrize("changes", [{}, {"dense_blocks": "1"}, {"start_percent": 0.4}], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_several_devices_give_what_one_gives(host, case, changes):
    one, several = (
        host.run(workflow([patched(**changes, devices=devices)], steps=5, **CASES[case])) for devices in ("", DEVICES)
    )
    assert torch.equal(samples(several), samples(one))
    found, expected = report(several), report(one)
    assert "heads over cpu, cpu:1, cpu:2" in found["notes"]
    for name in ("backends", "fallbacks", "dense_by_choice", "anchors"):
        assert found[name] == expected[name], name
    assert found["kept_share"] == pytest.approx(expected["kept_share"], rel=1e-5)


def test_conditionings_in_threads_over_several_devices(host):
    """As ComfyUI's own split computes them: a thread for each, at once, and every one shares its heads."""
    one = samples(host.run(workflow([carved(density=0.3)], **LONG)))
    several = host.run(workflow([carved(density=0.3, devices=DEVICES), ("JengaTestThreads", {})], **LONG))
    torch.testing.assert_close(samples(several), one, rtol=0, atol=1e-4)
    assert report(several)["fallbacks"] == {}


def test_an_override_before_keeps_what_stays_dense(host):
    """Anchors take ComfyUI's own attention of each device's heads; dense blocks go to the other node's override."""
    other = ("JengaTestOverride", {"tag": "other"})
    one, several = (
        host.run(workflow([other, patched(dense_blocks="1", devices=devices)], **LONG)) for devices in ("", DEVICES)
    )
    torch.testing.assert_close(samples(several), samples(one), rtol=0, atol=1e-4)
    assert report(several)["dense_by_choice"] == report(one)["dense_by_choice"]


def test_devices_that_are_not_there(host):
    outputs = host.run(workflow([patched(devices="auto")], **LONG))
    words = "all heads on cpu in calls of fewer than 16,384 tokens: copies would cost more than they save"
    assert words in report(outputs)["notes"]
    assert any(words in text for node_id, text in host.status if node_id == "p0")
    outputs = host.run(workflow([patched(devices="0, 1")], **LONG))
    assert list(report(outputs)["fallbacks"]) == ["all heads on cpu: cuda:0 is not among cpu"]
    with pytest.raises(PromptFailed, match="strict must not meet a fallback, got all heads on cpu: cuda:0 is not"):
        host.run(workflow([patched(devices="0, 1", strict=True)], **LONG))
    with pytest.raises(PromptFailed, match="devices must be 'auto' or a list like '0, 1', got 'all'"):
        host.run(workflow([patched(devices="all")], **LONG))


def test_gpus_of_other_conditionings_are_left_to_them(host):
    """What ComfyUI's own split writes into the options of every model call."""
    occupied = pack_module("nodes.host.private_options").occupied_devices
    assert occupied({}) == ""
    assert occupied({"multigpu_thread_device": "cuda:1"}) == "the GPUs compute other conditionings meanwhile"


@pytest.mark.parametrize("skip_reshape", [False, True])
def test_the_host_s_function_gets_some_heads_of_a_grouped_call(host, skip_reshape):
    """Keys and values of 2 heads for 6 of queries: repeated for all, then cut."""
    from comfy.ldm.modules.attention import attention_pytorch

    q, k, v = torch.randn(1, 6, 40, 16), *torch.randn(2, 1, 2, 40, 16)
    mask = torch.ones(1, 40, dtype=torch.bool)
    mask[:, 30:] = False
    given = {"heads": 6, "mask": mask[:, None], "skip_reshape": True, "enable_gqa": True}
    tensors = (q, k, v)
    if not skip_reshape:
        given.pop("skip_reshape")
        tensors = tuple(x.transpose(1, 2).flatten(2) for x in (q, k, v))
    call = pack_module("nodes.host.override").AttentionCall.read(*tensors, (), given)
    assert call.k.shape == q.shape
    whole = attention_pytorch(q, call.k, call.v, 6, mask=mask[:, None], skip_reshape=True, skip_output_reshape=True)
    for start, stop in ((0, 3), (3, 4), (4, 6)):
        part = (x[:, start:stop] for x in (call.q, call.k, call.v))
        out = attention_pytorch(*part, **call.arguments_of_heads(stop - start, call.mask))
        assert torch.equal(out, whole[:, start:stop])
