"""Every class of every family: where its video tokens are, and that all of its blocks kept are the unpatched model."""

import pytest
import torch
from test_families import Case, prompt_of, sizes

from workflows import carved, dial, node, report, samples


def latent(channels=16, height=24, width=24, **settings):
    return node("JengaTestLatent", height=height, width=width, keep_first=False, channels=channels, **settings)


HUNYUAN15 = latent(32, 12, 12)
LTX = node("EmptyLTXVLatentVideo", width=384, height=384, length=17, batch_size=1)
H3 = node("EmptyMiniMaxH3LatentAV", width=256, height=256, length=22)

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
    "cogvideox": Case("cogvideox"),
    "cogvideox15": Case("cogvideox15"),
    "cogvideox-i2v": Case("cogvideox_i2v", "concat"),
    "kandinsky5": Case("kandinsky5"),
    "kandinsky5-i2v": Case("kandinsky5", "replace"),
    "cosmos1": Case("cosmos1"),
    "predict2": Case("predict2"),
    "mochi": Case("mochi", "mask", latent(12)),
}


MORE = {"wan-t2v": Case("wan_t2v"), "wan-vace": Case("wan_vace", "vace"), "hunyuan": Case("hunyuan_t2v")}
STRANGE = {"stranger": Case("stranger", latent=latent(12))}


@pytest.mark.parametrize("name", [*CASES, *STRANGE])
@pytest.mark.parametrize("anchors", ["off", "2"])
def test_full_density_equals_the_unpatched_model(host, name, anchors):
    case = {**CASES, **STRANGE}[name]
    cfg = 1.0 if case.kinds == "reference" else 3.0  # ComfyUI's own reference of HunyuanVideo takes no batch of two
    stock = samples(host.run(prompt_of(case, steps=3, cfg=cfg)))
    patch = carved(density=1.0, quality="custom", anchor_distance=anchors)
    outputs = host.run(prompt_of(case, patch, steps=3, cfg=cfg))
    assert torch.isfinite(stock).all()
    torch.testing.assert_close(samples(outputs), stock, rtol=0, atol=1e-4 * max(1.0, float(stock.abs().max()) / 10))
    assert report(outputs)["kept_share"] == 1.0
    assert report(outputs)["fallbacks"] == {}
    assert ("dense" in report(outputs)["backends"]) == (anchors != "off")  # anchors are the host's own attention


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


@pytest.mark.parametrize("name", [*CASES, *MORE, *STRANGE])
def test_a_value_of_the_latent_is_in_the_token_where_it_is_said_to_be(host, inputs, name):
    """Before the first attention one patch of the latent reaches one token: place, grid and order are seen exactly."""
    case = {**CASES, **MORE, **STRANGE}[name]
    rows, given = first_values(host, inputs, case, ",".join(map(str, PLACE)))
    grid = given.layout.grid
    latent = host.run(prompt_of(case, steps=1, cfg=1.0))["capture"]["samples"][0]
    t, h, w = (
        at // -(-size // side)
        for at, size, side in zip(PLACE, latent.shape[-3:], (grid.t, grid.h, grid.w), strict=True)
    )
    assert rows == [given.video_start + (t * grid.h + h) * grid.w + w]


TEXT = {
    "hunyuan": (0, 12),
    "hunyuan-reference": (0, 12),
    "hunyuan15": (0, 12),
    "hunyuan15-i2v": (9, 26),  # after the image's features, with the glyphs
    "cogvideox": (0, 12),
    "mochi": (432, 443),
}


@pytest.mark.parametrize("name", TEXT)
def test_text_is_where_it_is_said_to_be(host, inputs, name):
    rows, given = first_values(host, inputs, {**CASES, **MORE}[name], "text")
    assert given.text_range == TEXT[name]
    if name != "mochi":  # its text changes the norm of all tokens too
        assert rows and set(rows) <= set(range(*TEXT[name]))


def test_a_model_of_no_table_is_carved_where_its_video_is_found(host):
    outputs = host.run(prompt_of(STRANGE["stranger"], carved(density=0.3)))
    assert report(outputs)["fallbacks"] == {} and 0.2 < report(outputs)["kept_share"] < 0.5
    assert not report(outputs)["dense_by_choice"]


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


@pytest.mark.parametrize("name", CASES)
def test_conditions_follow_the_size_of_a_stage(host, name):
    case = CASES[name]
    outputs = host.run(prompt_of(case, dial("turbo"), cfg=1.0))
    full = samples(outputs).shape[-1]
    assert sizes(outputs) == [16 if name == "wan-dancer" else full * 3 // 4, full]
    assert torch.isfinite(samples(outputs)).all()
    assert report(outputs)["notes"] == [] and report(outputs)["fallbacks"] == {}
    for call in outputs["capture"]["seen"]:
        for key, ratio in FOLLOWS.get(name, {}).items():
            assert call[key][-2:] == [side * ratio for side in call["x"][-2:]]


@pytest.mark.parametrize("name", FOLLOWS)
def test_conditions_are_whole_again_at_full_size(host, name):
    """One stage at full size gets the conditions as they came: the result is the stock one."""
    stock = samples(host.run(prompt_of(CASES[name], steps=2, cfg=1.0)))
    outputs = host.run(prompt_of(CASES[name], dial("base", min_tokens=10**6), steps=2, cfg=1.0))
    assert torch.equal(samples(outputs), stock)
