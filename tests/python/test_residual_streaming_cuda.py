"""States of anchors in host memory on a GPU: many layers without a pause between them, so that a copy that came too
early or too late would show; what they cost in memory and in waiting.
"""

import pytest
import torch
from anchored_layers import PLENTY, Run, draw

from jenga import AnchorConfig, JengaConfig, TokenGrid
from jenga.carving.residuals import num_bytes
from jenga.report.streamed import Streamed
from jenga.runtime import host_arena, host_tier
from jenga.runtime.copy_streams import CopyStreams
from jenga.runtime.host_arena import HostArena
from jenga.runtime.residual_store import Budget

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

HOST = Budget(0, 1 << 30)
GRID, LAYERS = TokenGrid(8, 32, 32), 10
LARGE = TokenGrid(16, 32, 64)


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture(autouse=True)
def little_ahead(monkeypatch):
    """The fewest buffers: each is soon used again."""
    monkeypatch.setattr(host_tier, "AHEAD_BYTES", 0)


def given(device, grid=GRID, batch=1, heads=2, seed=0) -> list[torch.Tensor]:
    drawn = draw(batch, heads, 128, torch.bfloat16, seed, grid.num_tokens)
    return [x.to(device) for x in drawn]


def outputs(run: Run, inputs: list, calls=(("cond",),), layers: int = LAYERS) -> torch.Tensor:
    """Of all layers, steps and calls. Nothing waits for the GPU before all is started; the memory of an output is free
    at once.
    """
    found = []
    for qkv in inputs:
        for number, keys in enumerate(calls):
            results = run.step([x.roll(number, 2) for x in qkv], layers, keys, again=number > 0)
            found += [result.out.float().mean((0, 3)) for result in results]
    return torch.stack(found)


