"""ComfyUI as users start it: the nodes are listed, their help is served, and a prompt runs over HTTP."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from comfy_host import COMFYUI

from workflows import carved, node, staged, workflow

NODES = ("JengaAttention", "JengaProgressiveSampler", "JengaReport", "JengaCompare", "JengaDemoPrompt")


@pytest.fixture(scope="module")
def server(host_session, base_directory, tmp_path_factory):
    """The address of a server on a free loopback port; it shares the checkpoints of the in-process host."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--base-directory", str(base_directory), "--disable-auto-launch", "--disable-api-nodes"]
    command += ["--database-url", "sqlite:///:memory:"]
    log_path = tmp_path_factory.mktemp("server") / "log.txt"
    with log_path.open("w") as log:
        process = subprocess.Popen(command, cwd=COMFYUI, stdout=log, stderr=subprocess.STDOUT, env=os.environ)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                get(f"{address}/system_stats")
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, log_path.read_text()[-3000:]
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def get(url: str):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def test_nodes_are_listed_with_their_widgets(server):
    info = get(f"{server}/object_info")
    for name in NODES:
        assert info[name]["category"].startswith("Jenga")
        assert info[name]["description"]
    inputs = info["JengaAttention"]["input"]["required"]
    assert inputs["density"][1]["default"] == 0.2
    assert not inputs["density"][1].get("advanced")
    assert all(inputs[name][1]["advanced"] for name in inputs if name not in ("model", "density"))
    assert info["JengaProgressiveSampler"]["output_name"] == ["output", "denoised_output"]


@pytest.mark.parametrize("name", ["JengaAttention", "JengaProgressiveSampler", "JengaReport"])
def test_help_pages_are_served(server, name):
    with urllib.request.urlopen(f"{server}/extensions/jenga/docs/{name}.md", timeout=30) as answer:
        assert answer.read().decode().startswith("# ")


def test_a_prompt_runs(server):
    prompt = workflow([carved()], **staged())
    del prompt["capture"]  # its raw tensor is for tests in one process
    prompt["save"] = node("SaveLatent", samples=["report", 0], filename_prefix="jenga_test")
    body = json.dumps({"prompt": prompt}).encode()
    request = urllib.request.Request(f"{server}/prompt", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            prompt_id = json.load(answer)["prompt_id"]
    except urllib.error.HTTPError as error:
        pytest.fail(error.read().decode())
    deadline = time.monotonic() + 60
    while not (history := get(f"{server}/history/{prompt_id}")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    entry = history[prompt_id]
    assert entry["status"]["status_str"] == "success", entry["status"]
    figures = entry["outputs"]["report"]["jenga_report"][0]
    assert [stage["latent_shape"][-1] for stage in figures["stages"]] == [12, 24]
    assert entry["outputs"]["save"]["latents"]
