"""Where a call of our kernels that keeps every block, and so is exact, is faster than torch's own attention."""

import torch

from . import ops

# In calls of 520 tokens torch can be as fast, from 2,080 on it was not; min_tokens is larger unless it was set.
CPU_TOKENS = 2048
CUDA_HEAD_DIMS = (64, 128)


def outruns_torch(backend: str, q: torch.Tensor) -> bool:
    """Whether `backend` (a key of CONSTRAINTS), which takes q [B, H, S, D], does so by measurement.

    On Hopper: 610 against 350 TFLOP/s (benchmarks/HOPPER.md), where torch takes FlashAttention 2. On CPUs from AVX2 on:
    1.2 to 4.7 times, more in fp16 (benchmarks/RESULTS.md, *CPU kernels that keep everything*). Not where torch has AMX
    for 16 bits, which our kernels do not use and no machine of ours has.
    """
    if backend == "native_cuda":
        return q.shape[3] in CUDA_HEAD_DIMS and torch.cuda.get_device_capability(q.device)[0] == 9
    if backend == "native_cpu":
        by_amx = q.dtype != torch.float32 and torch.cpu._is_amx_tile_supported()
        return q.shape[2] >= CPU_TOKENS and ops.cpu_isa() != "generic" and not by_amx
    return False
