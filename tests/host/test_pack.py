"""The table of nodes: what ComfyUI has moved costs the nodes that need it, and no other."""

import importlib
import sys

import pytest


@pytest.fixture
def pack(host):
    """The module `nodes.pack` of the pack that ComfyUI has loaded."""
    import nodes

    root = nodes.NODE_CLASS_MAPPINGS["Jenga"].__module__.removesuffix(".nodes.jenga")
    return importlib.import_module(f"{root}.nodes.pack")


def test_every_node_of_the_table_is_registered(pack):
    import nodes

    assert [node.GET_SCHEMA().node_id for node in pack.load_nodes()] == [entry.node_id for entry in pack.NODES]
    assert {entry.node_id for entry in pack.NODES} == {
        "Jenga",
        "JengaAttention",
        "JengaProgressiveSampler",
        "JengaReport",
        "JengaCompare",
        "JengaAB",
        "JengaDemoPrompt",
    }
    assert {entry.node_id for entry in pack.NODES} <= set(nodes.NODE_CLASS_MAPPINGS)


@pytest.mark.parametrize(
    ("module", "name", "lost"),
    [
        ("comfy_execution.graph_utils", "ExecutionBlocker", "JengaReport"),
        ("comfy.model_patcher", "create_model_options_clone", "JengaProgressiveSampler"),
        ("comfy.ldm.wan.model", "sinusoidal_embedding_1d", None),
        ("server", "PromptServer", None),
    ],
)
def test_a_name_that_comfyui_has_moved_costs_one_node(pack, monkeypatch, caplog, module, name, lost):
    monkeypatch.delattr(importlib.import_module(module), name)
    root = pack.__name__.removesuffix(".nodes.pack")
    for loaded in [key for key in sys.modules if key.startswith(f"{root}.") and key != pack.__name__]:
        monkeypatch.delitem(sys.modules, loaded)
    left = [node.__name__ for node in pack.load_nodes()]
    assert left == [entry.node_id for entry in pack.NODES if entry.node_id != lost]
    if lost:
        assert f"the node {lost} is left out" in caplog.text and name in caplog.text
    else:
        assert caplog.text == ""


def test_the_demo_node_may_be_absent_and_no_other(pack, caplog):
    entries = pack.Entry("JengaDemoPrompt", "..nowhere.prompt_node", optional=True), pack.Entry("Jenga", ".jenga")
    assert [node.__name__ for node in pack.load_nodes(entries)] == ["Jenga"]
    assert caplog.text == ""
    assert pack.load_nodes((pack.Entry("Jenga", ".nowhere"),)) == []
    assert "the node Jenga is left out" in caplog.text
