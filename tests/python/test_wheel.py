"""The wheel that JENGA_WHEEL names: one for every Python, and nothing in it that only developers need."""

import os
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel():
    if not os.environ.get("JENGA_WHEEL"):
        pytest.skip("JENGA_WHEEL names no wheel")
    return Path(os.environ["JENGA_WHEEL"])


@pytest.fixture(scope="module")
def names(wheel):
    return zipfile.ZipFile(wheel).namelist()


def test_tag_is_any_python(wheel):
    assert wheel.name.split("-")[2:4] == ["py3", "none"]
    assert wheel.name.split("-")[4].removesuffix(".whl") != "any"


def test_libraries_lie_beside_the_package(names):
    assert "jenga/lib/libjenga_cpu.so" in names
    assert "jenga/ops.py" in names


def test_only_the_package_is_in_it(names):
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"jenga", "comfyui_jenga"}
    assert not [name for name in names if "_core" in name or "test" in name or name.endswith((".a", ".h", ".cmake"))]


def test_every_shared_library_is_ours(names):
    assert {Path(name).name for name in names if ".so" in name} <= {"libjenga_cpu.so", "libjenga_cuda.so"}
