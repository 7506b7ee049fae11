"""What benchmarks.clip_quality samples: the prompts, and every run by name."""

import itertools
import re
from collections.abc import Callable

import torch

from benchmarks import sol_attn
from benchmarks.cost_model import StageWork
from benchmarks.host import preset_runs, run_work
from benchmarks.host.library import pack_module
from benchmarks.host.preset_runs import ANCHORED, EASY_CACHE, SOL_SHARES, Variant
from benchmarks.host.sampling import SamplingHost
from benchmarks.search_space import PRECISE, SPACE
from demo import scenes
from demo.prompts import SLOTS
from jenga.report.report import Report
from jenga.runtime.qualities import QUALITIES

BROKEN_SHARE, BROKEN_CALLS, BROKEN = 0.05, 4, "broken: "
DENSE, OTHER_SEEDS = "dense", "dense, other seeds"
REAL, RECONSTRUCTED = "real clips", "real clips through the VAE"
SOL = "sol_attn"
REFERENCES = 4  # real clips a prompt that the Fréchet distance is taken to


def file_name(run: str) -> str:
    """Of a run's ClipSet."""
    return re.sub(r"[^a-z0-9]+", "_", run.lower()).strip("_") + ".safetensors"


def draw_scenes(count: int, seed: int) -> dict[str, torch.Tensor]:
    """Scenes of which every word of a slot has its share, to one: parameters [count] as scenes.sample makes them."""
    generator = torch.Generator().manual_seed(seed)
    scene = scenes.sample(count, generator, "cpu")
    for slot, words in SLOTS.items():
        rounds = -(-count // len(words))
        order = torch.cat([torch.randperm(len(words), generator=generator) for _ in range(rounds)])
        scene[slot] = order[:count]
    return scene


def same_words(scene: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Other scenes of the same words."""
    other = scenes.sample(len(scene["x"]), torch.Generator().manual_seed(seed), "cpu")
    return other | {slot: scene[slot] for slot in SLOTS}


def texts(scene: dict[str, torch.Tensor]) -> list[str]:
    """The prompts of scenes."""
    columns = [[words[index] for index in scene[slot].tolist()] for slot, words in SLOTS.items()]
    return [
        f"a {colour} {texture} {shape} {motion} over {ground}, camera {camera}"
        for colour, texture, shape, motion, ground, camera in zip(*columns, strict=True)
    ]


def work_of(name: str, report: Report | None, calls: int) -> list[StageWork] | None:
    """What one run did; None for sol_attn, which has no report and is not dense."""
    if report is not None:
        return run_work.work_of(report)
    return None if SOL in name else run_work.dense_work(calls)


class _Unnoted(sol_attn.Work):
    """sol_attn without a note of every call: a hundred prompts' would fill the memory."""

    def note(self, q: torch.Tensor, k: torch.Tensor) -> None:
        pass


def runs(host: SamplingHost, steps: int) -> dict[str, Callable[[], Variant]]:
    """Every run by name; making one raises Unavailable where it cannot run here."""
    made = {
        DENSE: lambda: preset_runs.dense(host),
        OTHER_SEEDS: lambda: preset_runs.dense(host),
        f"{BROKEN}{BROKEN_SHARE:.0%} kept, no compensation": lambda: preset_runs.uncompensated(host, BROKEN_SHARE),
        f"{BROKEN}{BROKEN_CALLS} of {steps} calls": lambda: preset_runs.few_calls(host, BROKEN_CALLS),
    }
    for name in preset_runs.presets_for(steps):
        made[name] = lambda name=name: preset_runs.jenga(host, name)
        if preset_runs.takes_anchors(name, steps):
            made[f"{name} + anchors"] = lambda name=name: preset_runs.with_anchors(host, name, ANCHORED)
    for name in QUALITIES:
        made[f"quality {name}"] = lambda name=name: preset_runs.quality(host, name)
    threshold = pack_module("nodes.host.step_reuse").THRESHOLD
    made["adaptive reuse"] = lambda: preset_runs.reuse_alone(host, "adaptive", threshold)
    made[EASY_CACHE] = lambda: preset_runs.easy_cache(host)
    for share in SOL_SHARES:
        made[f"{SOL} {share:.0%}"] = lambda share=share: preset_runs.sol(host, share, _Unnoted())
    made[f"{SOL} 20% + {EASY_CACHE}"] = lambda: preset_runs.sol(host, 0.2, _Unnoted(), cached=True)
    for setting in (*SPACE, *itertools.chain.from_iterable(row.values() for row in PRECISE.values())):
        made[setting.name] = lambda setting=setting: preset_runs.by_hand(host, setting.attention, setting.sampler)
    return made
