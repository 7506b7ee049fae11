"""Where anchors may take our own kernels: the rule, by what was timed."""

import pytest
import torch

from jenga.carving import exact
from jenga.carving.exact import CPU_TOKENS, outruns_torch


def queries(dtype: torch.dtype, tokens: int = CPU_TOKENS, head_dim: int = 72) -> torch.Tensor:
    return torch.empty(1, 2, tokens, head_dim, dtype=dtype)


@pytest.fixture
def cpu(monkeypatch):
    """Sets the tier of our kernels, and whether torch has AMX."""

    def become(isa: str, amx: bool) -> None:
        monkeypatch.setattr(exact.ops, "cpu_isa", lambda: isa)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)

    return become


@pytest.mark.parametrize("isa", ["avx2", "avx512", "avx512_bf16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_vector_tiers_outrun_torch_but_where_it_has_amx(cpu, isa, dtype):
    cpu(isa, amx=False)
    assert outruns_torch("native_cpu", queries(dtype))
    cpu(isa, amx=True)
    assert outruns_torch("native_cpu", queries(dtype)) == (dtype == torch.float32)


def test_short_calls_and_scalar_code_do_not(cpu):
    cpu("avx2", amx=False)
    assert not outruns_torch("native_cpu", queries(torch.float32, CPU_TOKENS - 1))
    cpu("generic", amx=False)
    assert not outruns_torch("native_cpu", queries(torch.float32))


@pytest.mark.parametrize("backend", ["flex", "reference"])
def test_nothing_that_is_not_ours_does(backend):
    assert not outruns_torch(backend, queries(torch.float32))


@pytest.mark.parametrize(
    ("head_dim", "capability", "fast"),
    [(128, (9, 0), True), (64, (9, 0), True), (96, (9, 0), False), (128, (8, 9), False)],
)
def test_of_gpus_hopper_does(monkeypatch, head_dim, capability, fast):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert outruns_torch("native_cuda", queries(torch.bfloat16, 16, head_dim)) == fast
