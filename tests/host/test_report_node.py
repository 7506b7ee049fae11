"""Jenga Report: the figures of the last run of a model, as text, picture and JSON."""

import json
import sys

import torch

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


def test_drawing_keeps_reused_steps_empty(monkeypatch):
    from jenga.report import draw_kept_share

    image, remark = draw_kept_share([[0.2, None, 1.0]])
    assert image.shape[0] == 1 and image.shape[-1] == 3
    assert image.dtype == torch.float32 and 0 <= image.min() <= image.max() <= 1
    assert remark == ""
    image, remark = draw_kept_share([])
    assert image.shape == (1, 64, 64, 3)
    assert "no carved attention" in remark
