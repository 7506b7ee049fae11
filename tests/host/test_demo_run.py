"""The demo on this machine: what it computes in, and what a user has and reads when something goes wrong."""

import json
import os
import platform
import signal
import subprocess
import sys

import pytest
import torch
from comfy_host import ROOT
from safetensors.torch import save_file

from demo import clip_length, machine, run, server, summary, variants
from demo.machine import Machine, Speed
from demo.server import WEIGHTS, Server, ServerError

AVX2 = {"JENGA_FORCE_ISA": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
MEASURE_AND_DECODE = """
import json, sys
from pathlib import Path
from demo import machine
from demo.server import WEIGHTS, Server
here = machine.measure(cpu=True)
with Server(Path(sys.argv[1]), Path(sys.argv[2]), machine=here, models=WEIGHTS) as server:
    frames = server.run(json.loads(sys.argv[3]))["frames"]["images"]
    log = server.log_path.read_text()
dtypes = here.model.name, here.vae.name
print(json.dumps({"line": str(here), "dtypes": dtypes, "frames": len(frames), "log": log}))
"""
FAST = Machine("cpu", "a processor", Speed("bf16", {"bf16": 200.0, "fp32": 150.0}), Speed("bf16", {"bf16": 30.0}))
SLOW = Machine("cpu", "a processor", Speed("fp32", {"fp32": 60.0}), Speed("fp32", {"fp32": 4.0}))


def tiny_decoding(base, frames: int = 5, side: int = 4) -> dict:
    """The demo's decoding prompt for a latent of noise that was saved in ComfyUI's output folder."""
    latent = torch.randn(1, 16, variants.latent_frames(frames), side, side)
    (base / "output" / "dense").mkdir(parents=True, exist_ok=True)
    path = base / "output" / "dense" / "noise.latent"
    save_file({"latent_tensor": latent, "latent_format_version_0": torch.tensor([])}, path)
    prompt = {
        "vae": {"class_type": "VAELoader", "inputs": {"vae_name": "jenga_demo_vae.safetensors"}},
        "any": {"class_type": "VAEDecode", "inputs": {"samples": ["none", 0], "vae": ["vae", 0]}},
    }
    return variants.decoding(prompt, "dense/noise.latent", "dense/frame")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="AVX2 is of x86")
def test_without_bf16_instructions_both_networks_run_in_fp32(comfyui, tmp_path):
    program = [sys.executable, "-c", MEASURE_AND_DECODE, str(comfyui), str(tmp_path)]
    environment = {**os.environ, **AVX2}
    program.append(json.dumps(tiny_decoding(tmp_path)))
    said = subprocess.run(program, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout.splitlines()[-1])
    assert found["dtypes"] == ["fp32", "fp32"] and found["frames"] == 5
    assert "kernels avx2" in found["line"] and "dtype: torch.float32" in found["log"]


@pytest.fixture
def small_server(comfyui, tmp_path):
    with Server(comfyui, tmp_path, machine=SLOW, models=WEIGHTS) as started:
        yield started


@pytest.mark.parametrize(
    ("sent", "said"), [(signal.SIGKILL, "ended by SIGKILL"), (signal.SIGSTOP, "report or compute")]
)
def test_a_server_that_died_or_hangs_is_reported(small_server, monkeypatch, sent, said):
    monkeypatch.setattr(server, "HANG_SECONDS", 3)
    monkeypatch.setattr(server, "BEAT_SECONDS", 0.5)
    seen = []

    def on_event(kind, data):
        seen.append(kind)
        if data.get("node") == "decode":
            os.kill(small_server._process.pid, sent)

    with pytest.raises(ServerError, match=said) as error:
        small_server.run(tiny_decoding(small_server.base, frames=33, side=32), on_event)
    assert "got prompt" in str(error.value)  # the end of the log
    assert "make demo FRAMES=17" in str(error.value) or "again" in str(error.value)
    assert sent == signal.SIGKILL or "heartbeat" in seen


def test_a_lost_connection_is_taken_up_again(small_server, monkeypatch):
    connections = []
    connect = Server._connect
    monkeypatch.setattr(
        Server, "_connect", lambda self, *lost: connections.append(connect(self, *lost)) or connections[-1]
    )

    def on_event(kind, data):
        if data.get("node") == "decode" and len(connections) == 1:
            connections[0].shutdown()

    outputs = small_server.run(tiny_decoding(small_server.base), on_event)
    assert len(outputs["frames"]["images"]) == 5 and len(connections) == 2


def test_what_was_finished_stays(monkeypatch, tmp_path, capsys):
    """Decoding fails: the latents, the table and the reason."""
    saved = tmp_path / "saved.latent"
    saved.write_bytes(b"latent")

    def measure(arguments, here, settings, runs):
        for name, seconds in zip(variants.names(settings["preset"]), (8.0, 4.0, 2.0), strict=True):
            runs[name] = summary.Run(seconds, saved, None if name == "dense" else {"kept_share": 0.25})
        raise ServerError("comfyui: VAEDecode failed: out of memory")

    monkeypatch.setattr(run, "measure", measure)
    monkeypatch.setattr(machine, "measure", lambda cpu: FAST)
    monkeypatch.setattr(sys, "argv", ["demo", "--cpu", "--output", str(tmp_path / "output")])
    assert run.main() == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == str(FAST) and "Jenga is 4.00× faster" in said.out
    assert "VAEDecode failed: out of memory" in said.err
    assert {path.stem for path in (tmp_path / "output").glob("*.latent")} == {"dense", "carving", "jenga"}
    assert json.loads((tmp_path / "output" / "report.json").read_text())["seconds"]["jenga"] == 2.0


def test_a_slow_machine_takes_a_shorter_clip_and_says_so():
    assert clip_length.choose(FAST, 30) == (49, "")
    frames, reason = clip_length.choose(SLOW, 30)
    assert frames in clip_length.CHOICES and frames < 49
    assert f"a clip of {frames} frames" in reason and "FRAMES=49" in reason
    assert clip_length.estimate(SLOW, frames, 30) <= clip_length.BUDGET_SECONDS or frames == clip_length.CHOICES[-1]
