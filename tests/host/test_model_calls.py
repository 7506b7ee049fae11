"""Calls that ordinary graphs make and that are not one per conditioning and step: windows, guidance passes, prompts of
unlike length, ControlNets. What is kept for one of them must not reach another.
"""

import pytest

from workflows import GRID, carved, dial, node, report, samples, stock_sampler, windows, workflow

LONG_CLIP = node("EmptyHunyuanLatentVideo", **{**GRID, "length": 33})  # 9 latent frames
REUSE = {"min_tokens": 10**6, "step_reuse": "static"}  # nothing is carved: what differs from stock is reuse's own
QUALITY = {"quality": "custom", "anchor_distance": "3", "residual_bits": "16"}


def skip_layer(scale: float, start: float = 0.0, end: float = 1.0, layers: str = "1") -> tuple[str, dict]:
    """ComfyUI's own SkipLayerGuidanceDiT."""
    percents = {"start_percent": start, "end_percent": end}
    layers = {"double_layers": layers, "single_layers": ""}
    return "SkipLayerGuidanceDiT", {**layers, "scale": scale, **percents, "rescaling_scale": 0.0}


def extra_pass(scale: float, before: bool, until: float = 0.0) -> tuple[str, dict]:
    return "JengaTestExtraPass", {"scale": scale, "before": before, "until": until}


def difference(a, b) -> float:
    return float((a - b).norm() / b.norm())


def run(host, *patches, **settings):
    return host.run(workflow(patches, **{"steps": 12, **settings}))


def dial_sampler(patches, **settings) -> dict:
    return stock_sampler(workflow(patches, **{"steps": 12, **settings}))


def dense_steps(outputs) -> list[int]:
    """Evaluations in which every layer was dense."""
    return [index for index, one in enumerate(report(outputs)["evaluations"]) if one["kept_share"] == 1.0]


# --- context windows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_a_window_reuses_its_own_output(host, cfg):
    static = windows("standard_static")
    settings = {"latent": LONG_CLIP, "cfg": cfg}
    own = difference(
        samples(host.run(dial_sampler([dial("base", **REUSE)], **settings))),
        samples(host.run(dial_sampler([], **settings))),
    )
    stock = samples(host.run(dial_sampler([static], **settings)))
    outputs = host.run(dial_sampler([static, dial("base", **REUSE)], **settings))
    assert report(outputs)["model_calls_reused"] > 0
    assert difference(samples(outputs), stock) < 1.5 * own


def test_a_window_that_moved_is_computed(host):
    """Uniform windows lie elsewhere at every step: what was kept for the last ones fits none of the next."""
    moving = windows("standard_uniform")
    settings = {"latent": LONG_CLIP}
    stock = samples(host.run(dial_sampler([moving], **settings)))
    outputs = host.run(dial_sampler([moving, dial("base", **REUSE)], **settings))
    own = difference(
        samples(host.run(dial_sampler([dial("base", **REUSE)], **settings))),
        samples(host.run(dial_sampler([], **settings))),
    )
    assert difference(samples(outputs), stock) < 1.5 * own


def test_windows_of_unlike_length_have_anchors_each(host):
    """Windows of 5 and 6 frames: the first step and every third one are dense, the others carved."""
    static = windows("standard_static")
    stock = samples(run(host, static, latent=LONG_CLIP))
    plain = run(host, static, carved(density=0.15), latent=LONG_CLIP)
    outputs = run(host, static, carved(density=0.15, **QUALITY), latent=LONG_CLIP)
    assert dense_steps(outputs) == [0]
    assert difference(samples(outputs), stock) < 0.7 * difference(samples(plain), stock)


def test_windows_that_move_carve_without_anchors_and_say_so(host):
    moving = windows("standard_uniform", length=13, overlap=4)
    outputs = run(host, moving, carved(quality="balanced"), latent=LONG_CLIP, steps=13)
    late = [one["kept_share"] for one in report(outputs)["evaluations"][3:]]
    assert max(late) < 0.6
    words = "no anchors for conditionings that start"
    assert any(words in note and "context windows that move" in note for note in report(outputs)["notes"])
    assert any(words in text for node_id, text in host.status if node_id == "p1")


# --- guidance with a pass of its own ----------------------------------------------------------------------------------

PASSES = {
    "skip layer": skip_layer(1e-6),
    "skip the first layer": skip_layer(1e-6, layers="0"),
    "skip layer in a part of the schedule": skip_layer(1e-6, start=0.3, end=0.8),
    "perturbed, behind": extra_pass(1e-6, before=False),
    "perturbed, ahead": extra_pass(1e-6, before=True),
    "perturbed, ahead in a part of the schedule": extra_pass(1e-6, before=True, until=0.93),
}


