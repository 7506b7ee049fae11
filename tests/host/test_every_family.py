"""Every class of every family: where its video tokens are, and that all of its blocks kept are the unpatched model."""

import pytest
import torch
from comfy_host import PromptFailed, pack_module, require_model
from test_families import CASES as CASES_AT_LARGE
from test_families import TAKES_ONE, Case, guidance, prompt_of, sizes, takes_two
from tiny_models import MODELS

from scripts.model_rows import COMFYUI as COMFYUI_ROWS
from workflows import COMPILE, carved, dial, node, report, samples


def latent(channels=16, height=24, width=24, **settings):
    return node("JengaTestLatent", height=height, width=width, keep_first=False, channels=channels, **settings)


HUNYUAN15 = latent(32, 12, 12)
LTX = node("EmptyLTXVLatentVideo", width=384, height=384, length=17, batch_size=1)

# Beside those of test_families.
CASES = {
    "wan-fun": Case("wan_fun", "control images,clip,references"),
    "wan-phantom": Case("wan_t2v", "phantom"),
    "wan-camera": Case("wan_camera", "clip,camera"),
    "wan-s2v": Case("wan_s2v", "references,control,motion,speech"),
    "wan-humo": Case("wan_humo", "references,voice"),
    "wan-scail": Case("wan_scail", "clip,references,half pose"),
    "wan-scail2": Case("wan_scail2", "clip,references,half pose,masks"),
    "wan-animate": Case("wan_animate", "concat,clip,pose"),
    "wan-dancer": Case("wan_dancer", "concat,clip,music"),
    "hunyuan-reference": Case("hunyuan_t2v", "reference"),
    "hunyuan15": Case("hunyuan15", latent=HUNYUAN15),
    "hunyuan15-i2v": Case("hunyuan15", "features,glyphs", HUNYUAN15),
    "ltxv": Case("ltxv", "mask", LTX),
    "ltxv-guide": Case(
        "ltxv", "mask,guide", node("JengaTestLatent", height=12, width=12, keep_first=True, channels=128)
    ),
    "ltxv-strength": Case(
        "ltxv", "mask,guide,strength", node("JengaTestLatent", height=12, width=12, keep_first=True, channels=128)
    ),
    "cogvideox": Case("cogvideox"),
    "cogvideox15": Case("cogvideox15"),
    "cogvideox-i2v": Case("cogvideox_i2v", "concat"),
    "kandinsky5": Case("kandinsky5"),
    "kandinsky5-i2v": Case("kandinsky5", "replace"),
    "cosmos1": Case("cosmos1"),
    "predict2": Case("predict2"),
    "mochi": Case("mochi", "mask", latent(12)),
}


MORE = {
    **CASES_AT_LARGE,
    "wan-vace": Case("wan_vace", "vace"),
}
STRANGE = {"a model of no table": Case("stranger", latent=latent(12))}
EVERY = {**MORE, **CASES, **STRANGE}


@pytest.fixture(autouse=True)
def _this_comfyui_has_it(request, host_session):
    """Models that a ComfyUI does not have are skipped."""
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    supported, _ = MODELS.get(EVERY[params["name"]].checkpoint, (None, None)) if "name" in params else (None, None)
    require_model(supported)
    if params.get("name") == "ltxv-strength":
        import comfy.ldm.lightricks.model

        if not hasattr(comfy.ldm.lightricks.model, "GuideAttentionMask"):
            pytest.skip("this ComfyUI weighs guides in one mask of all tokens: dense, and says so")


@pytest.mark.parametrize("name", TAKES_ONE)
def test_what_takes_no_batch_of_two_takes_none_without_jenga(host, cell, name):
    prompt = prompt_of(EVERY[name], steps=2, cfg=3.0)
    if takes_two(name):
        assert torch.isfinite(samples(host.run(prompt))).all()
        return
    words, why = TAKES_ONE[name]
    with pytest.raises(PromptFailed, match=words):
        host.run(prompt)
    cell(name, "cannot", f"two conditionings in one batch ({why})")


@pytest.mark.parametrize("name", EVERY)
def test_full_density_equals_the_unpatched_model(host, cell, name):
    case, cfg = EVERY[name], guidance(name)
    stock = samples(host.run(prompt_of(case, steps=3, cfg=cfg)))
    assert torch.isfinite(stock).all()
    for anchors in ("off", "2"):
        patch = carved(density=1.0, quality="custom", anchor_distance=anchors)
        outputs = host.run(prompt_of(case, patch, steps=3, cfg=cfg))
        torch.testing.assert_close(samples(outputs), stock, rtol=0, atol=1e-4)
        assert report(outputs)["kept_share"] == 1.0 and report(outputs)["fallbacks"] == {}
        assert ("dense" in report(outputs)["backends"]) == (anchors != "off")  # anchors are the host's own attention
        error = float((samples(outputs) - stock).abs().max())
        cell(name, "all blocks kept" if anchors == "off" else "with anchors", f"{error:.0e}")
    calls = report(outputs)["model_calls_computed"]
    cell(name, "guidance", f"one batch, {calls} calls" if cfg > 1 and calls == 3 else "")


