"""Adaptive step reuse in real ComfyUI: which rule a model gets, and the steps that the published one computes."""

from types import ModuleType

import pytest
import torch
from comfy_host import Host, pack_module
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from workflows import dial, report, samples, staged, workflow

ONE_STAGE = {"preset": "custom", "scales": "1.0", "switch_points": "", "shift_ratios": "1.0"}
STEPS = 16
# Published by TeaCache; for the test's own sums
POLYNOMIALS = {
    "Wan 1.3B": [-5.21862437e4, 9.23041404e3, -5.28275948e2, 1.36987616e1, -4.99875664e-2],
    "Wan 14B": [-3.03318725e5, 4.90537029e4, -2.65530556e3, 5.87365115e1, -3.15583525e-1],
}


@pytest.fixture
def wan(host) -> ModuleType:
    """nodes/host/families/wan.py of the pack that runs."""
    return pack_module("nodes.host.families.wan")


@pytest.fixture(scope="module")
def smooth(host_session: Host) -> str:
    """A tiny Wan whose time modulation changes slowly, as a trained one's does: it does not see fast frequencies."""
    folder = host_session.base / "models" / "diffusion_models"
    with safe_open(folder / "wan_t2v.safetensors", "pt") as file:
        metadata = file.metadata()
    weights = load_file(folder / "wan_t2v.safetensors")
    weights["time_embedding.0.weight"].unflatten(1, (2, 128))[:, :, :80] = 0
    save_file(weights, folder / "wan_smooth.safetensors", metadata=metadata)
    return "wan_smooth"


def adaptive(checkpoint: str, threshold: float = 0.15, steps: int = STEPS, cfg: float = 1.0, **stages) -> dict:
    stages = {**ONE_STAGE, "step_reuse": "adaptive", "reuse_threshold": threshold, **stages}
    return workflow(checkpoint=checkpoint, steps=steps, cfg=cfg, **staged(**stages))


def computed(outputs) -> list[int]:
    return [step for step, evaluation in enumerate(report(outputs)["evaluations"]) if evaluation["computed"]]


