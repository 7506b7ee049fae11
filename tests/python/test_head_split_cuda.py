"""The heads of a call over two GPUs of this process: many layers without a pause between them, so that a copy that came
too early or too late would show.
"""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from jenga import AnchorConfig, JengaConfig, TokenGrid
from jenga.report.report import Report
from jenga.runtime.call import Block, ModelCall
from jenga.runtime.carved_call import CarvedCall
from jenga.runtime.layout import TokenLayout
from jenga.runtime.run import Run, StageState
from jenga.runtime.session import attend
from jenga.runtime.settings import CarvingSettings

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs here")

GRID, TEXT, HEADS, DIM, LAYERS, STEPS = TokenGrid(8, 32, 32), 40, 7, 128, 12, 5
HOME, OTHER = torch.device("cuda", 0), torch.device("cuda", 1)


@pytest.fixture(scope="module")
def layers() -> list:
    """q, k, v of every layer as a projection gives them, [B, S, H * D] seen as [B, H, S, D], on one GPU."""
    generator = torch.Generator(HOME).manual_seed(0)
    shape = (1, GRID.num_tokens + TEXT, HEADS * DIM)
    made = (torch.randn(shape, device=HOME, dtype=torch.bfloat16, generator=generator) for _ in range(3 * LAYERS))
    views = [x.unflatten(2, (HEADS, DIM)).transpose(1, 2) for x in made]
    return [views[3 * layer : 3 * layer + 3] for layer in range(LAYERS)]


def of_heads(q, k, v, mask):
    """By a backend whose heads do not know of each other: cuBLAS and cuDNN choose kernels by their number."""
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        return F.scaled_dot_product_attention(q, k, v, None if mask is None else mask[:, None, None])


def run(layers, devices=(), masked: bool = False, steps: int = STEPS, precision: str = "auto", **settings):
    """Outputs of every layer and step, and the report. Nothing waits for a GPU before all is started."""
    config = JengaConfig(density=0.2, precision=precision)
    settings = CarvingSettings(config, min_tokens=0, devices=devices, **settings)
    run, found = Run(Report()), []
    layout = TokenLayout(GRID, text=(GRID.num_tokens, None))
    with torch.inference_mode():
        for step in range(steps):
            run.begin_evaluation()
            mask = None
            if masked:
                mask = torch.ones(1, GRID.num_tokens + TEXT, dtype=torch.bool, device=HOME)
                mask[:, -7:] = False
            keys = run.number_passes(("prompt",))
            call = ModelCall(keys, run.evaluation, layout, torch.tensor(0.5), 50)
            carved = CarvedCall.begin("model", settings, StageState(run), call)
            for index, given in enumerate(layers):
                tensors = [x + 0.01 * step for x in given]
                dense = lambda tensors=tensors, mask=mask: of_heads(*tensors, mask)  # noqa: E731
                out = attend(carved, Block("", index), *tensors, mask, None, dense, of_heads=of_heads)
                found.append(out.float().mean((0, 3)))  # read at once, as a model does; the memory of out is free again
    report = run.listener
    run.close()
    return torch.stack(found), report


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"anchors": (AnchorConfig(2),)},
        {"anchors": (AnchorConfig(3, memory=0),)},  # all of them in host memory
        {"anchors": (AnchorConfig(2),), "masked": True},
        {"anchors": (AnchorConfig(2),), "precision": "int8"},
        {"anchors": (AnchorConfig(2),), "precision": "fp8"},
        {"dense_blocks": frozenset((1, 4))},
    ],
    ids=str,
)
def test_two_gpus_give_the_bits_of_one(layers, settings):
    expected, one = run(layers, **settings)
    for _ in range(3):
        found, two = run(layers, ("cuda:1",), **settings)
        assert torch.equal(found, expected)
        assert two.fallbacks == one.fallbacks and two.backends == one.backends
        assert any(note.startswith("heads over cuda:0, cuda:1") for note in two.notes)


def test_memory_at_home_does_not_grow_with_the_layers_that_run_ahead(layers):
    peaks = []
    for repeats in (1, 6):
        torch.cuda.synchronize(HOME)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(HOME)
        torch.cuda.reset_peak_memory_stats(OTHER)
        run(layers * repeats, ("cuda:1",), steps=1)
        peaks.append([torch.cuda.max_memory_allocated(device) for device in (HOME, OTHER)])
    for few, many in zip(*peaks, strict=True):
        assert many < 1.1 * few + (16 << 20)


def test_a_gpu_without_room_leaves_the_run_on_one(layers):
    expected, _ = run(layers)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-4, OTHER)
    try:
        found, report = run(layers, ("cuda:1",))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, OTHER)
    assert torch.equal(found, expected)
    assert report.fallbacks == {"all heads on cuda:0: cuda:1 is out of memory": 1}
