"""Every sampler and every scheduler of ComfyUI through two stages: of video, and of video with audio."""

import pytest
import torch

from workflows import node, report, staged, workflow

WAN = node("EmptyHunyuanLatentVideo", width=96, height=96, length=9, batch_size=1)  # latent 3 x 12 x 12
LTX2 = node("EmptyLTXVLatentVideo", width=384, height=384, length=17, batch_size=1)  # latent 3 x 12 x 12
SHAPES = {"wan": [(1, 16, 3, 12, 12)], "ltx2": [(1, 128, 3, 12, 12), (1, 8, 20, 16)]}


def two_stages(family: str, sampler_name="euler", scheduler="simple") -> dict:
    settings = {"steps": 5, "cfg": 3.0, "sampler_name": sampler_name, **staged(shift_ratios="1.0, 1.2")}
    if family == "wan":
        prompt = workflow(latent=WAN, **settings)
    else:
        prompt = workflow(checkpoint="ltxav", **settings)
        prompt["video"] = LTX2
        prompt["audio"] = node("JengaTestAudioLatent", length=20, keep_half=False)
        prompt["latent"] = node("LTXVConcatAVLatent", video_latent=["video", 0], audio_latent=["audio", 0])
    prompt["capture"] = node("JengaTestCaptureAny", value0=["sampler", 0])
    prompt["sigmas"]["inputs"]["scheduler"] = scheduler
    return prompt


def faults(outputs, family: str) -> list[str]:
    """What is wrong with a run; nothing is."""
    latent = outputs["capture"]["values"][0]["samples"]
    parts = latent.unbind() if latent.is_nested else [latent]
    found = {
        "shape": [tuple(part.shape) for part in parts] == SHAPES[family],
        "not finite": all(bool(torch.isfinite(part).all()) for part in parts),
        "empty": all(float(part.std()) > 0 for part in parts),
        "sizes": [stage["latent_shape"][-1] for stage in report(outputs)["stages"]] == [6, 12],
    }
    return [fault for fault, right in found.items() if not right]


@pytest.mark.parametrize("family", SHAPES)
def test_every_sampler(host, family):
    from comfy.samplers import SAMPLER_NAMES

    assert len(SAMPLER_NAMES) >= 40
    wrong = {name: faults(host.run(two_stages(family, sampler_name=name)), family) for name in SAMPLER_NAMES}
    assert {name: found for name, found in wrong.items() if found} == {}


@pytest.mark.parametrize("family", SHAPES)
def test_every_scheduler(host, family):
    from comfy.samplers import SCHEDULER_NAMES

    assert len(SCHEDULER_NAMES) >= 9
    wrong = {name: faults(host.run(two_stages(family, scheduler=name)), family) for name in SCHEDULER_NAMES}
    assert {name: found for name, found in wrong.items() if found} == {}
