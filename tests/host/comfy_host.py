"""Real ComfyUI in this process: its executor, its stock loaders and the tiny checkpoints."""

import asyncio
import importlib
import os
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from tiny_models import MODELS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACK = "jenga-main"  # this repository's folder in custom_nodes, called as GitHub calls a download
COMFYUI = Path(os.environ.get("JENGA_COMFYUI", ROOT / ".cache" / "ComfyUI"))


def version() -> str:
    """Of this ComfyUI."""
    return (COMFYUI / "comfyui_version.py").read_text(encoding="utf-8").split('"')[1]


def pack_module(name: str) -> ModuleType:
    """A module of the pack that runs, such as "nodes.host.switch": tests of loading load others under other names."""
    import nodes

    root = nodes.NODE_CLASS_MAPPINGS["Jenga"].__module__.removesuffix(".nodes.jenga")
    return importlib.import_module(f"{root}.{name}")


def require_model(supported: str | None) -> None:
    """Skips a test of a model that an older ComfyUI lacks. supported: its class in comfy.supported_models, or None."""
    import comfy.supported_models

    if supported is not None and not hasattr(comfy.supported_models, supported):
        pytest.skip(f"this ComfyUI has no {supported}")


class PromptFailed(Exception):
    """A prompt that ComfyUI refused, or a node that raised; the text is ComfyUI's."""


class Host:
    """The prompt executor of the ComfyUI that `import_comfyui` has imported, with the custom nodes of its base folder.

    `status` collects the texts on the nodes as (node id, text).
    """

    def __init__(self, base: Path):
        self.base = base
        self.status: list[tuple[str, str]] = []
        self.progress: list[tuple[int, int]] = []
        self.on_progress = self.on_preview = None
        self.after_run = None  # gets the outputs and the status of every run
        self._loop, self._server, self._executor = _serve()
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
        """Outputs of an API prompt by node id. Raises PromptFailed; skips a test of a model that this ComfyUI lacks."""
        import execution

        for made in prompt.values():
            if made["class_type"] == "JengaTestModel":
                require_model(MODELS.get(made["inputs"]["name"], (None,))[0])
        self.status.clear()
        self.progress.clear()
        prompt_id = str(uuid.uuid4())
        valid, error, wanted, node_errors = self._loop.run_until_complete(
            execution.validate_prompt(prompt_id, prompt, None)
        )
        if not valid:
            raise PromptFailed(f"{error} {node_errors}")
        self._loop.run_until_complete(self._executor.execute_async(prompt, prompt_id, extra_data, wanted))
        if not self._executor.success:
            raise PromptFailed(str(self._executor.status_messages[-1]))
        outputs = self._executor.history_result["outputs"]
        kept = self._executor.caches.outputs.get
        if not asyncio.iscoroutinefunction(kept):  # an older ComfyUI, which leaves out what it had kept
            outputs |= {node_id: kept(node_id).ui["output"] for node_id in {*wanted} - outputs.keys()}
        if self.after_run:
            self.after_run(outputs, self.status)
        return outputs

    def interrupt(self, prompt: dict, at: int, before: Callable[[], None] = lambda: None) -> None:
        """Runs a prompt afresh that the user interrupts at that step of its progress, if it gets there. before(): what
        to look at just then. Raises PromptFailed, where it was interrupted.
        """
        from comfy.model_management import InterruptProcessingException

        def interrupt(step):
            if step == at:
                before()
                raise InterruptProcessingException

        self.forget()
        self.on_progress = interrupt
        try:
            self.run(prompt)
        finally:
            self.on_progress = None

    def wait_for(self, coroutine):
        """The result of a coroutine of ComfyUI's, on its event loop."""
        return self._loop.run_until_complete(coroutine)

    def forget(self) -> None:
        """Drop every cached node output, so that the next prompt runs whole."""
        self._executor.reset()


def import_comfyui(base: Path) -> None:
    """Imports ComfyUI with this base folder and makes the tiny checkpoints; no custom node is loaded yet."""
    sys.argv = ["main.py", "--cpu", "--base-directory", str(base), "--disable-api-nodes"]
    sys.argv += ["--database-url", "sqlite:///:memory:", "--use-pytorch-cross-attention"]
    sys.path.insert(0, str(COMFYUI))
    import comfy.options

    comfy.options.enable_args_parsing()
    import tiny_checkpoints
    import utils.extra_config  # noqa: F401  before nodes, which puts another `utils` on the path

    tiny_checkpoints.make_all(base / "models" / "diffusion_models")
    import execution  # noqa: F401
    import server  # noqa: F401

    import nodes  # noqa: F401


def _serve():
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
