"""The wheel that JENGA_WHEEL names: one for every Python, and nothing in it that only developers need."""

import base64
import email
import hashlib
import os
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel():
    if not os.environ.get("JENGA_WHEEL"):
        pytest.skip("JENGA_WHEEL names no wheel")
    return Path(os.environ["JENGA_WHEEL"])


def read(wheel: Path, name: str) -> bytes:
    """A file of the wheel's dist-info folder."""
    with zipfile.ZipFile(wheel) as archive:
        return next(archive.read(entry) for entry in archive.namelist() if entry.endswith(f".dist-info/{name}"))


@pytest.fixture(scope="module")
def names(wheel):
    return zipfile.ZipFile(wheel).namelist()


def test_tag_is_any_python_on_one_platform(wheel):
    # A build machine with a newer C library than the policy's keeps its own tag; `make wheel` refuses to release that.
    platforms = ("manylinux_2_34_x86_64", "linux_x86_64", "win_amd64")
    assert wheel.name.split("-", 2)[2] in [f"py3-none-{platform}.whl" for platform in platforms]


def test_it_is_small(wheel):
    assert wheel.stat().st_size <= 30 * 2**20


def test_libraries_lie_beside_the_package(wheel, names):
    windows = "jenga/lib/libjenga_cpu.dll" in names
    assert windows == wheel.name.endswith("-win_amd64.whl")
    assert windows != ("jenga/lib/libjenga_cpu.so" in names)
    assert "jenga/carving/ops.py" in names


def test_only_the_package_is_in_it(names):
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"jenga", "comfyui_jenga"}
    assert not [name for name in names if "_core" in name or name.endswith((".a", ".h", ".cmake"))]
    assert not [name for name in names if any(part == "tests" or part.startswith("test_") for part in name.split("/"))]


def test_every_shared_library_is_ours(names):
    ours = {f"libjenga_{device}.{suffix}" for device in ("cpu", "cuda") for suffix in ("so", "dll")}
    assert {Path(name).name for name in names if ".so" in name or name.endswith(".dll")} <= ours


def test_every_file_is_in_the_record_with_its_hash(wheel):
    rows = [line.split(",") for line in read(wheel, "RECORD").decode().splitlines()]
    with zipfile.ZipFile(wheel) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist() if not entry.endswith("/")}
    assert {row[0] for row in rows} == set(files)
    for name, digest, _ in rows:
        expected = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
        assert digest == ("" if name.endswith("/RECORD") else f"sha256={expected}")


def test_nothing_in_it_lets_pip_change_torch(wheel):
    metadata = email.message_from_bytes(read(wheel, "METADATA"))
    assert metadata.get_all("Requires-Dist") == ["psutil"]
