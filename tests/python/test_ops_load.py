"""Loading: the import never fails, and the status says what is missing; the CPU tier can be forced."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jenga.carving import ops

SOURCE = Path(ops.__file__)


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


def load_elsewhere(tmp_path, code="print(ops.native_status())", torch_version=torch.__version__):
    """ops.py in a package of its own without libraries, under a torch that says it is this one."""
    package = tmp_path / "elsewhere"
    (package / "carving").mkdir(parents=True)
    for name in ("ops.py", "operands.py", "quantise.py", "driver.py"):
        shutil.copy(SOURCE.with_name(name), package / "carving" / name)
    prelude = f"import sys, torch; sys.path.insert(0, {str(tmp_path)!r}); torch.__version__ = {str(torch_version)!r}"
    return package, lambda: run_python(f"{prelude}\nfrom elsewhere.carving import ops\n{code}")


def test_import_without_a_library(tmp_path):
    _, load = load_elsewhere(tmp_path)
    result = load()
    assert result.returncode == 0, result.stderr
    assert "cpu=False, cuda=False" in result.stdout
    assert "libjenga_cpu.so is not installed beside jenga" in result.stdout


def test_import_with_a_broken_library(tmp_path):
    package, load = load_elsewhere(tmp_path)
    (package / "lib").mkdir()
    (package / "lib" / "libjenga_cpu.so").write_bytes(b"not a library")
    result = load()
    assert result.returncode == 0, result.stderr
    assert f"libjenga_cpu.so does not load under torch {torch.__version__}" in result.stdout


def test_an_older_torch_is_named_and_no_library_is_loaded(tmp_path):
    _, load = load_elsewhere(tmp_path, "print(ops.native_status())", torch_version="2.8.0+cu128")
    result = load()
    assert result.returncode == 0, result.stderr
    assert "cpu=False, cuda=False, reason='torch must be 2.10 or newer" in result.stdout
    assert "got 2.8.0+cu128" in result.stdout


def test_status_is_true_to_the_dispatcher():
    status = ops.native_status()
    assert status.cpu
    assert status.cuda == torch._C._dispatch_has_kernel_for_dispatch_key("jenga::block_sparse_attention", "CUDA")
    assert status.cuda or status.reason


ISA_CODE = f"""
import sys; sys.path.insert(0, {str(SOURCE.parents[2])!r}); sys.path.insert(0, {str(Path(__file__).parent)!r})
import conftest
from jenga.carving import ops
print(ops.cpu_isa())
"""


def test_isa_can_be_forced():
    assert run_python(ISA_CODE, JENGA_FORCE_ISA="generic").stdout.split() == ["generic"]


def test_unknown_isa_is_refused():
    result = run_python(ISA_CODE, JENGA_FORCE_ISA="sse9")
    assert result.returncode != 0
    assert "sse9" in result.stderr


def test_file_of_the_wheel_is_the_one_loaded():
    if "JENGA_LIB_DIR" in os.environ:
        pytest.skip("the libraries come from a build folder")
    assert (SOURCE.parents[1] / "lib" / "libjenga_cpu.so").is_file()