@pytest.mark.parametrize("name", PASSES)
def test_a_guidance_pass_of_no_weight_changes_no_reusing_run(host, name):
    settings = {"cfg": 3.0}
    alone = host.run(dial_sampler([dial("base", **REUSE)], **settings))
    outputs = host.run(dial_sampler([PASSES[name], dial("base", **REUSE)], **settings))
    assert report(outputs)["model_calls_reused"] > 0
    assert difference(samples(outputs), samples(alone)) < 1e-3


@pytest.mark.parametrize("name", PASSES)
def test_a_guidance_pass_of_no_weight_changes_no_anchored_run(host, name):
    settings = {"cfg": 3.0, "steps": 7}
    patch = carved(density=0.15, **QUALITY)
    stock, alone = samples(run(host, **settings)), samples(run(host, patch, **settings))
    outputs = samples(run(host, PASSES[name], patch, **settings))
    assert difference(outputs, alone) < 0.3 * difference(alone, stock)


def test_guidance_by_a_skipped_layer_keeps_its_strength_on_reused_steps(host):
    """The pass is reused like the others, and not for them: else guidance is 0 where a step is reused."""
    settings = {"cfg": 3.0}
    guided = skip_layer(2.0)
    stock, guided_stock = (samples(host.run(dial_sampler(p, **settings))) for p in ([], [guided]))
    reused = samples(host.run(dial_sampler([guided, dial("base", **REUSE)], **settings)))
    assert difference(reused, guided_stock) < 0.5 * difference(stock, guided_stock)


# --- prompts of unlike length -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [(12, 20), (33, 12)])
def test_prompts_of_unlike_length_have_anchors_each(host, tokens):
    """ComfyUI calls the model once for each of them: 7 steps, 2 layers, anchors at step 0 and every third one."""
    prompt = workflow([carved(density=0.15, **QUALITY)], checkpoint="hunyuan_t2v", cfg=3.0, steps=7)
    for seed, (name, count) in enumerate(zip(("positive", "negative"), tokens, strict=True)):
        prompt[name] = node("JengaTestLongConditioning", seed=seed, tokens=count)
    outputs = host.run(prompt)
    assert report(outputs)["dense_by_choice"] == {"anchor step": 12}
    assert dense_steps(outputs) == [0]


# --- arguments by name, blocks by number ------------------------------------------------------------------------------


def with_control(prompt: dict) -> dict:
    for name in ("positive", "negative"):
        prompt[f"{name} text"] = prompt[name]
        prompt[name] = node("JengaTestControl", conditioning=[f"{name} text", 0])
    return prompt


@pytest.mark.parametrize("patch", [dial("turbo", strict=True), carved(strict=True), carved(strict=True, **QUALITY)])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_a_controlnet_changes_nothing_of_ours(host, patch, cfg):
    """ComfyUI hands its dict over before the options, by position, and calls the model once for each ControlNet."""
    settings = {"cfg": cfg, "steps": 12}
    alone = host.run(dial_sampler([patch], **settings))
    outputs = host.run(with_control(dial_sampler([patch], **settings)))
    assert difference(samples(outputs), samples(alone)) < (1e-2 if cfg > 1 else 1e-6)
    assert report(outputs)["kept_share"] == pytest.approx(report(alone)["kept_share"], abs=0.01)
    assert set(report(outputs)["backends"]) - {"dense"} and not report(outputs)["fallbacks"]


@pytest.mark.parametrize(("dense", "rows"), [("1", [False, False, True]), ("0-1", [True, None, True])])
def test_dense_blocks_are_the_blocks_of_the_transformer(host, dense, rows):
    """VACE calls a block of its own inside block 0. That one goes with it or not; block 1 is block 1."""
    prompt = workflow([carved(dense_blocks=dense)], checkpoint="wan_vace", steps=2)
    outputs = host.run(prompt)
    shares = [set(row) for row in report(outputs)["kept_share_map"]]
    assert len(shares) == 3
    for share, is_dense in zip(shares, rows, strict=True):
        if is_dense is not None:
            assert (share == {1.0}) == is_dense


def test_a_skipped_block_moves_no_other(host):
    """Two skipped passes an evaluation: block 1 keeps what block 1 missed, whether block 0 ran or not."""
    settings = {"cfg": 1.0, "steps": 7}
    patch = carved(density=0.15, **QUALITY)
    alone = samples(run(host, patch, **settings))
    stock = samples(run(host, **settings))
    outputs = samples(run(host, skip_layer(1e-6, start=0.2, end=0.6, layers="0"), patch, **settings))
    assert difference(outputs, alone) < 0.3 * difference(alone, stock)