@pytest.mark.parametrize("name", EVERY)
def test_it_is_carved(host, cell, name):
    case, cfg = EVERY[name], guidance(name)
    outputs = host.run(prompt_of(case, carved(density=0.3), steps=2, cfg=cfg))
    share = report(outputs)["kept_share"]
    assert report(outputs)["fallbacks"] == {} and "dense" not in report(outputs)["backends"]
    assert torch.isfinite(samples(outputs)).all() and 0.2 < share < 0.6
    cell(name, "carved", f"{share:.0%}")


# One for each way in which attention is called; the others have the blocks of one of these.
COMPILED = ("wan21-t2v", "hunyuan-t2v", "ltxv", "cogvideox", "kandinsky5", "cosmos1", "predict2", "mochi")


@pytest.mark.parametrize("name", COMPILED)
def test_it_is_carved_in_a_compiled_model(host, cell, name):
    """Traced as for any backend, then run as it is: this is not about inductor."""
    case, cfg = EVERY[name], guidance(name)
    patches = COMPILE, carved(density=0.3)
    expected = samples(host.run(prompt_of(case, patches[1], steps=2, cfg=cfg)))
    outputs = host.run(prompt_of(case, *patches, steps=2, cfg=cfg))
    assert report(outputs)["fallbacks"] == {} and "dense" not in report(outputs)["backends"]
    assert (samples(outputs) - expected).norm() < 1e-2 * expected.norm()
    cell(name, "compile", "yes")


PLACE = (1, 5, 3)  # latent frame, row, column


def first_values(host, inputs, case, what) -> tuple[torch.Tensor, object]:
    """Values of the first carved layer with and without a nudge, as the rows that differ, and what it was given."""
    found = []
    for by in (0.0, 1.0):
        inputs.clear()
        host.run(prompt_of(case, ("JengaTestNudge", {"what": what, "by": by}), carved(), steps=1, cfg=1.0))
        found.append(inputs[0].v[0])
    rows = (found[0] - found[1]).abs().amax((0, 2)) > 1e-5
    return rows.nonzero().flatten().tolist(), inputs[0]


@pytest.mark.parametrize("name", EVERY)
def test_a_value_of_the_latent_is_in_the_token_where_it_is_said_to_be(host, inputs, cell, name):
    """Before the first attention one patch of the latent reaches one token: place, grid and order are seen exactly."""
    case = EVERY[name]
    rows, given = first_values(host, inputs, case, ",".join(map(str, PLACE)))
    grid = given.layout.grid
    latent = host.run(prompt_of(case, steps=1, cfg=1.0))["capture"]["samples"][0]
    frames = 2 if name == "cogvideox15" else 1  # in a token
    rows_in_token, columns_in_token = latent.shape[-2] // grid.h, latent.shape[-1] // grid.w
    t, h, w = PLACE[0] // frames, PLACE[1] // rows_in_token, PLACE[2] // columns_in_token
    assert rows == [given.video_start + (t * grid.h + h) * grid.w + w]
    parts = [f"{given.video_start} others" if given.video_start else "", f"{grid.t}×{grid.h}×{grid.w} video"]
    behind = given.v.shape[2] - given.video_start - grid.num_tokens
    cell(name, "sequence", ", ".join(filter(None, [*parts, f"{behind} others" if behind else ""])))


ELSEWHERE = {  # rows whose checks are in other files -> their checkpoint
    "wan-causal": "wan_causal",
    "ltx2": "ltxav",
    "minimax-h3": "minimax_h3",
    "minimax-h3-keyframe": "minimax_h3",
    "minimax-h3-reference": "minimax_h3",
}


def test_every_row_and_every_class_of_the_table_has_its_case(host):
    import comfy.sd
    import comfy.supported_models
    import tiny_models

    assert {*EVERY, *ELSEWHERE} == set(COMFYUI_ROWS.rows)
    if not all(hasattr(comfy.supported_models, supported) for supported, _ in MODELS.values()):
        pytest.skip("an older ComfyUI, which has not all of them")
    checkpoints = {case.checkpoint for case in EVERY.values()} | set(ELSEWHERE.values())
    folder = host.base / "models" / "diffusion_models"
    classes = set()
    for name in checkpoints:
        if name in MODELS:
            patcher = tiny_models.make(name)
        else:
            patcher = comfy.sd.load_diffusion_model(str(folder / f"{name}.safetensors"))
        classes.add(type(patcher.model.diffusion_model).__name__)
    families = pack_module("nodes.host.families")
    assert {one for family in families.FAMILIES for one in family.classes} <= classes


