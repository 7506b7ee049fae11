"""An NVIDIA driver that is too old for the CUDA library is named before the library is loaded."""

import pytest

from jenga.carving import driver


@pytest.mark.parametrize("newest", [(13, 0), (13, 2), (14, 0), None])
def test_a_driver_of_the_same_generation_or_newer_will_do(newest):
    assert driver.compare(13, newest) == ""


def test_an_older_driver_is_refused_with_the_one_that_is_needed():
    said = driver.compare(13, (12, 8))
    assert said == "the NVIDIA driver must be 580 or newer (CUDA 13), got one for CUDA 12.8; update the driver"
    assert "for CUDA 14 or newer, got one for CUDA 13.1" in driver.compare(14, (13, 1))


def test_the_file_beside_the_library_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "newest_cuda", lambda: (12, 4))
    assert driver.refusal(tmp_path / "libjenga_cuda.toolkit") == ""
    (tmp_path / "libjenga_cuda.toolkit").write_text("13\n")
    assert "got one for CUDA 12.4" in driver.refusal(tmp_path / "libjenga_cuda.toolkit")


def test_what_a_missing_or_present_driver_says():
    newest = driver.newest_cuda()
    assert newest is None or newest >= (11, 0)
