"""Jenga Attention in real ComfyUI: equal to stock at full density, carved below it, gone when it is bypassed."""

import pytest
import torch
from comfy_host import PromptFailed

from workflows import GRID, carved, node, report, samples, workflow

OTHER = ("JengaTestOverride", {"tag": "other"})


@pytest.fixture
def stock(host):
    return samples(host.run(workflow()))


@pytest.mark.parametrize(
    ("checkpoint", "cfg"),
    [
        ("wan_t2v", 1.0),
        ("wan_t2v", 3.0),
        ("wan_i2v", 3.0),
        ("wan22_i2v", 1.0),
        ("wan22_5b", 1.0),
        ("wan_vace", 3.0),
        ("hunyuan_t2v", 1.0),
        ("hunyuan_t2v", 3.0),
    ],
)
def test_full_density_equals_stock(host, checkpoint, cfg):
    settings = {"checkpoint": checkpoint, "cfg": cfg, "steps": 2}
    stock = samples(host.run(workflow(**settings)))
    outputs = host.run(workflow([carved(density=1.0)], **settings))
    torch.testing.assert_close(samples(outputs), stock, rtol=0, atol=1e-4)
    assert report(outputs)["kept_share"] == 1.0
    assert "dense" not in report(outputs)["backends"]


def test_padded_text_is_masked_as_in_stock(host):
    settings = {"checkpoint": "hunyuan_t2v", "conditioning": {"masked_tokens": 5}, "steps": 2}
    stock = samples(host.run(workflow(**settings)))
    outputs = host.run(workflow([carved(density=1.0)], **settings))
    torch.testing.assert_close(samples(outputs), stock, rtol=0, atol=1e-4)
    assert "dense" not in report(outputs)["backends"]


@pytest.mark.parametrize("checkpoint", ["wan_t2v", "hunyuan_t2v"])
def test_carved_run_differs_and_says_what_it_kept(host, checkpoint):
    stock = samples(host.run(workflow(checkpoint=checkpoint)))
    outputs = host.run(workflow([carved()], checkpoint=checkpoint))
    result = samples(outputs)
    assert torch.isfinite(result).all()
    assert 1e-5 < (result - stock).abs().max() < stock.abs().max()
    figures = report(outputs)
    assert 0.3 <= figures["kept_share"] < 0.6
    assert [len(row) for row in figures["kept_share_map"]] == [3, 3]
    assert figures["model_calls_computed"] == 3
    assert any(node_id == "p0" and "attention calls carved" in text for node_id, text in host.status)


def test_batch_of_two_with_guidance(host):
    latent = node("EmptyHunyuanLatentVideo", **{**GRID, "batch_size": 2})
    stock = samples(host.run(workflow(cfg=3.0, latent=latent, steps=2)))
    full = samples(host.run(workflow([carved(density=1.0)], cfg=3.0, latent=latent, steps=2)))
    torch.testing.assert_close(full, stock, rtol=0, atol=1e-4)


def test_bypass_restores_stock_bitwise(host, stock):
    host.run(workflow([carved()]))
    assert torch.equal(samples(host.run(workflow([carved(enabled=False)]))), stock)
    host.run(workflow([carved()], seed=6))
    assert torch.equal(samples(host.run(workflow(seed=5))), stock)


def test_every_queue_is_like_the_first(host):
    """The patch node's output is cached between these runs; the run's state must not be."""
    first = samples(host.run(workflow([carved()])))
    small = node("EmptyHunyuanLatentVideo", **{**GRID, "width": 128})
    assert not torch.equal(samples(host.run(workflow([carved()], seed=6))), first)
    assert samples(host.run(workflow([carved()], latent=small))).shape[-1] == 16
    outputs = host.run(workflow([carved()]))
    assert torch.equal(samples(outputs), first)
    assert report(outputs)["model_calls_computed"] == 3


def test_other_overrides_are_chained_in_both_orders(host):
    alone = samples(host.run(workflow([carved()])))
    for patches in ([OTHER, carved()], [carved(), OTHER]):
        outputs = host.run(workflow(patches))
        assert torch.equal(samples(outputs), alone)
        assert outputs["capture"]["override_calls"][0]["other"] > 0


def test_the_last_of_several_jenga_nodes_counts(host):
    alone = samples(host.run(workflow([carved(density=0.5)])))
    for patches in ([carved(), carved(density=0.5)], [carved(), OTHER, carved(density=0.5)]):
        outputs = host.run(workflow(patches))
        assert torch.equal(samples(outputs), alone)
        assert report(outputs)["backends"].keys() & {"dense"} == set()
        assert sum(report(outputs)["backends"].values()) == 6  # 2 layers, 3 steps: carved once
        assert "carves in the place of the Jenga node before this one" in report(outputs)["notes"]