def changes_of_modulation(host: Host, checkpoint: str) -> list[float]:
    """Relative change of the projected time modulation from each step of the schedule to the next.

    The schedule is "simple" with Wan's shift of 8: every (1000 / STEPS)-th of 1000 times.
    """
    import comfy.sd

    path = host.base / "models" / "diffusion_models" / f"{checkpoint}.safetensors"
    model = comfy.sd.load_diffusion_model(str(path)).model.diffusion_model
    frequencies = 10000 ** (-torch.arange(model.freq_dim // 2) / (model.freq_dim // 2))
    made = []
    with torch.no_grad():
        for step in range(STEPS):
            time = (1000 - int(step * 1000 / STEPS)) / 1000
            angles = 1000 * (8 * time / (1 + 7 * time)) * frequencies
            made.append(model.time_projection(model.time_embedding(torch.cat([angles.cos(), angles.sin()]))))
    return [float((b - a).abs().mean() / a.abs().mean()) for a, b in zip(made, made[1:], strict=False)]


def expected_steps(changes: list[float], polynomial: list[float], threshold: float) -> list[int]:
    """By hand: the first five steps, the last, and those at which the sum has come to the threshold."""
    steps, total = [0], 0.0
    for step, d in enumerate(changes, 1):
        total += sum(c * d**power for c, power in zip(polynomial, (4, 3, 2, 1, 0), strict=True))
        if step < 5 or step == len(changes) or total >= threshold:
            steps.append(step)
            total = 0.0
    return steps


@pytest.mark.parametrize("threshold", [0.15, 0.25])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_wan_computes_the_steps_that_its_own_embedding_asks_for(host, wan, smooth, monkeypatch, name, threshold):
    monkeypatch.setitem(wan.TEXT_TO_VIDEO, 256, name)
    expected = expected_steps(changes_of_modulation(host, smooth), POLYNOMIALS[name], threshold)
    assert 7 <= len(expected) <= STEPS - 4
    for cfg in (1.0, 3.0):
        outputs = host.run(adaptive(smooth, threshold, cfg=cfg))
        assert computed(outputs) == expected
        assert torch.isfinite(samples(outputs)).all()
        assert f"step reuse: adaptive by the published {name} coefficients" in report(outputs)["notes"]
        assert any(f"published {name} coefficients" in text for node_id, text in host.status if node_id == "sampler")


def test_threshold_zero_computes_everything_under_published_coefficients(host, wan, smooth, monkeypatch):
    """A constant polynomial below zero, whose sum no threshold would ever stop."""
    monkeypatch.setitem(wan.TEXT_TO_VIDEO, 256, "Wan 14B")
    monkeypatch.setitem(wan.WAN_COEFFICIENTS, "Wan 14B", (-1.0,))
    assert computed(host.run(adaptive(smooth, 0.0))) == list(range(STEPS))
    assert computed(host.run(adaptive(smooth, 0.005))) == [0, 1, 2, 3, 4, STEPS - 1]


def test_a_new_size_is_computed_under_published_coefficients(host, wan, smooth, monkeypatch):
    monkeypatch.setitem(wan.TEXT_TO_VIDEO, 256, "Wan 14B")
    outputs = host.run(adaptive(smooth, 1.0, scales="0.5, 1.0", switch_points="0.5", shift_ratios="1.0, 1.0"))
    first = report(outputs)["stages"][0]["steps"]
    assert computed(outputs) == [0, 1, 2, 3, 4, first, STEPS - 1]


@pytest.mark.parametrize(("preset", "threshold"), [("high", 0.2), ("balanced", 0.2), ("fast", 0.2)])
def test_the_dial_does_not_go_beyond_what_was_published(host, wan, smooth, monkeypatch, preset, threshold):
    """Its own thresholds were measured with the other rule."""
    module, given = pack_module("nodes.host.step_reuse"), []

    class Rule(module.PublishedRule):
        def __init__(self, coefficients, signal, threshold, steps):
            given.append(threshold)
            super().__init__(coefficients, signal, threshold, steps)

    monkeypatch.setattr(module, "PublishedRule", Rule)
    monkeypatch.setitem(wan.TEXT_TO_VIDEO, 256, "Wan 14B")
    host.run(workflow([dial(preset)], checkpoint=smooth, steps=4))
    assert given == [threshold]
    host.run(workflow([dial(preset, step_reuse="adaptive", reuse_threshold=0.9)], checkpoint=smooth, steps=4))
    assert given == [threshold, 0.9]


def test_other_models_follow_their_input_and_the_jenga_node_says_so(host):
    for checkpoint in ("wan_t2v", "hunyuan_t2v"):
        outputs = host.run(adaptive(checkpoint, steps=3))
        assert "step reuse: adaptive by the change of the model's input" in report(outputs)["notes"]
    outputs = host.run(workflow([dial(step_reuse="adaptive")], steps=3))
    assert "step reuse: adaptive by the change of the model's input" in report(outputs)["notes"]


def diffusion_model(kind: str = "WanModel", dim: int = 5120, in_dim: int = 16, out_dim: int = 16, img_emb=None):
    model = type(kind, (), {})()
    model.dim, model.in_dim, model.out_dim, model.img_emb = dim, in_dim, out_dim, img_emb
    return model


@pytest.mark.parametrize(
    ("model", "size", "name"),
    [
        (diffusion_model(dim=1536), (60, 104), "Wan 1.3B"),
        (diffusion_model(dim=5120), (60, 104), "Wan 14B"),
        (diffusion_model(in_dim=36, img_emb=1), (60, 104), "Wan I2V 480P"),
        (diffusion_model(in_dim=36, img_emb=1), (104, 60), "Wan I2V 480P"),
        (diffusion_model(in_dim=36, img_emb=1), (90, 160), "Wan I2V 720P"),
        (diffusion_model(in_dim=36, img_emb=1, dim=1536), (60, 104), None),  # a model trained on: nothing published
        (diffusion_model(in_dim=36), (90, 160), None),  # Wan 2.2 image to video
        (diffusion_model(dim=3072, in_dim=48, out_dim=48), (44, 80), None),  # Wan 2.2 5B
        (diffusion_model(dim=256), (40, 64), None),
        (diffusion_model("VaceWanModel", dim=1536), (60, 104), None),
        (diffusion_model("HunyuanVideo"), (90, 160), None),
    ],
)
def test_coefficients_are_those_of_the_model(wan, model, size, name):
    assert wan.published_name(model, size) == name
