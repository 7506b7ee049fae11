"""What the benchmarks share: cases, inputs with structure, block lists, timing, the dense rivals.

Times are medians of repeats after a warm-up, by torch.utils.benchmark; every ratio is taken inside one process run.
Kept work counts 4 · D floating-point operations for every query-key pair that is really computed.
"""

import argparse
import math
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.benchmark import Timer

from jenga import TokenGrid

Q_BLOCK = 128


@dataclass(frozen=True)
class Case:
    """One shape: heads × (context + t·h·w tokens) × head_dim."""

    name: str
    grid: TokenGrid
    heads: int
    num_context: int = 0
    head_dim: int = 128

    @property
    def num_video(self) -> int:
        return self.grid.t * self.grid.h * self.grid.w

    @property
    def tokens(self) -> int:
        return self.num_context + self.num_video

    def dense_flops(self, batch: int = 1) -> float:
        return 4.0 * batch * self.heads * self.tokens**2 * self.head_dim


CPU_CASES = (
    Case("4 × 8,192 × 128", TokenGrid(8, 32, 32), 4),
    Case("4 × 8,192 × 64", TokenGrid(8, 32, 32), 4, head_dim=64),
    Case("demo, 2 × 8,320 × 128", TokenGrid(13, 20, 32), 2),
)
CUDA_CASES = (
    Case("HunyuanVideo 720p, 24 × 115,456", TokenGrid(32, 45, 80), 24, num_context=256),
    Case("Wan 14B 720p, 40 × 75,600", TokenGrid(21, 45, 80), 40),
    Case("Wan 1.3B 480p, 12 × 32,760", TokenGrid(21, 30, 52), 12),
    Case("head dim 64, 24 × 32,760", TokenGrid(21, 30, 52), 24, head_dim=64),
)
KEPT_SHARES = (0.05, 0.1, 0.2, 0.3, 1.0)


def parser(description: str) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--dtype", default="bf16", choices=["bf16", "fp16", "fp32"])
    p.add_argument("--case", type=int, action="append", help="run only this case, by index (may repeat)")
    p.add_argument("--kept", type=float, action="append", help="run only this share (may repeat)")
    p.add_argument("--refcheck", action="store_true", help="also print the error against fp64")
    p.add_argument("--seconds", type=float, default=1.0, help="least time spent on one figure")
    return p


def selected(arguments) -> tuple[list[Case], list[float], torch.dtype]:
    """Cases, kept shares and dtype that the options name."""
    cases = CUDA_CASES if arguments.device.startswith("cuda") else CPU_CASES
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[arguments.dtype]
    return [cases[i] for i in arguments.case or range(len(cases))], arguments.kept or list(KEPT_SHARES), dtype


def structured_qkv(case: Case, dtype: torch.dtype, device: str, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """q, k, v [1, H, S, D] (memory [1, S, H, D]) whose attention is local in the grid, as a trained model's is.

    q and k share random Fourier features of the position, each head with its own bandwidth, plus noise; context
    tokens are noise alone. Speed may be judged on them, quality may not: that takes trained activations.
    """
    generator = torch.Generator(device).manual_seed(seed)
    t, h, w = case.grid.t, case.grid.h, case.grid.w
    axes = [torch.linspace(0, n / max(t, h, w), n, device=device) for n in (t, h, w)]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
    shape = (case.tokens, case.heads, case.head_dim)
    q, k, v = (torch.randn(shape, device=device, generator=generator) for _ in range(3))
    for head in range(case.heads):
        bandwidth = 4.0 + 12.0 * head / case.heads
        frequency = torch.randn(3, case.head_dim, device=device, generator=generator) * bandwidth
        phase = torch.rand(case.head_dim, device=device, generator=generator) * (2 * math.pi)
        features = torch.cos(position @ frequency + phase) * 1.6
        q[case.num_context :, head] += features
        k[case.num_context :, head] += features
    return tuple(x.to(dtype).unsqueeze(0).transpose(1, 2) for x in (q, k, v))


def random_lists(case: Case, kept: float, kv_block_size: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Ascending random block lists of one length: kv_block_index [1, H, nq, n], kv_block_count [1, H, nq]."""
    nq, nkv = math.ceil(case.num_video / Q_BLOCK), math.ceil(case.num_video / kv_block_size)
    count = max(1, round(kept * nkv))
    scores = torch.rand(1, case.heads, nq, nkv, device=device)
    index = scores.topk(count, dim=-1).indices.sort(dim=-1).values.int()
    return index, torch.full((1, case.heads, nq), count, dtype=torch.int32, device=device)


def median_seconds(statement, seconds: float) -> float:
    """Median wall time of `statement()`, device work included."""
    statement()
    return Timer("statement()", globals={"statement": statement}).blocked_autorange(min_run_time=seconds).median


def dense_backends(device: str) -> dict[str, list]:
    """The dense SDPA backends to race, by name."""
    if not device.startswith("cuda"):
        return {"SDPA": [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]}
    return {"cuDNN": [SDPBackend.CUDNN_ATTENTION], "FLASH": [SDPBackend.FLASH_ATTENTION]}


def dense_seconds(q, k, v, seconds: float) -> dict[str, float]:
    """Median seconds of every dense backend that runs here; the fastest is the baseline."""
    times = {}
    for name, backends in dense_backends(str(q.device)).items():
        with sdpa_kernel(backends):
            try:
                times[name] = median_seconds(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v), seconds)
            except RuntimeError as refusal:
                print(f"  {name} does not run here: {str(refusal).splitlines()[0]}")
    return times


def relative_error(out: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2 error in fp64."""
    return float((out.double() - expected.double()).norm() / expected.double().norm())


def dense_fp64(q, k, v, rows: int = 1024) -> torch.Tensor:
    """Dense attention in fp64 for the last `rows` queries of every head."""
    q, k, v = (x.double() for x in (q[:, :, -rows:], k, v))
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1) @ v
