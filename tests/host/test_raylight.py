"""Carving under raylight: its published interface of inner attention, stood in for around ComfyUI's own MiniMax H3.

What is stood in for: the exchange (one process has all heads), the rows of zeros that make a sequence divide by the
ranks, and the call of the processor with the arguments of a ring attention function.
"""

import pytest
import torch
from comfy_host import PromptFailed, require_model

from jenga import AnchorConfig, JengaConfig
from jenga.integrations import raylight
from jenga.runtime.settings import CarvingSettings
from workflows import node, workflow

RING = {  # what xfuser hands to the function between its exchanges
    "dropout_p": 0.0,
    "softmax_scale": None,
    "causal": False,
    "window_size": (-1, -1),
    "group": None,
    "joint_tensor_key": None,
    "joint_tensor_value": None,
    "joint_strategy": "none",
}
KEPT = CarvingSettings(JengaConfig(density=1.0), min_tokens=0)
CARVED = CarvingSettings(JengaConfig(density=0.2), min_tokens=0)
ANCHORED = CarvingSettings(JengaConfig(density=0.2), (AnchorConfig(2),), min_tokens=0)


class StandIn:
    """raylight's attention of one rank. padding: rows of zeros behind the sequence. passes: it hands options on."""

    def __init__(self, padding: int = 0, passes: bool = True):
        self.padding, self.passes, self.dense_calls = padding, passes, 0

    def dense(self, q, k, v, **options):
        """As xfuser's: [B, S, H, D] in, the output and two more out."""
        assert options.keys() == RING.keys()
        self.dense_calls += 1
        out = torch.nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)))
        return out.transpose(1, 2), None, None

    def attention(self, q, k, v, heads, mask=None, skip_reshape=False, transformer_options=None, **_):
        """In the place of ComfyUI's function in the model's file."""
        options = transformer_options or {}
        processor = options.get(raylight.PROCESSOR) if self.passes else None
        q, k, v = (torch.nn.functional.pad(x.transpose(1, 2), (0, 0, 0, 0, 0, self.padding)) for x in (q, k, v))
        call = (
            self.dense
            if processor is None
            else lambda *x, **ring: processor(self.dense, *x, transformer_options=options, **ring)
        )
        out = call(q, k, v, **RING)
        out = out[0] if isinstance(out, tuple) else out
        return out[:, : out.shape[1] - self.padding].flatten(2)


@pytest.fixture
def rank(monkeypatch, host):
    """rank(stand-in, settings, steps): what a rank's sampler gave, and the report of its run."""

    require_model("MiniMaxH3")

    def run(stand_in: StandIn, settings, steps: int = 4):
        import comfy.ldm.minimax.model

        monkeypatch.setattr(comfy.ldm.minimax.model, "optimized_attention", stand_in.attention)
        monkeypatch.setattr(PatchNode, "settings", settings)
        monkeypatch.setitem(nodes().NODE_CLASS_MAPPINGS, "JengaTestRaylight", PatchNode)
        host.forget()
        patches = [("JengaTestRaylight", {})] if settings else []
        prompt = workflow(patches, checkpoint="minimax_h3", steps=steps)
        prompt["latent"] = node("EmptyMiniMaxH3LatentAV", width=256, height=256, length=22)
        prompt["apart"] = node("LTXVSeparateAVLatent", av_latent=["sampler", 0])
        prompt["capture"] = node("JengaTestCapture", latent=["apart", 0])
        prompt.pop("report", None)
        out = host.run(prompt)["capture"]["samples"][0]
        return out, raylight.report_of(PatchNode.patched).summary() if settings else None

    return run


def nodes():
    import nodes

    return nodes


class PatchNode:
    """What a node under raylight's ray_patch does on every worker."""

    FUNCTION, RETURN_TYPES, CATEGORY = "patch", ("MODEL",), "jenga tests"
    settings = patched = None

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def patch(self, model):
        PatchNode.patched = raylight.patch(model, self.settings)
        return (PatchNode.patched,)


@pytest.mark.parametrize("padding", [0, 3])
def test_all_blocks_kept_is_the_rank_s_dense_attention(rank, padding):
    host = StandIn(padding)
    dense, _ = rank(host, None)
    every = host.dense_calls
    found, report = rank(host, KEPT)
    torch.testing.assert_close(found, dense, rtol=0, atol=1e-4)
    assert report["fallbacks"] == {} and sum(report["backends"].values()) > 0
    assert host.dense_calls - every == every - sum(report["backends"].values())  # text alone is not for us
    assert report["stages"][0]["steps"] == 4 and report["model_calls_computed"] == 4


def test_carving_and_anchors(rank):
    dense, _ = rank(StandIn(3), None)
    carved, report = rank(StandIn(3), CARVED)
    anchored, with_anchors = rank(StandIn(3), ANCHORED)
    errors = [float((x - dense).norm() / dense.norm()) for x in (carved, anchored)]
    assert 0 < errors[1] < errors[0] < 0.5
    assert report["kept_share"] < 0.5 and with_anchors["anchors"] > 0 and not with_anchors["fallbacks"]


def test_part_of_the_schedule(rank):
    settings = CarvingSettings(JengaConfig(density=0.2), start_percent=0.5, min_tokens=0)
    _, report = rank(StandIn(), settings)
    assert 0 < report["dense_by_choice"]["outside start_percent .. end_percent"] < sum(report["backends"].values())


def test_a_forward_that_keeps_its_options_is_said(rank):
    dense, _ = rank(StandIn(passes=False), None)
    found, report = rank(StandIn(passes=False), CARVED)
    assert torch.equal(found, dense)
    assert list(report["fallbacks"]) == [f"dense attention: {raylight.NOT_HANDED_ON}"]
    strict = CarvingSettings(JengaConfig(density=0.2, strict=True), min_tokens=0)
    with pytest.raises(PromptFailed, match="strict must not meet a fallback, got dense attention: raylight's forward"):
        rank(StandIn(passes=False), strict)


def test_other_models_are_refused_with_the_reason():
    model = type("Model", (), {"model": type("Base", (), {"diffusion_model": type("WanModel", (), {})()})()})()
    with pytest.raises(ValueError, match="must be one of MiniMaxH3Model under raylight, got WanModel: raylight's fo"):
        raylight.patch(model)


def test_a_payload_without_an_order_has_no_layout():
    module = type("Module", (), {"patch_size": (1, 2, 2)})()
    video = torch.zeros(1, 24, 2, 8, 8)
    order = type("Order", (), {"segments": [(0, 5, "text"), (5, 9, "audio"), (9, 41, "video")]})()
    layout = raylight.video_layout(module, video, {"minimax_payload": {"layout": order}})
    assert layout.before == 9 and layout.grid.num_tokens == 32 and layout.place(41 + 3).video_start == 9
    order.segments[-1] = (9, 40, "video")
    for payload in ({"minimax_payload": {"layout": order}}, {"minimax_payload": None}, {}):
        assert raylight.video_layout(module, video, payload) is None


def test_devices_of_one_process_are_refused():
    settings = CarvingSettings(JengaConfig(), devices=("auto",))
    with pytest.raises(ValueError, match="patch: devices must be empty with one process for each GPU, got auto; the"):
        raylight.chosen(settings, "patch")
