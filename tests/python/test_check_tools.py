"""What `make` says before it downloads anything."""

from collections import namedtuple

import pytest

from scripts import check_tools

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def free_gigabytes(monkeypatch, tmp_path):
    """Sets how much every disk has free; the checkout is one in which nothing is installed yet."""
    monkeypatch.setattr(check_tools, "ROOT", tmp_path)
    return lambda free: monkeypatch.setattr(check_tools.shutil, "disk_usage", lambda _: Usage(0, 0, free * 10**9))


@pytest.mark.parametrize("tests", [False, True])
def test_enough_space_is_not_mentioned(free_gigabytes, tests):
    free_gigabytes(check_tools.SETUP_GB + check_tools.TESTS_GB)
    assert check_tools.missing_space(tests) == ""


def test_a_full_disk_is_named_before_anything_is_installed(free_gigabytes, tmp_path):
    free_gigabytes(check_tools.SETUP_GB - 1)
    wanted, found = check_tools.SETUP_GB, check_tools.SETUP_GB - 1
    assert check_tools.missing_space(tests=False) == f"{tmp_path} must have {wanted} GB free, got {found}"


def test_what_is_installed_already_needs_no_more_space(free_gigabytes, tmp_path):
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".dependencies").touch()
    free_gigabytes(0)
    assert check_tools.missing_space(tests=False) == ""
    assert f"must have {check_tools.TESTS_GB} GB free, got 0" in check_tools.missing_space(tests=True)


def test_a_small_folder_for_temporary_files_is_named_with_the_remedy(free_gigabytes, monkeypatch, tmp_path):
    monkeypatch.setattr(check_tools.tempfile, "gettempdir", lambda: "/scratch")
    monkeypatch.setattr(
        check_tools.shutil, "disk_usage", lambda folder: Usage(0, 0, (1 if folder == "/scratch" else 100) * 10**9)
    )
    said = check_tools.missing_space(tests=True)
    assert said.startswith("/scratch must have") and said.endswith("set TMPDIR to a folder that has it")
