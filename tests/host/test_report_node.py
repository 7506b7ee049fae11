"""Jenga Report: the figures of the last run of a model, as text, picture and JSON."""

import json
import sys

import pytest
import torch
from comfy_host import PromptFailed

from workflows import carved, node, report, staged, workflow


def run_with_text(host, **arguments):
    prompt = workflow(**arguments)
    prompt["image"] = node("PreviewImage", images=["report", 2])
    return host.run(prompt)


def test_figures_of_a_staged_run(host):
    outputs = run_with_text(host, patches=[carved()], steps=12, **staged(step_reuse="static"))
    figures = report(outputs)
    json.dumps(figures)
    assert len(figures["seconds_per_step"]) == 12
    assert all(seconds >= 0 for seconds in figures["seconds_per_step"])
    assert [stage["scale"] for stage in figures["stages"]] == [0.5, 1.0]
    assert sum(stage["seconds"] for stage in figures["stages"]) == figures["seconds"]
    assert len(figures["kept_share_map"]) == 2
    assert {len(row) for row in figures["kept_share_map"]} == {12}
    text = outputs["report"]["text"][0]
    for words in ("| model calls computed / reused | 7 / 5 |", "3×12×12", "3×24×24", "kept share"):
        assert words in text
    assert outputs["image"]["images"]


def test_report_is_of_the_last_run(host):
    assert report(host.run(workflow([carved()], steps=2)))["model_calls_computed"] == 2
    assert report(host.run(workflow([carved()], steps=4)))["model_calls_computed"] == 4


def test_picture_without_matplotlib_is_plain_and_says_so(host, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    outputs = run_with_text(host, patches=[carved()])
    assert "matplotlib is not installed" in outputs["report"]["text"][0]
    assert outputs["image"]["images"]


def test_stock_sampler_of_an_unpatched_model_has_no_figures(host):
    outputs = host.run(workflow())
    assert report(outputs)["model_calls_computed"] == 0
    assert outputs["report"]["text"][0].startswith("No run yet.")


FRAMES = {"width": 192, "height": 192, "batch_size": 9, "color": 0xFFFFFF}  # what GRID decodes to


def with_kept_blocks(frames=None, **arguments) -> dict:
    """A carved run whose report gets frames; the kept blocks go to the test."""
    chosen = {name: arguments.pop(name) for name in ("layer", "head", "query_block") if name in arguments}
    prompt = workflow(**{"patches": [carved()], "steps": 2, **arguments})
    prompt["frames"] = node("EmptyImage", **{**FRAMES, **(frames or {})})
    prompt["report"]["inputs"] |= {"frames": ["frames", 0], **chosen}
    prompt["kept"] = node("JengaTestCaptureAny", value0=["report", 3])
    return prompt


def test_kept_blocks_of_the_run_are_drawn_on_its_frames(host):
    """A density of 0.3 keeps 3 of 7 key blocks: so many tokens of 64 are bright, the others dark."""
    outputs = host.run(with_kept_blocks(layer=1, head=0, query_block=1))
    clip = outputs["kept"]["values"][0]
    assert clip.shape == (9, 192, 192, 3)
    latent = clip[[0, 4, 8]]  # one video frame of every latent frame
    tokens = latent.unflatten(2, (12, 16)).unflatten(1, (12, 16))[:, :, 8, :, 8]  # the middle pixel of every token
    kept = int((tokens[:, 3:, :, 0] > 0.9).sum())  # white under orange keeps its red; the label covers the upper rows
    assert 0 < kept <= 3 * 64
    whole = int((tokens[..., 0] > 0.9).sum())
    assert kept <= whole <= 3 * 64
    assert (clip == torch.tensor([0.0, 1.0, 1.0])).all(-1).any()  # the outline


def test_kept_blocks_of_an_anchored_run_are_those_of_a_carved_evaluation(host):
    patch = carved(quality="custom", anchor_distance="4")
    outputs = host.run(with_kept_blocks(patches=[patch], steps=8))
    figures = report(outputs)
    assert figures["anchors"] > 0 and outputs["kept"]["values"][0].shape[0] == 9
    assert [one["anchors"] for one in figures["evaluations"]][0] == 2  # both layers at the first step
    assert figures["speed_estimate"]["carving"] > 0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"layer": 7}, r"layer must be one that was carved \(0, 1\), got 7"),
        ({"head": 50}, "head must be from 0 to .*, got 50"),
        ({"query_block": 9}, "query_block must be from 0 to 3, got 9"),
        ({"frames": {"batch_size": 8}}, "frames must be the 9 that 3 latent frames decode to, got 8"),
    ],
)
def test_kept_blocks_that_are_not_there_are_refused(host, changes, message):
    with pytest.raises(PromptFailed, match=message):
        host.run(with_kept_blocks(**changes))


def test_a_run_without_kept_blocks_says_so_and_gives_the_rest(host):
    outputs = host.run(with_kept_blocks(patches=[carved(min_tokens=100000)]))
    assert "kept" not in outputs
    assert "no kept blocks to draw: the run carved nothing" in outputs["report"]["text"][0]


def test_resolution_and_reuse_have_their_factors_and_memory_is_told(host):
    outputs = host.run(workflow(patches=[carved()], steps=12, **staged(step_reuse="static")))
    figures = report(outputs)
    speed = figures["speed_estimate"]
    assert speed["reuse"] > 1.2  # 7 of 12 calls are computed
    assert speed["total"] == pytest.approx(speed["carving"] * speed["resolution"] * speed["reuse"])
    assert figures["peak_memory"]["bytes"] > figures["peak_memory"]["growth"] >= 0
    assert [one["stage"] for one in figures["evaluations"]] == [0] * 7 + [1] * 5
