"""How fast this machine computes in which dtype: one measurement, which every choice of a dtype here follows.

    here = machine.measure(cpu=True)
    print(here)       # CPU: AMD EPYC, 2 threads, kernels avx512_bf16; model bf16 (…), VAE bf16 (…)
    here.model.name   # "bf16"

What is timed is what will run: a layer of the demo's transformer and one of its VAE decoder. So whatever holds the
libraries back (ONEDNN_MAX_CPU_ISA, ATEN_CPU_CAPABILITY) is in the figures, as is JENGA_FORCE_ISA in the tier's name.
One thread's processor time is taken: it is the same on a machine that is busy with something else.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from demo.wan_modules import Block, ResidualBlock, rotary_table
from jenga.carving import ops

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
DIM, FFN_DIM, LAYERS = 256, 1024, 6  # of the demo's transformer
GRID = (4, 8, 24)  # tokens of the timed layer
VAE_CHANNELS, VAE_FRAMES, VAE_SIDES = 8, 4, (40, 64)  # of the timed layer: the decoder's last level, a part of a frame
REPEATS = 3


@dataclass(frozen=True)
class Speed:
    """The faster dtype of one network, and the rates that say so. name: of DTYPES, or "default", ComfyUI's choice."""

    name: str
    rates: dict[str, float]  # GFLOP/s of one thread by dtype

    @property
    def rate(self) -> float:
        return self.rates[self.name]

    def __str__(self) -> str:
        others = "".join(f", {name} {rate:.1f}" for name, rate in self.rates.items() if name != self.name)
        return f"{self.name} ({self.rate:.1f} GFLOP/s a thread{others})" if self.rates else self.name


@dataclass(frozen=True)
class Machine:
    """device: "cpu" or "cuda". name: of the processor, with what it runs. model, vae: of the demo's two networks."""

    device: str
    name: str
    model: Speed
    vae: Speed
    threads: int = 1

    def __str__(self) -> str:
        return f"{self.device.upper()}: {self.name}; model {self.model}, VAE {self.vae}"


def processor() -> str:
    """The name of the CPU; Linux alone tells it, elsewhere its architecture."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def layer_flops(tokens: int) -> float:
    """Floating-point operations of one layer of the demo's transformer, its short cross-attention left out."""
    return 4.0 * tokens**2 * DIM + 2.0 * tokens * (6 * DIM**2 + 2 * DIM * FFN_DIM)


def _rate(call: Callable[[], object], flops: float) -> float:
    """GFLOP/s of the fastest call of a few, after one that is thrown away."""
    call()
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return flops / min(seconds) / 1e9


def _model_rate(dtype: torch.dtype) -> float:
    tokens = GRID[0] * GRID[1] * GRID[2]
    block = Block(DIM, FFN_DIM).to(dtype)
    x, context = torch.randn(1, tokens, DIM, dtype=dtype), torch.randn(1, 8, DIM, dtype=dtype)
    modulation, table = torch.randn(1, 6, DIM, dtype=dtype), rotary_table(*GRID, "cpu")
    return _rate(lambda: block(x, modulation, context, table), layer_flops(tokens))


def _vae_rate(dtype: torch.dtype) -> float:
    layer = ResidualBlock(VAE_CHANNELS, VAE_CHANNELS).to(dtype)
    x = torch.randn(1, VAE_CHANNELS, VAE_FRAMES, *VAE_SIDES, dtype=dtype)
    return _rate(lambda: layer(x), 2 * 2.0 * 27 * VAE_CHANNELS * x.numel())


def _speed(rate: Callable[[torch.dtype], float]) -> Speed:
    rates = {name: rate(dtype) for name, dtype in DTYPES.items()}
    return Speed(max(rates, key=rates.get), rates)


@torch.inference_mode()
def measure(*, cpu: bool) -> Machine:
    """This machine's GPU, whose dtypes ComfyUI chooses, or with `cpu` its processor. About two seconds."""
    if not cpu:
        default = Speed("default", {})
        return Machine("cuda", torch.cuda.get_device_name(), default, default)
    tier = ops.cpu_isa() if ops.native_status().cpu else "none"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, vae = _speed(_model_rate), _speed(_vae_rate)
    finally:
        torch.set_num_threads(threads)
    return Machine("cpu", f"{processor()}, {threads} threads, kernels {tier}", model, vae, threads)
