"""Every family of diffusers on small random models: what scripts.write_models writes down of each."""

import pytest
import torch

pytest.importorskip("diffusers", "0.42", reason="diffusers 0.42 or newer is not installed (it needs Python 3.11)")

import diffusers
import diffusers_models as models
from diffusers import (
    AutoencoderKLMagvit,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    DiffusionPipeline,
    EasyAnimatePipeline,
    HunyuanVideoPipeline,
    LTXPipeline,
    MiniMaxH3Scheduler,
    MochiPipeline,
    SkyReelsV2Pipeline,
    WanPipeline,
)
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from diffusers.modular_pipelines import SequentialPipelineBlocks
from diffusers.modular_pipelines.minimax_h3 import before_denoise as minimax_h3
from diffusers.modular_pipelines.minimax_h3.denoise import MiniMaxH3DenoiseStep
from diffusers_models import ANCHORS, EXACT, error, settings

from jenga import TokenGrid
from jenga.integrations.diffusers import apply


@pytest.fixture(params=models.FAMILIES, ids=lambda family: family.__name__)
def family(request):
    return request.param


@pytest.fixture
def cell(found):
    """cell(family, column, text): what an assertion has just held for."""
    rows = found.setdefault(f"diffusers {diffusers.__version__}", {})
    return lambda family, column, text: rows.setdefault(family.__name__, {}).__setitem__(column, text)


def test_density_1_is_the_model_and_removal_leaves_no_trace(family, cell):
    pipeline, latents, arguments = models.make(family)
    dense = pipeline(latents, arguments)
    backends, before = _AttentionBackendRegistry.list_backends(), {*vars(pipeline.transformer)}
    for anchors in ANCHORS.values():
        with apply(pipeline, settings(1.0, anchors)) as carving:
            off = float((pipeline(latents, arguments) - dense).abs().max())
            assert off < EXACT
            summary = carving.report.summary()
        layers = len(carving.report.kept_share_map())
        # Every layer of every call, and each sample of a batch.
        assert sum(summary["backends"].values()) == layers * 4 * 2 and not summary["fallbacks"]
        assert summary["model_calls_computed"] == 8 and len(summary["evaluations"]) == 4
        assert bool(summary["anchors"]) == bool(anchors)
        cell(family, "with anchors" if anchors else "all blocks kept", f"{off:.0e}")
    assert torch.equal(pipeline(latents, arguments), dense)
    assert _AttentionBackendRegistry.list_backends() == backends and "progress_bar" not in vars(pipeline)
    assert {*vars(pipeline.transformer)} == before
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in pipeline.transformer.modules())


def test_carving_keeps_its_share_and_anchors_are_closer(family, cell):
    pipeline, latents, arguments = models.make(family)
    dense, errors = pipeline(latents, arguments), {}
    for name, anchors in ANCHORS.items():
        with apply(pipeline, settings(0.2, anchors)) as carving:
            errors[name] = error(pipeline(latents, arguments), dense)
        shares = [share for row in carving.report.kept_share_map() for share in row]
        assert min(shares) == pytest.approx(1 / 3 if family is not models.cogvideox15 else 1 / 4)
    assert 1e-5 < errors["anchored"] < errors["plain"] < 0.2
    cell(family, "carved", f"{min(shares):.0%}")


PLACE = (1, 5, 9)  # latent frame, row, column


