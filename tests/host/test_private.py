"""Every name of ComfyUI's that nodes/host/private.py looks up, gone: the pack starts, and what the table there says is
what fails, with that name.
"""

import ast
import importlib.util
import inspect
import sys
from types import SimpleNamespace

import pytest
import torch
from comfy_host import PromptFailed, pack_module
from test_ab_node import ab_prompt

from workflows import carved, dial, staged, stock_sampler, workflow

SETTINGS = {"steps": 4, "cfg": 3.0}
EVERY = {"Jenga Attention", "Jenga", "sampler", "A/B"}
STAGES = {"Jenga", "sampler", "A/B"}  # the A/B prompt has the Jenga node
FAILS = {
    ("comfy.patcher_extension", "WrappersMP"): EVERY,
    ("comfy.patcher_extension", "add_wrapper_with_key"): EVERY,
    ("comfy.model_patcher", "create_model_options_clone"): STAGES,
    ("comfy.model_sampling", "CONST"): STAGES,
    ("comfy.sample", "fix_empty_latent_channels"): {"sampler", "A/B"},
    ("latent_preview", "prepare_callback"): {"sampler"},
    ("comfy.sample", "prepare_noise"): {"A/B"},
    ("comfy.sample", "sample"): {"A/B"},
    ("comfy.utils", "ProgressBar"): {"A/B"},
    ("comfy.samplers", "KSampler"): {"A/B"},
    ("comfy.ldm.modules.attention", "optimized_attention"): {"A/B"},
    ("comfy.ldm.modules.attention", "attention_pytorch"): {"A/B"},
    ("comfy.ldm.modules.attention", "attention_sub_quad"): {"A/B"},
    ("comfy_execution.graph_utils", "ExecutionBlocker"): {"report"},
}
# These fail where a run needs them: with audio, with a sampler that reports no step, with Wan's published coefficients.
FAILS_ELSEWHERE = [
    ("comfy.utils", "pack_latents"),
    ("comfy.utils", "unpack_latents"),
    ("comfy.nested_tensor", "NestedTensor"),
    ("comfy.samplers", "sampler_object"),
    ("comfy.ldm.wan.model", "sinusoidal_embedding_1d"),
]
DOES_WITHOUT = [
    ("comfy.cli_args", "args"),
    ("comfy_api.torch_helpers.torch_compile", "TORCH_COMPILE_KWARGS"),
    ("comfy.model_patcher", "ModelPatcher"),
    ("comfy.model_prefetch", "pause_malloc_graph"),  # of newer versions
    ("comfy.model_management", "soft_empty_cache"),
    ("comfy.model_management", "intermediate_device"),
    ("comfy.utils", "PROGRESS_BAR_ENABLED"),
    ("server", "PromptServer"),
]
NAMES = [*FAILS, *FAILS_ELSEWHERE, *DOES_WITHOUT]


@pytest.fixture
def root(host) -> str:
    """The module that ComfyUI made of this repository."""
    return pack_module("nodes").__name__.removesuffix(".nodes")


@pytest.fixture
def private(host):
    return pack_module("nodes.host.private")


@pytest.fixture
def without(private, monkeypatch):
    """without(module, name): from now on private.py does not find it; ComfyUI itself does."""

    class Module:
        def __init__(self, module: str, name: str):
            self.real, self.gone = importlib.import_module(module), name

        def __getattr__(self, name: str):
            if name == self.gone:
                raise AttributeError(name)
            return getattr(self.real, name)

    def take_away(module: str, name: str) -> None:
        def import_module(wanted: str):
            return Module(module, name) if wanted == module else importlib.import_module(wanted)

        monkeypatch.setattr(private, "importlib", SimpleNamespace(import_module=import_module))

    return take_away


def prompts() -> dict[str, dict]:
    """One run of every node."""
    made = {
        "Jenga Attention": stock_sampler(workflow([carved()], **SETTINGS)),
        "Jenga": stock_sampler(workflow([dial()], **SETTINGS)),
        "sampler": workflow(**SETTINGS, **staged()),
        "A/B": ab_prompt(dial(), noise_floor=True, **SETTINGS),
        "report": workflow(**SETTINGS),
    }
    for name in EVERY - {"A/B"}:
        del made[name]["report"]
    return made


def test_the_names_are_those_that_private_looks_up(private):
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(private))) if isinstance(node, ast.Call)]
    calls = [node for node in calls if getattr(node.func, "id", "") in ("_named", "_optional")]
    assert len(calls) > 20
    assert {tuple(argument.value for argument in node.args[:2]) for node in calls} == set(NAMES)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_the_pack_starts_without_a_name(root, monkeypatch, caplog, module, name):
    pack = importlib.import_module(f"{root}.nodes.pack")
    if importlib.util.find_spec(module) is not None:  # else this ComfyUI is too old to have it
        monkeypatch.delattr(importlib.import_module(module), name, raising=name != "pause_malloc_graph")
    for loaded in [key for key in sys.modules if key.startswith(f"{root}.") and key != pack.__name__]:
        monkeypatch.delitem(sys.modules, loaded)
    lost = "JengaAB" if name == "KSampler" else None  # its inputs are names of samplers
    left = [node.__name__ for node in pack.load_nodes()]
    assert left == [entry.node_id for entry in pack.NODES if entry.node_id != lost]
    if lost:
        assert f"the node {lost} is left out" in caplog.text and f"{module}.{name}" in caplog.text
    else:
        assert caplog.text == ""


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_what_fails_without_a_name_and_what_does_not(host, without, module, name):
    without(module, name)
    failed = set()
    for title, prompt in prompts().items():
        host.forget()
        try:
            host.run(prompt)
        except PromptFailed as error:
            assert f"ComfyUI must have {module}.{name}" in str(error)
            failed.add(title)
    assert failed == FAILS.get((module, name), set())


@pytest.mark.parametrize(("module", "name"), FAILS_ELSEWHERE)
def test_what_fails_where_a_run_needs_it(private, without, module, name):
    calls = {
        "pack_latents": lambda: private.pack([torch.zeros(1, 2)]),
        "unpack_latents": lambda: private.unpack(torch.zeros(1, 1, 2), [(1, 2)]),
        "NestedTensor": lambda: private.nested([torch.zeros(1, 2)]),
        "sampler_object": private.euler_sampler,
        "sinusoidal_embedding_1d": lambda: private.wan_time_embedding(4, torch.zeros(1)),
    }
    calls[name]()
    without(module, name)
    with pytest.raises(RuntimeError, match=f"ComfyUI must have {module}.{name}, got a version without it; update"):
        calls[name]()


@pytest.mark.parametrize(
    ("named", "special"),
    [
        (None, False),
        ("pytorch_cross", False),
        *((name, True) for name in ("split_cross", "quad_cross", "sage", "flash")),
    ],
)
def test_attention_that_was_chosen_by_name_is_what_anchors_get(private, monkeypatch, named, special):
    """But torch's, which is what ComfyUI takes for most GPUs anyway."""
    args = sys.modules["comfy.cli_args"].args
    for name in ("pytorch_cross", "split_cross", "quad_cross", "sage", "flash"):
        assert hasattr(args, f"use_{name}_attention")
        monkeypatch.setattr(args, f"use_{name}_attention", name == named)
    assert private.special_attention_chosen() == special
