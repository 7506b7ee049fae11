"""Carving in pipelines of diffusers, on small random models of its classes."""

import ast
import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", "0.42", reason="diffusers 0.42 or newer is not installed (it needs Python 3.11)")

import diffusers_models as models
from diffusers import (
    DiTTransformer2DModel,
    FirstBlockCacheConfig,
    FlowMatchHeunDiscreteScheduler,
    ModularPipeline,
    ModularPipelineBlocks,
    PyramidAttentionBroadcastConfig,
)
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from diffusers_models import ANCHORS, EXACT, error, settings

from jenga import AnchorConfig, JengaConfig, TokenGrid
from jenga.integrations import diffusers_families as families
from jenga.integrations.diffusers import apply
from jenga.integrations.diffusers_families import grid_of_places
from jenga.runtime.qualities import QUALITIES
from jenga.runtime.settings import CarvingSettings


@pytest.mark.parametrize("quality", QUALITIES)
def test_qualities_and_short_videos(quality):
    pipeline, latents, arguments = models.make(models.wan)
    with apply(pipeline, quality) as carving:
        dense = pipeline(latents, arguments)
    assert carving.report.summary()["dense_by_choice"] == {"384 video tokens, min_tokens is 4096": 16}
    assert torch.equal(dense, pipeline(latents, arguments))


def test_dense_blocks_and_the_part_of_the_schedule_that_is_carved():
    pipeline, latents, arguments = models.make(models.mochi)
    chosen = settings(0.2, dense_blocks=frozenset((1,)), start_percent=0.5, end_percent=0.75)
    with apply(pipeline, chosen) as carving:
        pipeline(latents, arguments, batched=True)
    # Mochi attends one sample of a batch after the other: 4 steps, 2 blocks, 2 samples.
    assert carving.report.summary()["dense_by_choice"] == {
        "outside start_percent .. end_percent": 12,
        "dense_blocks": 2,
    }


def test_dense_blocks_that_a_transformer_does_not_have_are_named():
    pipeline, latents, arguments = models.make(models.wan_vace)
    with apply(pipeline, settings(0.2, dense_blocks=frozenset((3, 4)))) as carving:
        pipeline(latents, arguments)
    assert carving.report.summary()["notes"] == ["dense_blocks names 4: the model has blocks 0 to 3"]


def test_vace_blocks_are_numbered_after_the_model_s_own():
    pipeline, latents, arguments = models.make(models.wan_vace)
    with apply(pipeline, settings(0.2, dense_blocks=frozenset((0, 1)))) as carving:
        pipeline(latents, arguments)
    assert [row[0] == 1.0 for row in carving.report.kept_share_map()] == [True, True, False, False]


def test_two_experts_have_anchors_of_their_own():
    pipeline, latents, arguments = models.make(models.wan)
    torch.manual_seed(1)
    pipeline.register_modules(transformer_2=models.wan()[0].eval())
    dense = pipeline(latents, arguments, boundary=2)
    with apply(pipeline, settings(0.2, (AnchorConfig(0, residual_bits=16),))) as carving:
        carved = pipeline(latents, arguments, boundary=2)
    assert [evaluation["anchors"] for evaluation in carving.report.summary()["evaluations"]] == [4, 0, 4, 0]
    assert error(carved, dense) < 0.01
    assert torch.equal(pipeline(latents, arguments, boundary=2), dense)


def test_a_scheduler_with_two_evaluations_a_step_chosen_after_apply():
    pipeline, latents, arguments = models.make(models.wan)
    with apply(pipeline, settings(0.2)) as carving:
        pipeline.scheduler = FlowMatchHeunDiscreteScheduler()
        pipeline(latents, arguments)
        assert len(carving.report.summary()["evaluations"]) == len(pipeline.scheduler.timesteps) == 7
        assert "step" not in vars(pipeline.scheduler)


def test_step_caches_are_the_library_s_and_are_told():
    pipeline, latents, arguments = models.make(models.wan)
    pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=10.0))
    cached = pipeline(latents, arguments)
    pipeline.transformer._reset_stateful_cache()
    with apply(pipeline, settings(1.0)) as carving:
        assert (pipeline(latents, arguments) - cached).abs().max() < EXACT
        summary = carving.report.summary()
    assert summary["model_calls_reused"] == 6 and summary["model_calls_computed"] == 2
    assert sum(summary["backends"].values()) == 2 * 2 + 6  # the first block is always computed
    assert any(note.startswith("FirstBlockCache is on this transformer") for note in summary["notes"])


