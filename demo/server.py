"""A headless ComfyUI on a free loopback port, with this repository as its only custom node pack.

    with Server(comfyui_folder, work_folder) as server:
        history = server.run(api_prompt, on_event)

The server runs in its own process and folder; whatever happens, it is stopped when the block is left.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path

import websocket

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 180


class ServerError(RuntimeError):
    """ComfyUI did not start, refused a prompt, or failed while running it."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """ComfyUI as a child process.

    comfyui: ComfyUI's folder. base: an empty or earlier base folder (custom_nodes, output, … are made in it).
    cpu: run on the CPU with SDPA as the dense attention. models: folder that holds the checkpoint files.
    """

    def __init__(self, comfyui: Path, base: Path, *, cpu: bool, models: Path):
        self.comfyui, self.base, self.cpu, self.models = comfyui, base, cpu, models
        self.port = _free_port()
        self.log_path = base / "comfyui.log"
        self._process: subprocess.Popen | None = None
        self._client_id = uuid.uuid4().hex

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Server":
        custom_nodes = self.base / "custom_nodes"
        custom_nodes.mkdir(parents=True, exist_ok=True)
        pack = custom_nodes / "jenga"
        if not pack.is_symlink():
            pack.symlink_to(ROOT, target_is_directory=True)
        paths = self.base / "models.yaml"
        paths.write_text(f"jenga_demo:\n  diffusion_models: {self.models}\n  vae: {self.models}\n")
        command = [sys.executable, "main.py", "--base-directory", str(self.base), "--port", str(self.port)]
        command += ["--listen", "127.0.0.1", "--extra-model-paths-config", str(paths), "--disable-auto-launch"]
        command += ["--disable-api-nodes", "--database-url", "sqlite:///:memory:", "--preview-method", "latent2rgb"]
        if self.cpu:
            # torch's fp32 Conv3d on a CPU is a slow path: in bf16 the same VAE decodes three times faster.
            command += ["--cpu", "--use-pytorch-cross-attention", "--bf16-vae"]
        with self.log_path.open("w") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.comfyui,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                self.get("system_stats")
                return
            except OSError:
                time.sleep(0.25)
        tail = "\n".join(self.log_path.read_text(errors="replace").splitlines()[-25:])
        raise ServerError(f"comfyui: the server must answer within {START_SECONDS} s; the end of its log:\n{tail}")

    def read(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.address}/{path}", timeout=60) as answer:
            return answer.read()

    def get(self, path: str):
        return json.loads(self.read(path))

    def _post(self, path: str, body: dict):
        request = urllib.request.Request(
            f"{self.address}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ServerError(f"comfyui: the prompt must be valid, got {error.read().decode()}") from error

    def run(self, prompt: dict, on_event: Callable[[str, dict], None] = lambda kind, data: None) -> dict:
        """Queue an API-format prompt, hand every websocket event to on_event, and return the outputs by node id.

        Raises ServerError with ComfyUI's own message if a node fails.
        """
        connection = websocket.create_connection(
            f"ws://127.0.0.1:{self.port}/ws?clientId={self._client_id}", timeout=900
        )
        try:
            prompt_id = self._post("prompt", {"prompt": prompt, "client_id": self._client_id})["prompt_id"]
            while True:
                message = connection.recv()
                if not isinstance(message, str):
                    continue  # a preview picture
                event = json.loads(message)
                kind, data = event["type"], event.get("data", {})
                if data.get("prompt_id", prompt_id) != prompt_id:
                    continue
                on_event(kind, data)
                if kind == "execution_error":
                    raise ServerError(f"comfyui: {data['node_type']} failed: {data['exception_message'].strip()}")
                if kind == "executing" and data.get("node") is None:  # sent once the history has the prompt
                    return self.get(f"history/{prompt_id}")[prompt_id]["outputs"]
        finally:
            connection.close()