def test_a_model_that_must_stay_dense_does_and_says_why(host):
    stock = samples(host.run(workflow(checkpoint="wan_causal")))
    outputs = host.run(workflow([carved()], checkpoint="wan_causal"))
    assert torch.equal(samples(outputs), stock)
    reason = "CausalWanModel runs dense: it attends what it kept of earlier frames"
    assert any(node_id == "p0" and reason in text for node_id, text in host.status)
    assert any(reason in note for note in report(outputs)["notes"])
    with pytest.raises(PromptFailed, match="model must be one that can be carved"):
        host.run(workflow([carved(strict=True)], checkpoint="wan_causal"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"min_tokens": 1000}, "432 video tokens, min_tokens is 1000"),
        ({"dense_blocks": "0-1"}, "dense_blocks"),
        ({"end_percent": 0.0}, "outside start_percent .. end_percent"),
    ],
)
def test_what_the_settings_keep_dense_is_stock(host, stock, change, reason):
    outputs = host.run(workflow([carved(**change)]))
    assert torch.equal(samples(outputs), stock)
    assert list(report(outputs)["dense_by_choice"]) == [reason]


def test_window_and_dense_blocks_leave_the_rest_carved(host):
    outputs = host.run(workflow([carved(dense_blocks="1", start_percent=0.2)]))
    shares = report(outputs)["kept_share_map"]
    assert shares[1] == [1.0, 1.0, 1.0]
    assert shares[0][0] == 1.0
    assert max(shares[0][1:]) < 0.6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quality": "fast", "density": 0.5}, "density does nothing with quality fast: it is for custom"),
        ({"quality": "high", "anchor_distance": "4"}, "anchor_distance does nothing with quality high"),
        ({"quality": "fast", "residual_bits": "8"}, "residual_bits does nothing with quality fast"),
        ({"compensation": "none", "tail_block_size": "32"}, "tail_block_size does nothing with compensation none"),
        ({"tail_block_size": "128"}, "tail_block_size is at most kv_block_size: 64, not 128"),
        ({"residual_bits": "8"}, "residual_bits does nothing with anchor_distance off: it is for first step and 2"),
        ({"anchor_memory": 1.0}, "anchor_memory does nothing with anchor_distance off"),
        ({"dense_blocks": "1, 5"}, "dense_blocks names 5: the model has blocks 0 to 1"),
    ],
)
def test_what_does_nothing_is_said(host, change, words):
    outputs = host.run(workflow([carved(**{"density": 0.2, **change})]))
    assert any(words in note for note in report(outputs)["notes"])
    assert any(node_id == "p0" and words in text for node_id, text in host.status)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"quality": "fast"},
        {"anchor_distance": "4", "residual_bits": "8"},
        {"quality": "high", "residual_bits": "8"},
        {"kv_block_size": "128", "tail_block_size": "128"},
        {"dense_blocks": "0-1"},
    ],
)
def test_what_counts_is_not_remarked_on(host, change):
    outputs = host.run(workflow([carved(**{"density": 0.2, **change})]))
    words = ("does nothing", "at most", "dense_blocks names")
    assert not any(one in note for one in words for note in report(outputs)["notes"])


def test_wrong_dense_blocks_are_named(host):
    with pytest.raises(PromptFailed, match="dense_blocks must be like"):
        host.run(workflow([carved(dense_blocks="first")]))


def test_without_the_native_library_it_runs_and_says_why(host, monkeypatch):
    import jenga.carving.ops

    missing = jenga.carving.ops.NativeStatus(False, False, "libjenga_cpu.so was taken away by this test")
    monkeypatch.setattr(jenga.carving.ops, "native_status", lambda: missing)
    outputs = host.run(workflow([carved()]))
    assert torch.isfinite(samples(outputs)).all()
    assert report(outputs)["backends"] == {"reference": 6}
    assert any("taken away by this test" in reason for reason in report(outputs)["fallbacks"])
    with pytest.raises(PromptFailed, match="taken away by this test"):
        host.run(workflow([carved(strict=True)]))


def test_out_of_memory_falls_back_dense_and_is_over_in_the_next_queue(host, stock, monkeypatch):
    from jenga.carving.attention import CarvedAttention

    expected = samples(host.run(workflow([carved()])))

    def fail(self, *args, **kwargs):
        raise torch.OutOfMemoryError("made by this test")

    with monkeypatch.context() as patch:
        patch.setattr(CarvedAttention, "__call__", fail)
        host.forget()
        outputs = host.run(workflow([carved()]))
    assert torch.equal(samples(outputs), stock)
    assert report(outputs)["fallbacks"] == {"dense attention: out of memory": 6}
    host.forget()
    assert torch.equal(samples(host.run(workflow([carved()]))), expected)


def test_interrupted_run_leaves_nothing_behind(host):
    expected = samples(host.run(workflow([carved()])))
    with pytest.raises(PromptFailed, match="interrupted"):
        host.interrupt(workflow([carved()]), at=1)
    assert torch.equal(samples(host.run(workflow([carved()]))), expected)


def test_precision_is_the_last_widget_and_auto_is_what_was(host):
    stock, named, wide = (
        samples(host.run(workflow([carved(**options)])))
        for options in ({}, {"precision": "auto"}, {"precision": "16-bit"})
    )
    assert torch.equal(stock, named) and torch.equal(stock, wide)


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_precision_in_the_reference_is_named_by_the_report(host, precision):
    outputs = host.run(workflow([carved(precision=precision, backend="reference")]))
    assert set(report(outputs)["backends"]) == {f"reference in {precision}"}
    assert torch.isfinite(samples(outputs)).all()


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_a_precision_that_this_machine_has_not_ends_the_run_with_the_remedy(host, precision):
    with pytest.raises(PromptFailed, match="take precision auto or 16-bit, or backend reference"):
        host.run(workflow([carved(precision=precision)]))