def test_a_cache_of_attention_outputs_skips_carved_calls_as_it_skips_dense_ones():
    pipeline, latents, arguments = models.make(models.wan)
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 2000),
        spatial_attention_block_identifiers=("blocks",),
        current_timestep_callback=lambda: 500,
    )
    pipeline.transformer.enable_cache(config)
    cached = pipeline(latents, arguments)
    pipeline.transformer._reset_stateful_cache()
    with apply(pipeline, settings(1.0)) as carving:
        assert (pipeline(latents, arguments) - cached).abs().max() < EXACT
    assert 0 < sum(carving.report.summary()["backends"].values()) < 16


def test_dense_calls_take_the_backend_that_was_chosen_before():
    pipeline, latents, arguments = models.make(models.wan)
    processors = [block.attn1.processor for block in pipeline.transformer.blocks]
    active = _AttentionBackendRegistry.get_active_backend()[0]
    pipeline.transformer.set_attention_backend("_native_math")
    try:
        with apply(pipeline, settings(0.2, ANCHORS["anchored"])):
            pipeline(latents, arguments)
            assert all(processor._attention_backend.value.startswith("jenga") for processor in processors)
        assert [processor._attention_backend for processor in processors] == ["_native_math"] * 2
        with apply(pipeline, settings(0.2)) as carving:
            pipeline.transformer.set_attention_backend("_native_math")
            pipeline(latents, arguments)
        assert list(carving.report.fallbacks) == [
            "dense attention: no self-attention came to Jenga; choose attention backends and processors before apply"
        ]
    finally:
        _AttentionBackendRegistry.set_active_backend(active)


def test_one_processor_for_all_modules():
    pipeline, latents, arguments = models.make(models.wan)
    pipeline.transformer.set_attn_processor(pipeline.transformer.blocks[0].attn1.processor)
    dense = pipeline(latents, arguments)
    with apply(pipeline, settings(1.0)) as carving:
        assert (pipeline(latents, arguments) - dense).abs().max() < EXACT
    assert sum(carving.report.summary()["backends"].values()) == 16
    assert torch.equal(pipeline(latents, arguments), dense)


def test_an_interrupted_run_is_over():
    pipeline, latents, arguments = models.make(models.hunyuan_video)
    dense = pipeline(latents, arguments)

    def interrupt(module, args, output):
        raise KeyboardInterrupt

    with apply(pipeline, settings(1.0)) as carving:
        hook = pipeline.transformer.single_transformer_blocks[0].register_forward_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            pipeline(latents, arguments)
        hook.remove()
        assert "step" not in vars(pipeline.scheduler)
        assert (pipeline(latents, arguments) - dense).abs().max() < EXACT
        assert carving.report.summary()["model_calls_computed"] == 8


def test_a_loop_of_one_s_own_and_calls_outside_a_run():
    pipeline, latents, arguments = models.make(models.ltx)

    def call():
        with torch.no_grad():
            return pipeline.transformer(latents, timestep=torch.tensor([500.0]), return_dict=False, **arguments(0))[0]

    dense = call()
    with apply(pipeline, settings(0.2)) as carving:
        assert torch.equal(call(), dense) and carving.report is None
        pipeline.scheduler.set_timesteps(4)
        with carving.run(steps=4):
            carved = call()
        assert not torch.equal(carved, dense)
    assert carving.report.summary()["model_calls_computed"] == 1


def test_a_call_that_does_not_say_its_grid_stays_dense_and_says_why():
    pipeline, latents, arguments = models.make(models.ltx)
    coords = torch.rand(1, 3, latents.shape[1])
    hidden = ("num_frames", "height", "width")

    def conditioned(seed):
        return {name: x for name, x in arguments(seed).items() if name not in hidden} | {"video_coords": coords}

    dense = pipeline(latents, conditioned)
    with apply(pipeline, settings(0.2)) as carving:
        assert torch.equal(pipeline(latents, conditioned), dense)
    reason = "this call does not say how many frames, rows and columns it has"
    assert carving.report.fallbacks == {f"dense attention: {reason}": 8}
    strict = CarvingSettings(JengaConfig(strict=True), min_tokens=0)
    with apply(pipeline, strict), pytest.raises(RuntimeError, match=f"strict must not meet a fallback, got {reason}"):
        pipeline(latents, conditioned)


