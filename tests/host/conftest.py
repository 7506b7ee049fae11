"""Real ComfyUI in this process: its executor, stock loaders, tiny checkpoints, and this repository as a node pack."""

import asyncio
import os
import sys
import uuid
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COMFYUI = Path(os.environ.get("JENGA_COMFYUI", ROOT / ".cache" / "ComfyUI"))


class PromptFailed(Exception):
    """A prompt that ComfyUI refused, or a node that raised; the text is ComfyUI's."""


class Host:
    """ComfyUI's prompt executor. `status` collects the texts on the nodes as (node id, text)."""

    def __init__(self, base: Path):
        self.base = base
        self.status: list[tuple[str, str]] = []
        self.progress: list[tuple[int, int]] = []
        self.on_progress = self.on_preview = None
        self._loop, self._server, self._executor = _start(base)
        self._server.send_progress_text = lambda text, node_id, sid=None: self.status.append((node_id, text))
        import comfy.utils

        comfy.utils.set_progress_bar_global_hook(self._progress)
        comfy.utils.PROGRESS_THROTTLE_MIN_INTERVAL = 0  # these steps are faster than a page wants to hear of

    def _progress(self, value, total, preview, **_):
        self.progress.append((value, total))
        if self.on_preview and preview:
            self.on_preview(preview)
        if self.on_progress:
            self.on_progress(value)

    def run(self, prompt: dict, **extra_data) -> dict:
        """Outputs of an API prompt by node id. Raises PromptFailed."""
        import execution

        self.status.clear()
        self.progress.clear()
        prompt_id = str(uuid.uuid4())
        valid, error, outputs, node_errors = self._loop.run_until_complete(
            execution.validate_prompt(prompt_id, prompt, None)
        )
        if not valid:
            raise PromptFailed(f"{error} {node_errors}")
        self._loop.run_until_complete(self._executor.execute_async(prompt, prompt_id, extra_data, outputs))
        if not self._executor.success:
            raise PromptFailed(str(self._executor.status_messages[-1]))
        return self._executor.history_result["outputs"]

    def forget(self) -> None:
        """Drop every cached node output, so that the next prompt runs whole."""
        self._executor.reset()


def _start(base: Path):
    sys.argv = ["main.py", "--cpu", "--base-directory", str(base), "--disable-api-nodes"]
    sys.argv += ["--database-url", "sqlite:///:memory:", "--use-pytorch-cross-attention"]
    sys.path.insert(0, str(COMFYUI))
    os.chdir(COMFYUI)
    import comfy.options

    comfy.options.enable_args_parsing()
    import tiny_checkpoints
    import utils.extra_config  # noqa: F401  before nodes, which puts another `utils` on the path

    tiny_checkpoints.make_all(base / "models" / "diffusion_models")
    import execution
    import server

    import nodes

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    prompt_server = server.PromptServer(loop)
    loop.run_until_complete(nodes.init_extra_nodes(init_custom_nodes=True, init_api_nodes=False))
    executor = execution.PromptExecutor(
        prompt_server,
        cache_type=execution.CacheType.CLASSIC,
        cache_args={"lru": 0, "ram": 0, "ram_inactive": 0},
    )
    return loop, prompt_server, executor


@pytest.fixture(scope="session")
def base_directory(tmp_path_factory) -> Path:
    """A ComfyUI base folder with this repository and the test nodes in custom_nodes."""
    if not (COMFYUI / "main.py").is_file():
        pytest.skip(f"no ComfyUI in {COMFYUI}: run `python -m demo.comfyui`, or set JENGA_COMFYUI to one")
    base = tmp_path_factory.mktemp("comfyui")
    packs = base / "custom_nodes"
    packs.mkdir()
    (packs / "jenga").symlink_to(ROOT, target_is_directory=True)
    (packs / "jenga_test_nodes").symlink_to(HERE / "test_nodes", target_is_directory=True)
    return base


@pytest.fixture(scope="session")
def host_session(base_directory) -> Host:
    folder = os.getcwd()
    yield Host(base_directory)
    os.chdir(folder)


@pytest.fixture
def host(host_session) -> Host:
    host_session.forget()
    host_session.on_progress = host_session.on_preview = None
    return host_session
