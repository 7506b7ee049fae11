"""A headless ComfyUI on a free loopback port, with this repository as its only custom node pack.

    with Server(comfyui_folder, work_folder) as server:
        history = server.run(api_prompt, on_event)

The server runs in its own process and folder; whatever happens, it is stopped when the block is left. There is no time
limit: as long as it works it is waited for. One that ended or hangs is a ServerError with the end of its log.
"""

import json
import os
import signal
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

from demo.machine import Machine
from demo.pulse import Pulse

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "demo" / "weights"
BEAT_SECONDS = 2  # from one look at a silent server to the next
HANG_SECONDS = 120  # without a sign of work
ANSWER_SECONDS = 60  # for one attempt at a request
LOG_LINES = 25


class ServerError(RuntimeError):
    """ComfyUI did not start, refused a prompt, failed while running it, ended or hung."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """ComfyUI as a child process.

    comfyui: ComfyUI's folder. base: an empty or earlier base folder (custom_nodes, output, … are made in it).
    machine: what it runs on; on a CPU SDPA is the dense attention. models: folder that holds the checkpoint files.
    """

    def __init__(self, comfyui: Path, base: Path, *, machine: Machine, models: Path):
        self.comfyui, self.base, self.machine, self.models = comfyui, base, machine, models
        self.port = _free_port()
        self.log_path = base / "comfyui.log"
        self._process: subprocess.Popen | None = None
        self._client_id = uuid.uuid4().hex

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Server":
        self._link_pack()
        paths = self.base / "models.yaml"
        models = json.dumps(str(self.models), ensure_ascii=False)  # quoted: a path may hold what YAML reads as its own
        paths.write_text(f"jenga_demo:\n  diffusion_models: {models}\n  vae: {models}\n")
        # No previews: they would show the demo's latents in the colours of Wan's.
        command = [sys.executable, "main.py", "--base-directory", str(self.base), "--port", str(self.port)]
        command += ["--listen", "127.0.0.1", "--extra-model-paths-config", str(paths), "--disable-auto-launch"]
        command += ["--disable-api-nodes", "--database-url", "sqlite:///:memory:", "--preview-method", "none"]
        if self.machine.device == "cpu":
            command += ["--cpu", "--use-pytorch-cross-attention", f"--{self.machine.vae.name}-vae"]
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
            self._process.send_signal(signal.SIGCONT)  # one that was stopped would not hear the next
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _link_pack(self) -> None:
        """This repository as a node pack, unless it is one already, under whatever name."""
        packs = self.base / "custom_nodes"
        packs.mkdir(parents=True, exist_ok=True)
        if ROOT not in (pack.resolve() for pack in packs.iterdir()):
            pack = packs / "jenga"
            pack.unlink(missing_ok=True)  # of a checkout that was moved
            pack.symlink_to(ROOT, target_is_directory=True)

    def _wait_until_up(self) -> None:
        pulse = Pulse(self._process.pid)
        while True:
            try:
                with urllib.request.urlopen(f"{self.address}/system_stats", timeout=ANSWER_SECONDS):
                    return
            except OSError:
                self._check(pulse)
                time.sleep(0.25)

    def _check(self, pulse: Pulse) -> None:
        """Raises ServerError if the server has ended, or hangs."""
        code = self._process.poll()
        if code is not None:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            remedy = "If memory ran out, close other programs, or make a shorter clip: `make demo FRAMES=17`"
            raise self._failure(f"the server must run until it is stopped, but {how}", remedy)
        if pulse.idle_seconds() > HANG_SECONDS:
            what = f"the server must report or compute, but did neither for {HANG_SECONDS} s"
            raise self._failure(what, "Run the command again; if it hangs again, the log shows at what")

    def _failure(self, what: str, remedy: str) -> ServerError:
        tail = "\n".join(self.log_path.read_text(errors="replace").splitlines()[-LOG_LINES:])
        return ServerError(f"comfyui: {what}. The end of {self.log_path}:\n\n{tail}\n\n{remedy}.")

    def read(self, path: str) -> bytes:
        pulse = Pulse(self._process.pid)
        while True:
            try:
                with urllib.request.urlopen(f"{self.address}/{path}", timeout=ANSWER_SECONDS) as answer:
                    return answer.read()
            except urllib.error.HTTPError:
                raise
            except OSError:  # no answer in time, or none at all
                self._check(pulse)
                time.sleep(0.25)

    def get(self, path: str):
        return json.loads(self.read(path))

    def _post(self, path: str, body: dict):
        request = urllib.request.Request(
            f"{self.address}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=HANG_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ServerError(f"comfyui: the prompt must be valid, got {error.read().decode()}") from error

    def run(self, prompt: dict, on_event: Callable[[str, dict], None] = lambda kind, data: None) -> dict:
        """Queue an API-format prompt, hand every websocket event to on_event, and return the outputs by node id.

        While the server is silent on_event gets a "heartbeat" every other second. Raises ServerError with ComfyUI's
        own message if a node fails, and with the end of the log if the server ends or hangs.
        """
        pulse = Pulse(self._process.pid)
        connection = self._connect()
        try:
            prompt_id = self._post("prompt", {"prompt": prompt, "client_id": self._client_id})["prompt_id"]
            while True:
                try:
                    message = connection.recv()
                    pulse.beat()
                except websocket.WebSocketTimeoutException:
                    on_event("heartbeat", {})
                    self._check(pulse)
                    continue
                except (websocket.WebSocketException, OSError):
                    connection = self._connect(connection)
                    if outputs := self._finished(prompt_id):  # while nobody listened
                        return outputs
                    continue
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

    def _connect(self, lost: websocket.WebSocket | None = None) -> websocket.WebSocket:
        """A websocket to the server, in the place of one that was lost."""
        if lost:
            lost.close()
        pulse = Pulse(self._process.pid)
        while True:
            try:
                address = f"ws://127.0.0.1:{self.port}/ws?clientId={self._client_id}"
                connection = websocket.create_connection(address, timeout=ANSWER_SECONDS)
                connection.settimeout(BEAT_SECONDS)
                return connection
            except (websocket.WebSocketException, OSError):
                self._check(pulse)
                time.sleep(0.25)

    def _finished(self, prompt_id: str) -> dict | None:
        """The outputs of a prompt that is in the history. Raises ServerError if it failed."""
        entry = self.get(f"history/{prompt_id}").get(prompt_id)
        if entry and entry["status"]["status_str"] == "error":
            raise ServerError(f"comfyui: the prompt failed: {entry['status']['messages'][-1]}")
        return entry and entry["outputs"]
