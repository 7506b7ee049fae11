"""benchmarks.presets: small, on the CPU and in a process of its own, where ComfyUI's server cannot be imported."""

import importlib.util
import math
import os
import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from comfy_host import ROOT

from benchmarks import frame_quality, st_lpips
from benchmarks.markdown import Document, joined
from jenga.report import compare
from jenga.sampling.presets import PRESETS

STEPS = 3
ROWS = "presets|reuse: EasyCache|sol_attn: 10|noise: independent"
RUN = """
import runpy, sys

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in ("server", "execution", "nodes"):
            raise ImportError(f"{name} must not be imported")

sys.meta_path.insert(0, Refuse)
runpy.run_module("benchmarks.presets", run_name="__main__")
"""


@pytest.fixture(scope="module")
def tables(comfyui, tmp_path_factory) -> dict[str, list[list[str]]]:
    """Heading -> cells, the column names first. Every line of a table has as many cells as its head."""
    output = tmp_path_factory.mktemp("presets") / "presets.md"
    options = ["--device", "cpu", "--size", "half", "--prompts", "1", "--steps", str(STEPS), "--only", ROWS]
    command = [sys.executable, "-c", RUN, *options, "--output", str(output)]
    environment = {**os.environ, "JENGA_COMFYUI": str(comfyui)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=1800)
    return read_tables(output.read_text())


def read_tables(text: str) -> dict[str, list[list[str]]]:
    found = {}
    for heading, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL):
        lines = [line for line in body.splitlines() if line.startswith("|")]
        if lines:
            head, rule, *rows = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines)
            assert set(rule) == {"---"} and rows and {len(row) for row in (rule, *rows)} == {len(head)}
            found[heading] = [head, *rows]
    return found


def test_every_preset_and_every_table_has_its_rows(tables):
    runs = [row[1] for row in tables["Presets"][1:]]
    assert runs == ["dense", "noise floor", *PRESETS, "dense again"]
    assert [row[1] for row in tables["What the speed is made of"][1:]] == list(PRESETS)
    assert len(tables) == 5


def test_figures_are_finite_and_those_of_their_runs(tables):
    for head, *rows in tables.values():
        for row in rows:
            figures = [float(cell.removesuffix(" %")) for cell in row if re.match(r"[\d.]+( %)?$|nan|inf", cell)]
            assert len(figures) > 1 or "sol_attn" in row[1]
            assert all(map(math.isfinite, figures))
            if "calls computed" in head:
                computed, reused = (int(row[head.index(name)]) for name in ("calls computed", "reused"))
                assert computed + reused == STEPS
    head, dense, floor, *presets, again = tables["Presets"]
    psnr, kept = head.index("PSNR dB"), head.index("kept")
    assert floor[psnr] == "∞" or float(floor[psnr]) > 50
    for row in presets:  # near-lossless has two anchors in three steps, and keeps 12.5 % between: 70.8 %
        most = 71 if row[1] == "near-lossless" else 70
        assert float(row[psnr]) < 50 and float(row[kept].removesuffix(" %")) < most, row
    lpips = head.index("ST-LPIPS")
    if importlib.util.find_spec("stlpips_pytorch") is None:
        assert {row[lpips] for row in presets} == {"–"}
    else:
        assert float(floor[lpips]) < min(float(row[lpips]) for row in presets)


def test_quality_is_that_of_jenga_compare():
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(3, 24, 40, 3, generator=generator)
    b = (a + 0.1 * torch.randn(a.shape, generator=generator)).clamp(0, 1)
    expected = compare.compare(a, b)
    assert frame_quality.psnr(a, b) == pytest.approx(expected.mean_psnr, rel=1e-6)
    assert frame_quality.ssim(a, b) == pytest.approx(expected.mean_ssim, abs=1e-6)
    assert math.isinf(frame_quality.psnr(a, a)) and frame_quality.ssim(a, a) == pytest.approx(1)


def blurred(clip: torch.Tensor, width: int) -> torch.Tensor:
    planes = clip.movedim(-1, 1)
    return F.avg_pool2d(planes, width, stride=1, padding=width // 2, count_include_pad=False).movedim(1, -1)


def test_st_lpips_grows_with_blur():
    lpips = st_lpips.load(torch.device("cpu"))
    if lpips is None:
        pytest.skip("stlpips_pytorch is not installed")
    clip = torch.rand(9, 48, 64, 3, generator=torch.Generator().manual_seed(0))  # one more than a batch
    slight, strong = (lpips(clip, blurred(clip, width)) for width in (3, 7))
    assert lpips(clip, clip) == pytest.approx(0, abs=1e-6)
    assert 0.01 < slight < strong
    assert lpips(clip[8:], blurred(clip, 7)[8:]) == pytest.approx(
        9 * strong - 8 * lpips(clip[:8], blurred(clip, 7)[:8]), rel=1e-3
    )


def test_two_documents_join_to_the_one_of_a_single_run(tmp_path):
    def run(name: str, steps: tuple[str, ...]) -> str:
        document = Document(tmp_path / name, f"# Title\n\nMachine:\n\n    command --steps {' '.join(steps)}\n\nText.")
        tables = [document.table(title, "text", "steps", "b") for title in ("One", "Two", "Three")]
        for step in steps:
            for table in tables if step == "50" else tables[:2]:
                table.add(step, "same")
            document.note("said by both")
            document.note(f"{step} steps")
        return (tmp_path / name).read_text()

    once, parts = run("once", ("6", "50")), [run(step, (step,)) for step in ("6", "50")]
    expected = once.replace("    command --steps 6 50", "    command --steps 6\n    command --steps 50")
    assert joined(*parts) == expected
    assert joined(once, once) == once


def test_a_document_is_valid_after_every_row(tmp_path):
    path = tmp_path / "folder" / "file.md"
    document = Document(path, "# Title")
    first, second = (document.table(name, "text", "a", "b") for name in ("One", "Two"))
    second.add("1", "x|y")
    assert read_tables(path.read_text()) == {"Two": [["a", "b"], ["1", "x\\|y"]]}
    first.add("2", "3")
    document.note("said twice")
    document.note("said twice")
    assert list(read_tables(path.read_text())) == ["One", "Two"]
    assert path.read_text().count("said twice") == 1 and list(path.parent.iterdir()) == [path]
    with pytest.raises(ValueError, match="cells must be 2"):
        first.add("alone")
