"""Where the operators come from, and the fixtures that every operator test shares.

The installed package is used; JENGA_LIB_DIR names a build folder instead (the one that holds libjenga_cpu.so, and
`cuda/libjenga_cuda.so` or `libjenga_cuda.so`), with the Python sources of this repository.
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))  # cases.py and oracles.py

# How fast a busy machine draws examples says nothing about the code.
settings.register_profile("jenga", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("jenga")

if "JENGA_LIB_DIR" in os.environ:
    sys.path.insert(0, str(ROOT / "python"))
    libraries = Path(os.environ["JENGA_LIB_DIR"])
    torch.ops.load_library(libraries / "libjenga_cpu.so")
    for cuda_library in (libraries / "libjenga_cuda.so", libraries / "cuda" / "libjenga_cuda.so"):
        if cuda_library.is_file() and torch.version.cuda:
            torch.ops.load_library(cuda_library)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.fixture
def cuda() -> str:
    """The device of tests that only a GPU with our library can run."""
    from jenga.carving import ops

    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    if not ops.native_status().cuda:
        pytest.skip(ops.native_status().reason)
    return "cuda"


@pytest.fixture
def gpu(monkeypatch):
    """gpu(capability, triton): torch sees such a GPU, whose kernels pass their self-test."""
    from jenga.carving import self_test

    def sees(capability: tuple[int, int], triton: bool = True) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if triton else None)
        monkeypatch.setattr(self_test, "failure", lambda *_: "")

    return sees


@pytest.fixture(params=["own kernel", "kernel of 8.9"])
def kernel(request, monkeypatch) -> str:
    """The kernel that a machine takes by itself, and on a Hopper the one that every other card takes."""
    from jenga.carving import self_test

    if request.param == "kernel of 8.9":
        if not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0):
            pytest.skip("the kernel of 8.9 is the one that this machine takes by itself, or has not")
        monkeypatch.setenv("JENGA_FORCE_SM", "89")
    self_test._failure.cache_clear()  # which kernel it was that passed is not in its key
    yield request.param
    self_test._failure.cache_clear()


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    from jenga.carving import ops

    status = ops.native_status()
    if request.param == "cpu" and not status.cpu:
        pytest.fail(status.reason)
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    if request.param == "cuda" and not status.cuda:
        pytest.skip(status.reason)
    return request.param


@pytest.fixture(params=DTYPES)
def dtype(request):
    return DTYPES[request.param]


@pytest.fixture
def kernel_dtype(dtype, device):
    """A dtype that the device's kernels take."""
    if device == "cuda" and dtype == torch.float32:
        pytest.skip("CUDA kernels take bfloat16 and float16")
    return dtype


@pytest.fixture
def poisoned_outputs():
    """Every fresh tensor is filled with NaN (integers: their maximum), so that nothing left unwritten passes."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
