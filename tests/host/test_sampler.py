"""Progressive Resolution Sampler in real ComfyUI: one stage is the stock sampler; stages, noise, progress, interrupt."""

import pytest
import torch

from workflows import carved, report, samples, staged, workflow


def test_one_stage_is_the_stock_sampler(host):
    stock = samples(host.run(workflow(cfg=3.0)))
    one = staged(scales="1.0", switch_points="", shift_ratios="1.0")
    assert torch.equal(samples(host.run(workflow(cfg=3.0, **one))), stock)


@pytest.mark.parametrize("sampler_name", ["euler", "uni_pc", "dpmpp_2m_sde", "heun"])
def test_two_stages_with_every_kind_of_sampler(host, sampler_name):
    outputs = host.run(workflow([carved()], steps=4, sampler_name=sampler_name, **staged()))
    assert torch.isfinite(samples(outputs)).all()
    assert samples(outputs).shape == (1, 16, 3, 24, 24)
    stages = report(outputs)["stages"]
    assert [stage["latent_shape"][-2:] for stage in stages] == [[12, 12], [24, 24]]
    assert [stage["steps"] for stage in stages] == [3, 1]
    assert host.progress[0][1] == 4
    assert [value for value, _ in host.progress] == sorted(value for value, _ in host.progress)
    assert host.progress[-1] == (4, 4)
