"""ComfyUI as users start it: the nodes are listed, their help is served, and a prompt runs over HTTP."""

from urllib.parse import quote

import pytest
from comfy_host import PACK

from workflows import carved, node, staged, workflow

IN_VIEW = {"model", "density", "quality"}  # of Jenga Attention; everything else is behind "advanced"


@pytest.fixture(scope="module")
def pack_nodes(server) -> dict:
    """The /object_info entries of this pack's nodes, by id."""
    info = server.get("object_info")
    return {name: entry for name, entry in info.items() if entry["python_module"] == f"custom_nodes.{PACK}"}


def test_nodes_are_listed_with_their_widgets(pack_nodes):
    assert {"JengaAttention", "JengaProgressiveSampler", "JengaReport", "JengaCompare"} <= set(pack_nodes)
    for entry in pack_nodes.values():
        assert entry["category"].startswith("Jenga")
        assert entry["description"]
    inputs = pack_nodes["JengaAttention"]["input"]["required"]
    assert inputs["density"][1]["default"] == 0.2
    assert {name for name, (_, options) in inputs.items() if not options.get("advanced")} <= IN_VIEW
    assert pack_nodes["JengaProgressiveSampler"]["output_name"] == ["output", "denoised_output"]


def test_every_node_has_a_help_page(server, pack_nodes):
    for name, entry in pack_nodes.items():
        page = server.read(f"extensions/{quote(PACK)}/docs/{name}.md").decode()
        assert page.startswith(f"# {entry['display_name']}\n"), name


def test_a_prompt_runs(server):
    prompt = workflow([carved()], **staged())
    del prompt["capture"]  # its raw tensor is for tests in one process
    prompt["save"] = node("SaveLatent", samples=["report", 0], filename_prefix="jenga_test")
    outputs = server.run(prompt)
    figures = outputs["report"]["jenga_report"][0]
    assert [stage["latent_shape"][-1] for stage in figures["stages"]] == [12, 24]
    assert outputs["save"]["latents"]
