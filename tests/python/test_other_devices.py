"""Machines for which there is no native CUDA library, or whose GPU it does not serve: what runs, and what is said."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch

from jenga.carving import dispatch, driver, ops
from jenga.carving.dispatch import Backends
from jenga.carving.ops import NativeStatus


def tensor_on(device: str, dtype=torch.float16):
    """All that the choice of a backend looks at."""
    return SimpleNamespace(device=torch.device(device), dtype=dtype, shape=(1, 2, 432, 64))


@pytest.fixture
def gpu(monkeypatch):
    """gpu(capability, triton): torch sees such a GPU."""

    def sees(capability, triton=True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if triton else None)
        monkeypatch.setattr(dispatch.self_test, "failure", lambda *_: "")

    return sees


@pytest.mark.parametrize("device", ["mps", "xpu"])
def test_a_device_without_kernels_gets_plain_torch(device):
    chosen = Backends(NativeStatus(True, False, "torch is built without CUDA")).choose("auto", tensor_on(device))
    assert chosen == ("reference", "16-bit", f"native_cpu: device must be cpu, got {device}")


def test_turing_gets_flex_attention_and_without_triton_plain_torch(gpu):
    gpu((7, 5))
    too_old = "native_cuda: device must have compute capability 8.0 or newer, got 7.5"
    assert Backends(NativeStatus(True, True, "")).choose("auto", tensor_on("cuda")) == ("flex", "16-bit", too_old)
    gpu((7, 5), triton=False)
    chosen = Backends(NativeStatus(True, True, "")).choose("auto", tensor_on("cuda"))
    assert chosen == ("reference", "16-bit", f"{too_old}; flex: Triton is not installed")


def test_pascal_gets_plain_torch(gpu):
    gpu((6, 1))
    chosen = Backends(NativeStatus(True, True, "")).choose("auto", tensor_on("cuda"))
    assert chosen.backend == "reference"
    assert "flex: device must have compute capability 7.0 or newer, got 6.1" in chosen.reason


@pytest.mark.parametrize("version", ["2.11.0+rocm6.4", "2.11.0+cpu", "2.11.0+xpu"])
def test_a_torch_without_cuda_is_named_when_the_libraries_are_loaded(monkeypatch, version):
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch.version, "cuda", None)
    if not hasattr(torch.ops.jenga, "cpu_isa"):
        pytest.skip("the CPU library is not loaded")
    status = ops._load()
    assert (status.cpu, status.cuda, status.reason) == (True, False, f"torch {version} is built without CUDA")


def test_an_amd_gpu_gets_flex_attention(gpu):
    gpu((9, 4))
    native = NativeStatus(True, False, "torch 2.11.0+rocm6.4 is built without CUDA")
    chosen = Backends(native).choose("auto", tensor_on("cuda"))
    assert chosen == ("flex", "16-bit", "native_cuda: torch 2.11.0+rocm6.4 is built without CUDA")


def test_a_driver_that_is_too_old_is_named_when_the_libraries_are_loaded(monkeypatch, tmp_path):
    if not hasattr(torch.ops.jenga, "cpu_isa"):
        pytest.skip("the CPU library is not loaded")
    (tmp_path / "libjenga_cuda.toolkit").write_text("13\n")
    monkeypatch.setattr(ops, "_LIBRARIES", tmp_path)
    monkeypatch.setattr(driver, "newest_cuda", lambda: (12, 8))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda *_: False)
    status = ops._load()
    assert (status.cpu, status.cuda) == (True, False)
    assert "must be 580 or newer (CUDA 13), got one for CUDA 12.8; update the driver" in status.reason