TEXT = {
    "hunyuan-t2v": (0, 12),
    "hunyuan-reference": (0, 12),
    "hunyuan15": (0, 12),
    "hunyuan15-i2v": (9, 26),  # after the image's features, with the glyphs
    "cogvideox": (0, 12),
    "mochi": (432, 443),
}


@pytest.mark.parametrize("name", TEXT)
def test_text_is_where_it_is_said_to_be(host, inputs, name):
    rows, given = first_values(host, inputs, EVERY[name], "text")
    assert given.text_range == TEXT[name]
    if name != "mochi":  # its text changes the norm of all tokens too
        assert rows and set(rows) <= set(range(*TEXT[name]))


def test_a_model_whose_video_is_not_found_is_dense_with_a_reason_said_once(host):
    case = Case("column_stranger", latent=latent(12))
    stock = samples(host.run(prompt_of(case)))
    outputs = host.run(prompt_of(case, carved(density=0.3)))
    assert torch.equal(samples(outputs), stock)
    reason = (
        "dense attention: no self-attention call of this model has the video of its latent in it, patch after patch"
    )
    assert report(outputs)["fallbacks"] == {reason: 1}


# Arguments of a model call that have the size of the latent, times a ratio.
FOLLOWS = {
    "wan21-i2v": {"c_concat": 1},
    "wan22-14b-i2v": {"c_concat": 1},
    "wan22-5b-i2v": {"denoise_mask": 1},
    "wan-vace": {"vace_context": 1},
    "wan-phantom": {"time_dim_concat": 1},
    "hunyuan-i2v-concat": {"c_concat": 1},
    "hunyuan-reference": {"ref_latent": 1},
    "wan-fun": {"c_concat": 1, "reference_latent": 1},
    "wan-camera": {"camera_conditions": 8},
    "wan-s2v": {"reference_latent": 1, "reference_motion": 1, "control_video": 1},
    "wan-humo": {"reference_latent": 1},
    "wan-scail": {"reference_latent": 1, "pose_latents": 0.5},
    "wan-scail2": {"reference_latent": 1, "pose_latents": 0.5, "sam_latents": 0.5, "ref_mask_latents": 1},
    "wan-animate": {"c_concat": 1, "pose_latents": 1},
    "wan-dancer": {"c_concat": 1},
    "hunyuan15-i2v": {"c_concat": 1},
    "cogvideox-i2v": {"c_concat": 1},
    "kandinsky5-i2v": {"c_concat": 1, "time_dim_replace": 1},
}


STAGED = {name: case for name, case in EVERY.items() if name not in (*STRANGE, "ltxv-guide", "ltxv-strength")}


@pytest.mark.parametrize("name", STAGED)
def test_conditions_follow_the_size_of_a_stage(host, cell, name):
    case = STAGED[name]
    outputs = host.run(prompt_of(case, dial("turbo"), cfg=1.0))
    full = samples(outputs).shape[-1]
    assert sizes(outputs) == [16 if name == "wan-dancer" else full * 3 // 4, full]
    assert torch.isfinite(samples(outputs)).all()
    assert report(outputs)["notes"] == [] and report(outputs)["fallbacks"] == {}
    for call in outputs["capture"]["seen"]:
        for key, ratio in FOLLOWS.get(name, {}).items():
            assert call[key][-2:] == [side * ratio for side in call["x"][-2:]]
    cell(name, "stages", "yes")
    cell(name, "conditions that follow", ", ".join(FOLLOWS.get(name, {})))


@pytest.mark.parametrize("name", FOLLOWS)
def test_conditions_are_whole_again_at_full_size(host, name):
    """One stage at full size gets the conditions as they came: the result is the stock one."""
    stock = samples(host.run(prompt_of(EVERY[name], steps=2, cfg=1.0)))
    outputs = host.run(prompt_of(EVERY[name], dial("base", min_tokens=10**6), steps=2, cfg=1.0))
    assert torch.equal(samples(outputs), stock)


@pytest.mark.parametrize("kinds", ["two strengths", "guide,weighed pixels"])
@pytest.mark.parametrize("anchors", ["off", "2"])
def test_guides_that_are_weighed_token_by_token_keep_ltx_dense_and_it_says_so(host, kinds, anchors):
    latent = node("JengaTestLatent", height=12, width=12, keep_first=True, channels=128)
    case = Case("ltxv", f"mask,{kinds}", latent)
    stock = samples(host.run(prompt_of(case, steps=2)))
    outputs = host.run(prompt_of(case, carved(quality="custom", anchor_distance=anchors), steps=2))
    assert torch.equal(samples(outputs), stock)
    assert any("several strengths or a mask" in reason for reason in report(outputs)["fallbacks"])
    assert any("several strengths or a mask" in text for node_id, text in host.status if node_id == "p1")
