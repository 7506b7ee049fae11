"""The benchmark of whole models, with tiny ones on the CPU: every row is there and says something sensible."""

import os
import subprocess
import sys

import pytest
import torch
from comfy_host import ROOT

from benchmarks.host.library import copy_parts
from benchmarks.whole_runs import listed_steps

EVALUATION = ("run", "s", "× stock", "attention s", "rest s", "linear s", "patch s", "kept share", "peak GiB")
PARTS = ("attention s", "linear s", "rest s", "patch s", "between s")  # of a whole run's seconds
STAGED = "search: 0.75 until .25, kept 20%"  # by the sampler node, which samples once a stage
WAITS = ("run", "waits of the host", "with one transformer block of each kind")


@pytest.fixture(scope="module")
def benchmark(comfyui, tmp_path_factory):
    """benchmark(*options) -> what the script prints, with only the copied parts of ComfyUI. A process of its own: it
    needs a ComfyUI that no server was started in.
    """
    parts = tmp_path_factory.mktemp("parts")
    copy_parts(comfyui, parts)

    def run(*options: str, device: str = "cpu") -> str:
        command = [sys.executable, "-m", "benchmarks.full_model", "--tiny", "--device", device, *options]
        environment = {**os.environ, "JENGA_COMFYUI": str(parts)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def evaluations(benchmark) -> str:
    return benchmark("--repeats", "1")


@pytest.fixture(scope="module")
def runs(benchmark, evaluations, tmp_path_factory) -> str:
    costs = tmp_path_factory.mktemp("costs") / "costs.txt"
    costs.write_text(evaluations)
    named = ("--run", "flash", "--run", "quality balanced", "--run", "sol_attn 20% + EasyCache", "--run", "EasyCache")
    named += ("--run", "balanced", "--run", STAGED)
    told = ("--easycache-calls", "4.5", "--computed", "balanced=7", "--costs", str(costs))
    return benchmark("--model", "hunyuan", "--steps", "12", *named, *told)


def section(output: str, heading: str) -> list[str]:
    return output.split(f"## {heading}, ")[1].split("\n## ")[0].splitlines()


def table(lines: list[str], columns: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Rows of the table with these first columns, by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] if line[:1] == "|" else [] for line in lines]
    first = next(index for index, row in enumerate(rows) if tuple(row[: len(columns)]) == columns)
    last = next((index for index in range(first, len(rows)) if not rows[index]), len(rows))
    return {row[0]: dict(zip(rows[first], row, strict=True)) for row in rows[first + 2 : last]}


@pytest.mark.parametrize("title", ["tiny Wan", "tiny Wan, wider", "tiny HunyuanVideo"])
def test_every_evaluation_has_its_row(evaluations, title):
    rows = table(section(evaluations, title), EVALUATION)
    assert list(rows) == ["dense, stock", "Jenga Attention, 10%", "Jenga Attention, 20%"]
    for row in rows.values():
        whole, attention, rest = (float(row[name]) for name in ("s", "attention s", "rest s"))
        assert 0 < attention < whole
        assert rest == pytest.approx(whole - attention, abs=0.0011)
        assert 0 < float(row["linear s"]) + float(row["patch s"]) < rest
        assert float(row["× stock"]) > 0
    kept = [float(row["kept share"]) for row in rows.values()]
    assert kept[0] == 1
    assert 0.1 < kept[1] < kept[2] < 1


def test_a_precision_is_named_in_its_row(benchmark):
    asked = ("--model", "wan1.3b", "--kept", "0.2", "--precision", "16-bit", "--precision", "auto", "--repeats", "1")
    rows = table(section(benchmark(*asked), "tiny Wan"), EVALUATION)
    assert list(rows) == ["dense, stock", "Jenga Attention, 20%, 16-bit", "Jenga Attention, 20%"]


def test_what_did_not_run_is_named(evaluations):
    assert evaluations.count("dense, cuDNN: left out, it needs a GPU") == 3


def test_every_layer_was_carved(evaluations):
    """The note under a table has the backends by calls; a dense one would be among them."""
    notes = [line for line in evaluations.splitlines() if line.startswith("Jenga Attention, ")]
    assert len(notes) == 6
    assert not any("dense" in line for line in notes)


def test_a_whole_run_is_the_sum_of_its_parts(runs):
    rows = table(section(runs, "tiny HunyuanVideo"), ("run", "s", "× stock"))
    assert list(rows)[:3] == ["dense, stock", "flash", "quality balanced"] and STAGED in rows
    for row in rows.values():
        parts = {name: float(row[name]) for name in PARTS}
        assert sum(parts.values()) == pytest.approx(float(row["s"]), abs=0.01)
        assert all(parts[name] > 0 for name in ("attention s", "linear s", "rest s", "patch s"))
        assert float(row["computed"]) + float(row["reused"]) == 12
    dense, flash, balanced = (rows[name] for name in ("dense, stock", "flash", "quality balanced"))
    assert int(flash["reused"]) > 0 == int(dense["reused"]) == int(balanced["reused"])
    assert 0 < float(balanced["anchors s"]) < float(balanced["attention s"])
    assert float(dense["anchors s"]) == float(flash["anchors s"]) == 0
    assert all(0 < float(row["kept share"]) < 1 for row in (flash, balanced))