def test_tokens_that_are_no_grid_stay_dense_and_say_why():
    pipeline, latents, arguments = models.make(models.minimax_h3)

    def shuffled(seed):
        given = arguments(seed)
        places = given["position_ids"].clone()
        places[[-1, -2]] = places[[-2, -1]]
        return {**given, "position_ids": places}

    dense = pipeline(latents, shuffled)
    with apply(pipeline, settings(0.2)) as carving:
        assert torch.equal(pipeline(latents, shuffled), dense)
    reason = "this call does not say how many frames, rows and columns it has"
    assert carving.report.fallbacks == {f"dense attention: {reason}": 8}


def test_where_tokens_lie_is_read_once_a_run_for_each_tensor_that_says_it(monkeypatch):
    pipeline, latents, arguments = models.make(models.minimax_h3)
    read = []
    monkeypatch.setattr(families, "grid_of_places", lambda places: read.append(places) or grid_of_places(places))
    with apply(pipeline, settings(0.2)) as carving:
        pipeline(latents, arguments)
        assert len(read) == 1
        with torch.no_grad():
            models.call(pipeline.transformer, latents, torch.tensor([500.0]), arguments(0))
        assert len(read) == 1  # outside a run nobody asks
        pipeline(latents, arguments)
        assert len(read) == 2 and not carving.report.fallbacks


@pytest.mark.parametrize(
    ("change", "grid"),
    [
        (lambda places: places, (2, 3, 4)),
        (lambda places: places[:12], (1, 3, 4)),
        (lambda places: places[::4], (2, 3, 1)),
        (lambda places: places[:4], (1, 1, 4)),
        (lambda places: places * torch.tensor([1.0, -1.0, 1.0]), None),  # upside down
        (lambda places: places[:-1], None),
        (lambda places: torch.cat([places[:12], places[:12]]), None),  # one frame twice
        (lambda places: places[:0], None),
    ],
)
def test_the_grid_of_places(change, grid):
    places = torch.cartesian_prod(torch.tensor([7.0, 9.0]), torch.arange(3) / 2, torch.arange(4) / 4)
    assert grid_of_places(change(places)) == (None if grid is None else TokenGrid(*grid))


def test_reference_frames_after_the_video_are_context():
    pipeline, latents, arguments = models.make(models.ltx)
    latents = torch.cat([latents, models.draw(1, 20, 4, seed=9)], 1)
    coords = torch.rand(1, 3, latents.shape[1], generator=torch.Generator().manual_seed(4))

    def conditioned(seed):
        return {**arguments(seed), "video_coords": coords}

    dense = pipeline(latents, conditioned)
    with apply(pipeline, settings(1.0)) as carving:
        assert (pipeline(latents, conditioned) - dense).abs().max() < EXACT
        assert carving.report.summary()["backends"] == {"reference": 16}
    with apply(pipeline, settings(0.2)) as carving:
        assert 1e-5 < error(pipeline(latents, conditioned), dense) < 0.1


def test_what_apply_refuses():
    pipeline, _, _ = models.make(models.wan)
    with pytest.raises(ValueError, match="config_or_quality must be .* got 'best'"):
        apply(pipeline, "best")
    with apply(pipeline), pytest.raises(ValueError, match="must not have Jenga on it"):
        apply(pipeline)
    image = models.Loop(DiTTransformer2DModel(2, 8, 4, num_layers=1, sample_size=8), pipeline.scheduler)
    with pytest.raises(ValueError, match="pipeline must have one of Wan.*, got DiTTransformer2DModel"):
        apply(image)
    blocks = ModularPipeline(ModularPipelineBlocks())
    blocks.transformer = pipeline.transformer
    with pytest.raises(ValueError, match="must open a progress bar around its steps, got ModularPipeline without one"):
        apply(blocks)


def test_the_document_s_examples_import_what_there_is():
    text = (Path(__file__).resolve().parents[2] / "docs" / "diffusers.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        tree = ast.parse(block)
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names: dict = {}
        exec(compile(tree, "docs/diffusers.md", "exec"), names)
        assert names["apply"] is apply