def test_a_value_of_the_latent_is_in_the_token_where_it_is_said_to_be(family, inputs, cell):
    pipeline, latents, arguments = models.make(family)
    t, h, w = PLACE
    nudged = latents.clone()
    if family in models.PATCHED:
        rows, columns = models.ROWS // 2, models.COLUMNS // 2
        nudged[:, (t * rows + h) * columns + w] += 1.0
        place = (t, h, w)
    elif family in (models.cogvideox, models.cogvideox15):
        nudged[:, t, :, h, w] += 1.0
        place = (t // 2 if family is models.cogvideox15 else t, h // 2, w // 2)
    elif family is models.kandinsky5:
        nudged[:, t, h, w] += 1.0
        place = (t, h // 2, w // 2)
    else:
        nudged[:, :, t, h, w] += 1.0
        place = (t, h // 2, w // 2)
    values = []
    with apply(pipeline, settings(0.2)):
        for x in (latents, nudged):
            inputs.clear()
            pipeline(x, arguments, steps=1)
            values.append(inputs[0].v[0])
    given, grid = inputs[0], inputs[0].layout.grid
    (row,) = ((values[0] - values[1]).abs().amax((0, 2)) > 1e-5).nonzero().flatten().tolist()
    assert row == given.video_start + (place[0] * grid.h + place[1]) * grid.w + place[2]
    others = given.v.shape[2] - given.video_start - grid.num_tokens
    front, behind = (f"{count} others" if count else "" for count in (given.video_start, others))
    cell(family, "sequence", ", ".join(filter(None, (front, f"{grid.t}×{grid.h}×{grid.w} video", behind))))


def test_prompts_as_one_batch_are_the_prompts_apart(family, cell):
    pipeline, latents, arguments = models.make(family)
    with apply(pipeline, settings(0.2, ANCHORS["anchored"])) as carving:
        apart = pipeline(latents, arguments)
        assert carving.report.summary()["model_calls_computed"] == 8
        together = pipeline(latents, arguments, batched=True)
        assert carving.report.summary()["model_calls_computed"] == 4
    assert (apart - together).abs().max() < EXACT
    cell(family, "guidance", "apart, and as one batch")


CONDITIONS = {  # the cell, and the arguments that are changed
    models.wan_image: ("image: features, latents", ("encoder_hidden_states_image", models.BESIDE)),
    models.wan_vace: ("control_hidden_states", ("control_hidden_states",)),
    models.wan_animate: ("pose_hidden_states, face_pixel_values", ("pose_hidden_states", "face_pixel_values")),
    models.cogvideox15: ("image: latents", (models.BESIDE,)),
    models.chronoedit: ("image: features, latents", ("encoder_hidden_states_image", models.BESIDE)),
    models.motif_video: ("image: features, latents", ("image_embeds", models.BESIDE)),
    models.easyanimate_control: ("inpaint_latents, control_latents", ("inpaint_latents", "control_latents")),
    models.minimax_h3: ("conditions, audio", (models.BESIDE, "audio_hidden_states")),
}


@pytest.mark.parametrize("family", CONDITIONS, ids=lambda family: family.__name__)
def test_conditions_reach_the_carved_model(family, cell):
    """Another condition gives another video, carved as without Jenga."""
    words, names = CONDITIONS[family]
    found = []
    for changed in (None, *names):
        pipeline, latents, arguments = models.make(family)

        def other(prompt, arguments=arguments, changed=changed):
            given = arguments(prompt)
            if changed is not None:
                given[changed] = models.draw(*given[changed].shape, seed=40)
            return given

        dense = pipeline(latents, other)
        with apply(pipeline, settings(1.0)):
            found.append(pipeline(latents, other))
        assert (found[-1] - dense).abs().max() < EXACT
    stock, *others = found
    for name, one in zip(names, others, strict=True):
        assert not torch.allclose(stock, one, atol=1e-3), name
    cell(family, "conditions", words)


def test_compiled_blocks_are_carved_and_go_back(family, cell):
    pipeline, latents, arguments = models.make(family)
    eager = pipeline(latents, arguments)
    torch.compiler.reset()
    for block in blocks_of(pipeline.transformer):
        block.compile(backend="eager")
    pipeline(latents, arguments)  # compiled before Jenga came
    with apply(pipeline, settings(1.0)) as carving:
        assert (pipeline(latents, arguments) - eager).abs().max() < EXACT
        summary = carving.report.summary()
        calls = sum(summary["backends"].values())
        assert 0 < calls == 8 * len(carving.report.kept_share_map())
        assert summary["fallbacks"] == {} and "dense" not in summary["backends"]
    assert (pipeline(latents, arguments) - eager).abs().max() < EXACT
    assert sum(carving.report.summary()["backends"].values()) == calls  # nothing was added
    cell(family, "compile", "yes")


def blocks_of(transformer) -> list[torch.nn.Module]:
    names = (
        "blocks",
        "vace_blocks",
        "transformer_blocks",
        "single_transformer_blocks",
        "visual_transformer_blocks",
    )
    return [block for name in names for block in getattr(transformer, name, ())]


def _embeds(arguments) -> dict:
    return {"prompt_embeds": models.text(16, 0), "negative_prompt_embeds": models.text(16, 1)}


def _wan(pipe, arguments) -> tuple[DiffusionPipeline, dict]:
    return WanPipeline(None, None, None, pipe.scheduler, pipe.transformer), {"num_frames": 9, **_embeds(arguments)}


def _skyreels(pipe, arguments):
    pipeline = SkyReelsV2Pipeline(None, None, pipe.transformer, None, pipe.scheduler)
    return pipeline, {"num_frames": 9, **_embeds(arguments)}


def _hunyuan_video(pipe, arguments):
    made, negative = arguments(0), arguments(1)
    embeds = {
        "prompt_embeds": made["encoder_hidden_states"],
        "prompt_attention_mask": made["encoder_attention_mask"],
        "pooled_prompt_embeds": made["pooled_projections"],
        "negative_prompt_embeds": negative["encoder_hidden_states"],
        "negative_prompt_attention_mask": negative["encoder_attention_mask"],
        "negative_pooled_prompt_embeds": negative["pooled_projections"],
        "true_cfg_scale": 3.0,
        "num_frames": 9,
    }
    return HunyuanVideoPipeline(None, None, pipe.transformer, None, pipe.scheduler, None, None), embeds


def _ltx(pipe, arguments):
    pipeline = LTXPipeline(pipe.scheduler, None, None, None, pipe.transformer)
    return pipeline, {"num_frames": 17, "height": 256, "width": 512, **_masked(arguments)}


def _mochi(pipe, arguments):
    return MochiPipeline(pipe.scheduler, None, None, None, pipe.transformer), {"num_frames": 13, **_masked(arguments)}


def _cogvideox(pipe, arguments):
    pipeline = CogVideoXPipeline(None, None, None, pipe.transformer, CogVideoXDDIMScheduler())
    return pipeline, {"num_frames": 9, **_embeds(arguments)}


def _easyanimate(pipe, arguments):
    vae = AutoencoderKLMagvit(
        latent_channels=4,
        block_out_channels=(4,),
        down_block_types=("SpatialDownBlock3D",),
        up_block_types=("SpatialUpBlock3D",),
        layers_per_block=1,
        norm_num_groups=1,
    )
    pipeline = EasyAnimatePipeline(vae, None, None, pipe.transformer, pipe.scheduler)
    mask = torch.ones(1, models.TEXT)
    masks = {"prompt_attention_mask": mask, "negative_prompt_attention_mask": mask}
    return pipeline, {"num_frames": 9, **_embeds(arguments), **masks}


def _masked(arguments) -> dict:
    return {
        "prompt_embeds": arguments(0)["encoder_hidden_states"],
        "prompt_attention_mask": arguments(0)["encoder_attention_mask"],
        "negative_prompt_embeds": arguments(1)["encoder_hidden_states"],
        "negative_prompt_attention_mask": arguments(1)["encoder_attention_mask"],
    }


PIPELINES = {
    models.wan: _wan,
    models.skyreels: _skyreels,
    models.hunyuan_video: _hunyuan_video,
    models.ltx: _ltx,
    models.mochi: _mochi,
    models.cogvideox: _cogvideox,
    models.easyanimate: _easyanimate,
}


def _minimax_h3_steps() -> SequentialPipelineBlocks:
    """The library's own blocks, but for its encoders and decoders."""
    blocks = {
        "layout": minimax_h3.MiniMaxH3PrepareLayoutStep(),
        "latents": minimax_h3.MiniMaxH3PrepareLatentsStep(),
        "timesteps": minimax_h3.MiniMaxH3SetTimestepsStep(),
        "denoise": MiniMaxH3DenoiseStep(),
    }
    return SequentialPipelineBlocks.from_blocks_dict(blocks)


def test_the_modular_pipeline_of_minimax_h3(inputs, cell):
    loop, _, arguments = models.make(models.minimax_h3)
    pipeline = _minimax_h3_steps().init_pipeline()
    schedulers = {"scheduler": MiniMaxH3Scheduler(12.0), "audio_scheduler": MiniMaxH3Scheduler(3.0)}
    pipeline.update_components(transformer=loop.transformer, **schedulers)
    pipeline.set_progress_bar_config(disable=True)
    words = arguments(0)["encoder_hidden_states"]
    given = {"prompt_embeds": words, "text_token_tags": torch.ones(words.shape[1], dtype=torch.long)}

    def run():
        generator = torch.Generator().manual_seed(3)
        return pipeline(**given, height=128, width=160, num_inference_steps=5, generator=generator, output="latents")

    dense = run()
    for density, low, high in ((1.0, 0.0, EXACT), (0.2, 1e-5, 0.3)):
        with apply(pipeline, settings(density, ANCHORS["anchored"])) as carving:
            assert low <= error(run(), dense) < high
            with pytest.raises(ValueError, match="must not have Jenga on it"):
                apply(pipeline)
        summary = carving.report.summary()
        assert len(summary["evaluations"]) == 4 and not summary["fallbacks"] and summary["anchors"]
        assert inputs[-1].layout.grid == TokenGrid(37, 4, 5)
    assert torch.equal(run(), dense)
    cell(models.minimax_h3, "its pipeline", type(pipeline).__name__)


@pytest.mark.parametrize("family", PIPELINES, ids=lambda family: family.__name__)
def test_the_library_s_own_pipelines(family, cell):
    loop, latents, arguments = models.make(family)
    pipeline, given = PIPELINES[family](loop, arguments)
    pipeline.set_progress_bar_config(disable=True)
    given = {"height": 128, "width": 256, "num_inference_steps": 4, "output_type": "latent", **given}

    def run():
        return pipeline(**given, latents=latents.clone()).frames

    dense = run()
    for density, low, high in ((1.0, 0.0, EXACT), (0.2, 1e-5, 0.3)):
        with apply(pipeline, settings(density, ANCHORS["anchored"])) as carving:
            assert low <= error(run(), dense) < high
        summary = carving.report.summary()
        assert len(summary["evaluations"]) == 4 and not summary["fallbacks"] and summary["anchors"]
    assert torch.equal(run(), dense)
    cell(family, "its pipeline", type(pipeline).__name__)