def test_a_dense_run_is_told_from_few_steps(runs):
    assert "dense runs are told from 2 of 12 steps" in runs


def test_the_cost_model_speaks_of_the_same_run(evaluations, runs):
    """Dense: so many of the evaluations that were measured before."""
    single = table(section(evaluations, "tiny HunyuanVideo"), EVALUATION)
    rest = sum(float(row["rest s"]) for row in single.values()) / len(single)
    rows = table(section(runs, "tiny HunyuanVideo"), ("run", "s", "× stock"))
    expected = 12 * (rest + float(single["dense, stock"]["attention s"]))
    assert float(rows["dense, stock"]["cost model s"]) == pytest.approx(expected, abs=0.01)
    for name in ("flash", "quality balanced"):
        assert rows[name]["cost model s"] != "–"


def test_the_rival_graph_has_a_row_or_a_reason(runs):
    lines = [line for line in runs.splitlines() if "sol_attn 20% + EasyCache" in line and "--run" not in line]
    assert lines[0].startswith("|") or "comfy-kitchen" in lines[0]


def test_runs_with_easycache_compute_as_many_steps_as_on_a_trained_model(runs):
    row = table(section(runs, "tiny HunyuanVideo"), ("run", "s", "× stock"))["EasyCache"]
    assert (row["computed"], row["reused"]) == ("4.5", "7.5")
    assert "EasyCache: told from 2 computed steps, 4.5 of 12 are computed" in runs


def test_a_preset_computes_as_many_steps_as_it_is_told(runs):
    row = table(section(runs, "tiny HunyuanVideo"), ("run", "s", "× stock"))["balanced"]
    assert (row["computed"], row["reused"]) == ("7", "5")
    assert "balanced: computes 7 listed steps" in runs


@pytest.mark.parametrize(("steps", "computed"), [(12, 7), (50, 21), (50, 50), (8, 3)])
def test_listed_steps_begin_and_end_with_the_schedule(steps, computed):
    listed = listed_steps(steps, computed)
    assert len(set(listed)) == computed and listed == sorted(listed)
    assert listed[:2] == [0, 1] and listed[-1] == steps - 1
    with pytest.raises(SystemExit, match=f"--computed must be .* of {steps} steps, got {steps + 1}"):
        listed_steps(steps, steps + 1)


ASKED_ALONE = """
import torch
from benchmarks.host import library, video_models
library.start("cpu")
from benchmarks.host.preset_runs import dense
from benchmarks.host.whole_model import WholeModel

host = WholeModel(video_models.TINY_MODELS["wan1.3b"], tiny=True)
private, steps = library.pack_module("nodes.host.private"), []

def every_second(executor, x, *args, **kwargs):
    steps.append(host.model.model.diffusion_model.time_embedding[0](torch.ones(1, 256).bfloat16()))
    return executor(x, *args, **kwargs) if len(steps) % 2 else x

def wrap_run(executor, *args, **kwargs):
    private.wrap_options(executor.class_obj.model_options, private.PREDICT_NOISE, "test", every_second)
    return executor(*args, **kwargs)

private.wrap_first(host.model, private.OUTER_SAMPLE, "test", wrap_run)
with torch.inference_mode():
    dense(host).sample(0, 6)
print(host.times.computed, host.times.reused, host.times.rest > 0)
"""


def test_a_step_that_asks_for_the_time_embedding_alone_is_reused(comfyui):
    """As adaptive reuse by published coefficients does, to see how far the model has moved."""
    command = [sys.executable, "-c", ASKED_ALONE]
    environment = {**os.environ, "JENGA_COMFYUI": str(comfyui)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.split()[-3:] == ["3", "3", "True"], done.stderr


def test_a_name_that_is_no_run_is_refused(comfyui):
    command = [sys.executable, "-m", "benchmarks.full_model", "--tiny", "--device", "cpu", "--model", "wan1.3b"]
    done = subprocess.run([*command, "--steps", "4", "--run", "flush"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and "--run must be one of dense, " in done.stderr and "got flush" in done.stderr
    assert "quality balanced, streamed" in done.stderr


def test_no_layer_makes_the_host_wait(benchmark):
    """On a CPU: no layer reads a value out of a tensor. With FP8 weights too, which ComfyUI casts here."""
    output = benchmark("--model", "hunyuan", "--profile", "--fp8")
    lines = section(output, "tiny HunyuanVideo FP8")
    for row in table(lines, WAITS).values():
        assert row["waits of the host"] == row["with one transformer block of each kind"] == "none"
    operators = table(lines, ("operator", "calls", "s", "share"))
    assert {"aten::addmm", "jenga::block_sparse_attention"} <= operators.keys()
    assert sum(float(row["share"].rstrip("%")) for row in operators.values()) == pytest.approx(100, abs=1)
    products = next(line for line in lines if "matrix products" in line)
    assert "aten::addmm" in products and "scaled" not in products


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("model", "title"), [("wan1.3b", "tiny Wan"), ("hunyuan", "tiny HunyuanVideo")])
def test_no_layer_makes_the_host_wait_for_a_gpu(benchmark, model, title):
    rows = table(section(benchmark("--model", model, "--profile", device="cuda"), title), WAITS)
    assert len(rows) == 2
    for row in rows.values():
        assert row["waits of the host"] == row["with one transformer block of each kind"]