@pytest.mark.parametrize("backend", ["native", "flex"])
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_host_memory_changes_nothing(device, backend, bits):
    """Some layers on the device, the others in host memory, against all on the device: the same bits."""
    inputs = [given(device, seed=seed) for seed in range(7)]
    expected = outputs(Run(AnchorConfig(3, bits), PLENTY, backend, device=device, grid=GRID), inputs)
    tokens = GRID.num_tokens
    blocks = JengaConfig().num_kv_blocks(tokens)  # and as many tail cells
    size = num_bytes(tokens, 2, 128, tokens // 128, blocks, blocks, bits)
    budget = Budget(3 * size, (LAYERS - 3) * size)
    run = Run(AnchorConfig(3, bits), budget, backend, device=device, grid=GRID)
    assert torch.equal(outputs(run, inputs), expected)
    assert run.anchored._store.used() == budget


@pytest.mark.parametrize("slow", ["bring", "send", "compute", "nothing"])
@pytest.mark.parametrize("calls", [(("cond",), ("uncond",)), (("cond", "uncond"),)], ids=["two calls", "one batch"])
def test_whoever_is_slow_the_bits_are_the_same(device, monkeypatch, slow, calls):
    """A copy that takes ten times as long as a layer, or a layer that takes ten times as long as its copy."""
    inputs = [given(device, batch=len(calls[0]), seed=seed) for seed in range(8)]
    expected = outputs(Run(AnchorConfig(3), PLENTY, "native", device=device, grid=GRID), inputs, calls)
    sleep = torch.cuda._sleep
    for name, attribute in (("bring", "_coming"), ("send", "_leaving")):
        if slow == name:
            inner = getattr(CopyStreams, name)

            def slowly(self, pairs, after, inner=inner, attribute=attribute):
                with torch.cuda.stream(getattr(self, attribute)):
                    sleep(5_000_000)
                return inner(self, pairs, after)

            monkeypatch.setattr(CopyStreams, name, slowly)
    run = Run(AnchorConfig(3), HOST, "native", device=device, grid=GRID)
    if slow == "compute":
        release = run.anchored.release

        def released(plan):
            sleep(5_000_000)
            release(plan)

        monkeypatch.setattr(run.anchored, "release", released)
    assert torch.equal(outputs(run, inputs, calls), expected)


def test_the_host_waits_for_no_copy(device):
    run, inputs = Run(AnchorConfig(3), HOST, "native", device=device, grid=GRID), []
    for seed in range(6):
        inputs.append(given(device, seed=seed))
    run.step(inputs[0], LAYERS)  # page-locks memory
    torch.cuda.set_sync_debug_mode("error")
    try:
        for qkv in inputs[1:]:
            run.step(qkv, LAYERS)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert run.anchored.traffic.to_device and run.anchored.traffic.waited() >= 0


def test_device_memory_is_that_of_a_few_states_however_many_layers(device):
    peaks = []
    for layers in (6, 36):
        run, qkv = Run(AnchorConfig(0), HOST, "native", device=device, grid=GRID), given(device)
        run.step(qkv, layers)
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        for _ in range(3):
            run.step(qkv, layers)
        peaks.append(torch.cuda.max_memory_allocated(device) - before)
        store = run.anchored._store
        assert store.used().device == 0 and len(store._host._ring._free) + len(store._host._ahead) <= 4
        run.anchored.close()
    outs = 30 * qkv[0].nbytes  # the outputs of the further layers, which `step` returns
    assert peaks[1] - peaks[0] - outs < 12 << 20  # of 33 for their states


def test_what_waits_is_little_where_compute_takes_longer(device):
    """And it is measured: what was not expected is waited for."""
    run, qkv = Run(AnchorConfig(0), HOST, "native", device=device, grid=LARGE), given(device, LARGE, heads=8)
    run.step(qkv, 6)
    run.step(qkv, 6)
    torch.cuda.synchronize(device)
    before, traffic = run.anchored.traffic.waited(), run.anchored.traffic
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(4):
        run.step(qkv, 6)
    stop.record()
    stop.synchronize()
    waited, seconds = traffic.waited() - before, start.elapsed_time(stop) / 1000
    assert before > 0 and waited < 0.2 * seconds
    run.anchored.close()
    streamed = Streamed.of(str(device), [traffic])
    assert streamed.waited_seconds == traffic.waited() and streamed.to_device_bytes >= 30 * streamed.to_host_bytes // 6


def test_memory_that_cannot_be_page_locked_gives_the_same_bits_and_is_said(device, monkeypatch):
    monkeypatch.setattr(host_arena, "page_lock", lambda memory: False)
    inputs = [given(device, seed=seed) for seed in range(5)]
    expected = outputs(Run(AnchorConfig(3), PLENTY, "native", device=device, grid=GRID), inputs)
    run = Run(AnchorConfig(3), HOST, "native", device=device, grid=GRID)
    assert torch.equal(outputs(run, inputs), expected)
    assert "the system page-locks no more" in run.anchored.describe()


def test_a_full_device_gives_its_states_back_in_the_middle_of_a_run(device):
    inputs = [given(device, seed=seed) for seed in range(8)]
    expected = outputs(Run(AnchorConfig(4), PLENTY, "native", device=device, grid=GRID), inputs)
    run = Run(AnchorConfig(4), Budget(1 << 30, 1 << 30), "native", device=device, grid=GRID)
    found = [outputs(run, inputs[:3])]
    held, before = run.anchored._store.used().device, torch.cuda.memory_allocated(device)
    assert run.anchored.leave_device()
    assert held and torch.cuda.memory_allocated(device) <= before - held
    found.append(outputs(run, inputs[3:]))
    assert torch.equal(torch.cat(found), expected)


def test_host_memory_is_page_locked_and_given_back(device):
    arena = HostArena.for_device(device, 1 << 20)
    place = arena.take(1, 4096)[0]
    assert place.is_pinned() and arena.unlocked == 0
    arena.close()
    assert not place.is_pinned()
