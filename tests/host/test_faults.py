"""What may go wrong around the Jenga node: nothing crashes, nothing is silent, and the next queue is right.

Faults of one node alone are with that node: test_attention_node.py, test_sampler_node.py, test_jenga_node.py.
"""

import gc

import pytest
import torch
from comfy_host import PromptFailed

from workflows import COMPILE, GRID, carved, dial, node, report, samples, sizes, staged, stock_sampler, workflow

OTHER = ("JengaTestOverride", {"tag": "other"})


def run(host, *patches, **settings):
    return host.run(stock_sampler(workflow(patches, **settings)))


def test_an_image_model_of_a_known_class_passes_through(host):
    """HunyuanImage is the class HunyuanVideo without time."""
    latent = node("EmptyHunyuanImageLatent", width=768, height=768, batch_size=1)
    settings = {"checkpoint": "hunyuan_image", "latent": latent}
    stock = samples(run(host, **settings))
    for patch in (dial(), carved()):
        outputs = run(host, patch, **settings)
        assert torch.equal(samples(outputs), stock)
        assert any(node_id == "p0" and "HunyuanVideo runs dense" in text for node_id, text in host.status)


def test_a_latent_smaller_than_a_small_patch_runs_at_full_size(host):
    latent = node("JengaTestLatent", height=2, width=24, keep_first=False)
    outputs = run(host, dial(), latent=latent)
    assert sizes(outputs) == [24]
    assert samples(outputs).shape == (1, 16, 3, 2, 24)
    assert any("all steps at full size" in note and "at least one patch" in note for note in report(outputs)["notes"])
    assert any(node_id == "p0" and "at least one patch" in text for node_id, text in host.status)


def test_other_overrides_are_chained_in_both_orders(host):
    alone = samples(run(host, dial(), cfg=3.0))
    for patches in ((OTHER, dial()), (dial(), OTHER)):
        outputs = run(host, *patches, cfg=3.0)
        assert torch.equal(samples(outputs), alone)
        assert outputs["capture"]["override_calls"][0]["other"] > 0


@pytest.mark.parametrize(
    "patches", [(dial("3-stage"),), (dial("3-stage"), dial("3-stage")), (carved(), dial("3-stage"))]
)
def test_third_queue_and_changed_sizes_between_queues(host, patches):
    settings = {"steps": 6, "cfg": 3.0}
    large = node("EmptyHunyuanLatentVideo", **{**GRID, "width": 256, "length": 5})
    first = samples(run(host, *patches, **settings))
    other = samples(run(host, *patches, latent=large, **settings))
    assert other.shape == (1, 16, 2, 24, 32)
    assert torch.equal(samples(run(host, *patches, **settings)), first)
    assert torch.equal(samples(run(host, *patches, latent=large, **settings)), other)
    host.forget()
    assert torch.equal(samples(run(host, *patches, **settings)), first)


def test_batch_of_two_with_guidance_a_mask_and_stages(host):
    def latent(batch):
        return node("JengaTestLatent", height=24, width=24, keep_first=True, batch=batch)

    outputs = run(host, dial("3-stage"), steps=6, cfg=3.0, latent=latent(2))
    single = run(host, dial("3-stage"), steps=6, cfg=3.0, latent=latent(1))
    assert samples(outputs).shape == (2, 16, 3, 24, 24)
    assert sizes(outputs) == [12, 18, 24]
    # The first clip of a batch has the noise of a single one.
    torch.testing.assert_close(samples(outputs)[:1], samples(single), rtol=0, atol=1e-3)


@pytest.mark.parametrize("failing", [range(2), range(4, 6), range(100)])
def test_out_of_memory_in_a_stage_is_dense_there_and_over_in_the_next_queue(host, monkeypatch, failing):
    import jenga.carving.ops

    patches = (dial("turbo"),)
    stock = samples(run(host, dial("turbo", min_tokens=10**6), steps=4))
    expected = samples(run(host, *patches, steps=4))
    attention, calls = jenga.carving.ops.block_sparse_attention, []

    def fail(*args, **kwargs):
        calls.append(None)
        if len(calls) - 1 in failing:
            raise torch.OutOfMemoryError("made by this test")
        return attention(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(jenga.carving.ops, "block_sparse_attention", fail)
        host.forget()
        outputs = run(host, *patches, steps=4)
    count = len(set(failing) & set(range(8)))  # 2 layers, 4 steps
    assert report(outputs)["fallbacks"] == {"dense attention: out of memory": count}
    assert report(outputs)["backends"].get("dense") == count
    assert any(node_id == "p0" and "out of memory" in text for node_id, text in host.status)
    assert torch.equal(samples(outputs), stock) == (count == 8)
    assert not torch.equal(samples(outputs), expected)
    host.forget()
    assert torch.equal(samples(run(host, *patches, steps=4)), expected)


def kept_objects() -> list[str]:
    """State of a run that is still alive."""
    from jenga.carving.attention import CarvedAttention
    from jenga.runtime.run import Run, StageState
    from jenga.sampling.reuse import StepReuse

    gc.collect()
    kinds = (CarvedAttention, Run, StageState, StepReuse)
    return [type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, kinds)]


@pytest.mark.parametrize("interrupt_at", [None, 2, 9])
@pytest.mark.parametrize("node_of_ours", ["dial", "sampler"])
def test_nothing_of_a_run_is_kept_after_it(host, interrupt_at, node_of_ours):
    prompt = workflow([carved()], steps=12, cfg=3.0, **staged(preset="turbo", step_reuse="static"))
    if node_of_ours == "dial":
        prompt = stock_sampler(workflow([dial()], steps=12, cfg=3.0))
    if interrupt_at is None:
        host.run(prompt)
    else:
        with pytest.raises(PromptFailed, match="interrupted"):
            host.interrupt(prompt, interrupt_at)
    assert kept_objects() == []


@pytest.mark.parametrize("order", [(dial(), COMPILE), (COMPILE, dial())])
def test_a_compiled_model_freezes_no_state(host, order):
    """Kept share, layer and size change from stage to stage and from queue to queue."""
    settings = {"steps": 4, "cfg": 1.0}
    for seed in (5, 6):
        plain = run(host, dial(), seed=seed, **settings)
        compiled = run(host, *order, seed=seed, **settings)
        torch.testing.assert_close(samples(compiled), samples(plain), rtol=0, atol=1e-3)
        assert report(compiled)["kept_share_map"] == report(plain)["kept_share_map"]
        assert report(compiled)["backends"] == report(plain)["backends"]
    changed = (dial("flash"), COMPILE) if order[0] == dial() else (COMPILE, dial("flash"))
    plain, compiled = run(host, dial("flash"), **settings), run(host, *changed, **settings)
    torch.testing.assert_close(samples(compiled), samples(plain), rtol=0, atol=1e-3)


@pytest.mark.parametrize("patch", [dial(), carved()])
def test_compiled_runs_with_and_without_jenga_share_no_code(host, patch):
    """One way the carving would be lost in silence, the other way a bypassed node would leave its code behind."""
    settings = {"steps": 4, "cfg": 1.0}
    stock, plain = samples(run(host, **settings)), run(host, patch, **settings)
    torch.compiler.reset()
    for _ in range(2):
        torch.testing.assert_close(samples(run(host, COMPILE, **settings)), stock, rtol=0, atol=1e-3)
        compiled = run(host, patch, COMPILE, **settings)
        torch.testing.assert_close(samples(compiled), samples(plain), rtol=0, atol=1e-3)
        assert report(compiled)["backends"] == report(plain)["backends"]
