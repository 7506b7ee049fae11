"""One of several processes that share the sequence of a pipeline: gloo on the CPU. Run by test_diffusers_parallel.py.

python diffusers_ranks.py FOLDER CASE...: what a case gave goes to FOLDER/<case>.<rank>.pt, its error to .txt. The
environment says RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun does.
"""

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from unittest import mock

import diffusers_models as models
import torch
import torch.distributed as dist
from diffusers import ContextParallelConfig, FirstBlockCacheConfig
from ranks import leave

from jenga import AnchorConfig, JengaConfig
from jenga.integrations.diffusers import apply
from jenga.integrations.diffusers_parallel import context_parallel_plan
from jenga.runtime.settings import CarvingSettings

CARVED = CarvingSettings(JengaConfig(density=0.2), min_tokens=0)
ANCHORED = CarvingSettings(JengaConfig(density=0.2), (AnchorConfig(2, residual_bits=16),), min_tokens=0)
ODD = {"rows": 14, "columns": 34}  # 3 x 7 x 17 tokens, which no number of ranks divides


def pipeline(family, config: dict | None, **sizes):
    """A pipeline, whose ranks share the sequence where there is a config; and a function that runs it."""
    made, latents, arguments = models.make(family, **sizes)
    if config:
        share(made, **config)
    return made, lambda: made(latents, arguments)


def share(made, **config) -> None:
    shape = config.get("ring_degree", 1), config.get("ulysses_degree", 1)
    mesh = dist.device_mesh.init_device_mesh("cpu", shape, mesh_dim_names=("ring", "ulysses"))
    plan = context_parallel_plan(made.transformer)
    # The library divides by the number of accelerators, which is 0 on a machine without one.
    with mock.patch("torch.accelerator.device_count", return_value=1):
        made.transformer.enable_parallelism(config=ContextParallelConfig(mesh=mesh, **config), cp_plan=plan)


def run(family, settings, config: dict | None, **sizes) -> tuple[torch.Tensor, dict]:
    made, call = pipeline(family, config, **sizes)
    with apply(made, settings) as carving:
        return call(), carving.report.summary()


def batched(family, config: dict | None) -> tuple[torch.Tensor, dict]:
    """Prompt and no prompt in one model call."""
    made, latents, arguments = models.make(family)
    if config:
        share(made, **config)
    with apply(made, ANCHORED) as carving:
        return made(latents, arguments, batched=True), carving.report.summary()


def shared_after_apply(settings, config: dict | None) -> tuple[torch.Tensor, dict]:
    """The user's one call comes last."""
    made, call = pipeline(models.wan, None)
    with apply(made, settings) as carving:
        if config:
            share(made, **config)
        return call(), carving.report.summary()


def outside_a_run(config: dict | None) -> tuple[torch.Tensor, dict]:
    """What a dense call gives while Jenga is on. HunyuanVideo's text is padded, and lies between the video's parts."""
    made, latents, arguments = models.make(models.hunyuan_video)
    if config:
        share(made, **config)
    with apply(made, CARVED), torch.no_grad():
        out = made.transformer(latents, timestep=torch.tensor([500.0]), return_dict=False, **arguments(0))[0]
    return out, {}


def other_noise(config: dict) -> None:
    """Every rank draws its own noise, as without a generator."""
    made, latents, arguments = models.make(models.wan)
    share(made, **config)
    with apply(made, CARVED):
        made(latents + dist.get_rank() / 1000, arguments)


def measuring_cache(config: dict) -> None:
    made, call = pipeline(models.wan, config)
    made.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with apply(made, CARVED):
        call()


def killed(config: dict) -> tuple[torch.Tensor, dict]:
    """Rank 1 ends in the third step."""
    made, call = pipeline(models.wan, config)
    if dist.get_rank() == 1:
        begin = made.scheduler.step
        made.scheduler.step = lambda *args, **kwargs: (
            os._exit(9) if made.scheduler.step_index == 2 else begin(*args, **kwargs)
        )
    with apply(made, ANCHORED) as carving:
        return call(), carving.report.summary()


CASES: dict[str, Callable[[dict | None], tuple[torch.Tensor, dict]]] = {
    "wan": lambda config: run(models.wan, ANCHORED, config),
    "hunyuan_video": lambda config: run(models.hunyuan_video, ANCHORED, config),
    "ltx": lambda config: run(models.ltx, ANCHORED, config),
    # Without anchors: its text refiner, whose keys come to every rank once for each rank, sums in another order, and a
    # residual of 16 bits is rounded elsewhere for it.
    "minimax_h3": lambda config: run(models.minimax_h3, CARVED, config),
    "wan_batched": lambda config: batched(models.wan, config),
    "hunyuan_video_batched": lambda config: batched(models.hunyuan_video, config),
    "wan_without_anchors": lambda config: shared_after_apply(CARVED, config),
    "wan_odd": lambda config: run(models.wan, ANCHORED, config and {**config, "ulysses_anything": True}, **ODD),
    "hunyuan_video_odd": lambda config: run(
        models.hunyuan_video, ANCHORED, config and {**config, "ulysses_anything": True}, **ODD
    ),
    "outside_a_run": outside_a_run,
}


REFUSED: dict[str, Callable[[int], object]] = {
    "ring": lambda ranks: run(models.wan, CARVED, {"ring_degree": ranks}),
    "other_noise": lambda ranks: other_noise({"ulysses_degree": ranks}),
    "measuring_cache": lambda ranks: measuring_cache({"ulysses_degree": ranks}),
    "killed": lambda ranks: killed({"ulysses_degree": ranks}),
}


def gather_unequal(original: Callable) -> Callable:
    """NCCL gathers parts of unequal size, as the library wants it of sequences that the ranks do not divide; gloo does
    not.
    """

    def all_gather(parts, part, group=None):
        if all(one.shape == part.shape for one in parts):
            return original(parts, part, group)
        found = [None] * len(parts)
        dist.all_gather_object(found, part, group)
        for one, other in zip(parts, found, strict=True):
            one.copy_(other)

    return all_gather


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    dist.init_process_group("cpu:gloo", timeout=timedelta(seconds=60))
    rank, ranks = dist.get_rank(), dist.get_world_size()
    dist.all_gather = gather_unequal(dist.all_gather)
    for name in names:
        try:
            if name in REFUSED:
                REFUSED[name](ranks)
            else:
                torch.save(CASES[name]({"ulysses_degree": ranks}), folder / f"{name}.{rank}.pt")
        except Exception as error:
            (folder / f"{name}.{rank}.txt").write_text(f"{type(error).__name__}: {error}")
    if "killed" in names:
        os._exit(0)  # gloo's threads may still wait for the rank that is gone, and then torch aborts as it is torn down
    leave()


if __name__ == "__main__":
    main()
