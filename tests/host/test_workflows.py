"""The example workflows are what this pack and ComfyUI understand: converted and validated by the real server."""

import json
import urllib.error
import urllib.request
from urllib.parse import quote

import pytest
from comfy_cli.workflow_to_api import convert_ui_to_api
from comfy_host import PACK, ROOT, version
from PIL import Image

from demo.comfyui import NEWEST

WORKFLOWS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
# Inputs whose choices are the files in ComfyUI's `models`, which a test machine does not have.
MODEL_FILE_INPUTS = {"unet_name", "clip_name", "clip_name1", "clip_name2", "vae_name", "lora_name"}


@pytest.fixture(scope="module")
def object_info(server):
    """/object_info, with the picture in the input folder that the image workflows start from."""
    Image.new("RGB", (64, 48), "red").save(server.base / "input" / "example.png")
    return server.get("object_info")


def graph(name: str) -> dict:
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text())


def errors_of(server, prompt: dict) -> list[tuple[str, str, str]]:
    """Node type, kind of error and input of everything that /prompt refuses."""
    body = json.dumps({"prompt": prompt}).encode()
    request = urllib.request.Request(f"{server.address}/prompt", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        answer = json.load(error)
    return [
        (entry["class_type"], error["type"], error["extra_info"].get("input_name", ""))
        for entry in answer["node_errors"].values()
        for error in entry["errors"]
    ]


def test_every_workflow_has_a_builder_and_a_thumbnail():
    from scripts.make_workflows import BUILDERS

    assert sorted(module.__name__.rpartition(".")[2] for module in BUILDERS) == WORKFLOWS
    for name in WORKFLOWS:
        with Image.open(ROOT / "workflows" / f"{name}.jpg") as picture:
            assert picture.size == (384, 384)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_file_is_what_its_builder_writes(object_info, name):
    from scripts.make_workflows import BUILDERS

    if version() != NEWEST:
        pytest.skip(f"the files are written with ComfyUI {NEWEST}")
    (module,) = (module for module in BUILDERS if module.__name__.endswith(f".{name}"))
    written = (ROOT / "workflows" / f"{name}.json").read_text()
    assert module.build(object_info).dumps() == written, "run `python -m scripts.make_workflows`"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_server_accepts_it_but_for_model_files(server, object_info, name):
    prompt = convert_ui_to_api(graph(name), object_info)
    assert len(prompt) == sum(node["type"] != "MarkdownNote" for node in graph(name)["nodes"])
    refused = errors_of(server, prompt)
    assert refused  # the model files at least: no workflow of this folder may run here
    assert [entry for entry in refused if entry[1] != "value_not_in_list" or entry[2] not in MODEL_FILE_INPUTS] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_it_has_a_note_and_jenga_nodes(name):
    types = [node["type"] for node in graph(name)["nodes"]]
    assert "MarkdownNote" in types
    assert any(type_.startswith("Jenga") for type_ in types)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_template_browser_gets_it_with_its_thumbnail(server, name):
    assert name in server.get("api/workflow_templates")[PACK]
    assert server.get(f"api/workflow_templates/{quote(PACK)}/{name}.json") == graph(name)
    assert server.read(f"api/workflow_templates/{quote(PACK)}/{name}.jpg")[:2] == b"\xff\xd8"
