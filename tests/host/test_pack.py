"""The table of nodes: all are registered, and one that cannot be imported is left out alone (test_private.py)."""

import pytest
from comfy_host import pack_module


@pytest.fixture
def pack(host):
    """The module `nodes.pack` of the pack that ComfyUI has loaded."""
    return pack_module("nodes.pack")


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


def test_the_demo_node_may_be_absent_and_no_other(pack, caplog):
    entries = pack.Entry("JengaDemoPrompt", "..nowhere.prompt_node", optional=True), pack.Entry("Jenga", ".jenga")
    assert [node.__name__ for node in pack.load_nodes(entries)] == ["Jenga"]
    assert caplog.text == ""
    assert pack.load_nodes((pack.Entry("Jenga", ".nowhere"),)) == []
    assert "the node Jenga is left out" in caplog.text
