"""Machines for which there is no native CUDA library, or whose GPU it does not serve: what runs, and what is said."""

import pytest
import torch
from stand_ins import tensor_on

from jenga.carving import driver, ops
from jenga.carving.dispatch import Backends
from jenga.carving.ops import NativeStatus


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
