"""A server that runs all day: what a run kept is gone when the next one has ended.

Packs like ours are reported to fill the memory after 40 or 50 clips (callbacks and caches that hold on to a run).
"""

import gc

import pytest
import torch
from comfy_host import PromptFailed

from workflows import carved, dial, samples, staged, stock_sampler, workflow

GRAPHS = {
    "stages and reuse": lambda seed: stock_sampler(workflow([dial("3-stage")], steps=6, cfg=3.0, seed=seed)),
    "anchors": lambda seed: stock_sampler(workflow([dial("balanced")], steps=12, seed=seed)),
    "two nodes": lambda seed: workflow([carved(quality="high")], steps=6, seed=seed, **staged(preset="turbo")),
}


def live_bytes() -> tuple[int, int]:
    """How many tensors there are in the process, and their bytes."""
    gc.collect()
    tensors = [x for x in gc.get_objects() if type(x) in (torch.Tensor, torch.nn.Parameter)]
    return len(tensors), sum(x.untyped_storage().nbytes() for x in tensors)


@pytest.mark.parametrize("name", GRAPHS)
def test_clip_after_clip_keeps_no_more_than_the_first(host, name):
    graph = GRAPHS[name]
    for seed in (1, 2):
        assert torch.isfinite(samples(host.run(graph(seed)))).all()
    before = live_bytes()
    for seed in range(3, 9):
        host.run(graph(seed))
    assert live_bytes() == before


def test_runs_that_were_stopped_keep_nothing(host):
    graph = GRAPHS["anchors"]
    for seed in (1, 2):
        host.run(graph(seed))
    before = live_bytes()
    for seed in range(3, 7):
        with pytest.raises(PromptFailed, match="interrupted"):
            host.interrupt(graph(seed), at=4)
    host.run(graph(2))
    assert live_bytes() == before
