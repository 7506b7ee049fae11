"""One forward of a whole video transformer of diffusers over several GPUs, with random weights: dense and carved.

    torchrun --nproc-per-node 2 -m benchmarks.context_parallel --model wan-14b --kept 0.1 0.2

Every rank first runs the whole sequence by itself, then its share of it, in one process and on the same weights, so
that the ratios are of one run. No checkpoint is read. `--model tiny` runs on a CPU, with gloo. The last table says what
more ranks would give (benchmarks.scaling).
"""

import argparse
import gc
import os
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from unittest import mock

import torch
import torch.distributed as dist
from diffusers import (
    ContextParallelConfig,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoTransformer3DModel,
    WanTransformer3DModel,
)

from benchmarks import scaling
from benchmarks.common import print_head, print_row
from jenga import JengaConfig
from jenga.integrations.diffusers import apply
from jenga.integrations.diffusers_parallel import context_parallel_plan
from jenga.runtime.settings import CarvingSettings


class Holder:
    """A pipeline that only holds a transformer: its runs are begun by hand."""

    def __init__(self, transformer, scheduler):
        self.transformer, self.scheduler = transformer, scheduler

    def progress_bar(self, iterable=None, total=None):
        raise NotImplementedError


def wan(latent: tuple[int, int, int], **config) -> tuple[torch.nn.Module, dict]:
    model = WanTransformer3DModel(**config)
    return model, {
        "hidden_states": torch.randn(1, 16, *latent),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(1, 512, 4096),
    }


def hunyuan_video(latent: tuple[int, int, int], **config) -> tuple[torch.nn.Module, dict]:
    model = HunyuanVideoTransformer3DModel(**config)
    return model, {
        "hidden_states": torch.randn(1, 16, *latent),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(1, 256, 4096),
        "encoder_attention_mask": (torch.arange(256) < 40).long()[None],
        "pooled_projections": torch.randn(1, 768),
        "guidance": torch.tensor([6000.0]),
    }


MODELS: dict[str, Callable] = {
    "wan-14b": lambda: wan((21, 90, 160)),  # 1280 x 720, 81 frames: 75,600 tokens, 40 heads
    "hunyuan-video": lambda: hunyuan_video((32, 90, 160)),  # 1280 x 720, 125 frames: 115,200 tokens, 24 heads
    "tiny": lambda: wan((3, 32, 32), num_attention_heads=4, attention_head_dim=64, ffn_dim=256, num_layers=2),
}


class Forward:
    """One forward of a model on this rank."""

    def __init__(self, name: str, device: torch.device, dtype: torch.dtype, backend: str):
        torch.manual_seed(0)
        with torch.device(device):
            torch.set_default_dtype(dtype)
            self.model, arguments = MODELS[name]()
            torch.set_default_dtype(torch.float32)
        self.model.eval()
        self._arguments, self._device, self._backend = arguments, device, backend
        self.pipeline = Holder(self.model, FlowMatchEulerDiscreteScheduler())

    @torch.no_grad()
    def __call__(self) -> torch.Tensor:
        return self.model(**self._arguments, return_dict=False)[0]

    def seconds(self, kept: float | None, repeats: int) -> tuple[float, torch.Tensor, float]:
        """Median time, output, and the kept share. kept None: dense, with Jenga on it for the order of joint tokens."""
        config = JengaConfig(density=kept or 1.0, backend=self._backend, strict=True)
        settings = CarvingSettings(config, min_tokens=10**9 if kept is None else 0)
        with apply(self.pipeline, settings) as carving:
            with carving.run(repeats + 1):
                out, times = self(), []
                for _ in range(repeats):
                    dist.barrier()
                    self._wait()
                    start = time.perf_counter()
                    self()
                    self._wait()
                    times.append(time.perf_counter() - start)
            return statistics.median(times), out, carving.report.summary()["kept_share"]

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def share(model, device: torch.device) -> None:
    ranks = dist.get_world_size()
    mesh = dist.device_mesh.init_device_mesh(device.type, (1, ranks), mesh_dim_names=("ring", "ulysses"))
    config = ContextParallelConfig(ulysses_degree=ranks, mesh=mesh)
    # The library divides by the number of accelerators, which is 0 on a machine without one.
    without = mock.patch("torch.accelerator.device_count", return_value=1) if device.type == "cpu" else nullcontext()
    with without:
        model.enable_parallelism(config=config, cp_plan=context_parallel_plan(model))


def compare(options: argparse.Namespace) -> None:
    """Every row on this rank alone and on all of them; the first rank prints."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    rank, ranks = dist.get_rank(), dist.get_world_size()
    forward = Forward(options.model, device, torch.bfloat16 if cuda else torch.float32, options.backend)
    forward.model.set_attention_backend(options.attention)

    rows = [*([] if options.without_dense else [None]), *options.kept]
    alone = [forward.seconds(kept, options.repeats) for kept in rows]
    share(forward.model, device)
    shared = [forward.seconds(kept, options.repeats) for kept in rows]
    if rank == 0:
        where = torch.cuda.get_device_name() if cuda else "CPU"
        print(f"{options.model}, {ranks} ranks on {where}, torch {torch.__version__}, dense by {options.attention}\n")
        print_head("attention", "kept", "1 rank, s", f"{ranks} ranks, s", "faster", "largest difference")
        for kept, (one, expected, kept_share), (many, found, _) in zip(rows, alone, shared, strict=True):
            name = "dense" if kept is None else f"carved {kept:g}"
            difference = (found.float() - expected.float()).abs().max().item()
            print_row(name, f"{kept_share:.1%}", f"{one:.3f}", f"{many:.3f}", f"{one / many:.2f}×", f"{difference:.2g}")
        for kept, (one, *_), (many, *_) in zip(rows, alone, shared, strict=True) if ranks == 2 else ():
            expected = {cards: scaling.forward_seconds(one, many, cards) for cards in scaling.CARDS[1:]}
            name = "dense" if kept is None else f"carved {kept:g}"
            print(f"\n{scaling.table(f'ranks, {options.model}, {name}', one, many, expected)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="wan-14b")
    parser.add_argument("--kept", type=float, nargs="+", default=[0.1, 0.2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--attention", default="native", help="the library's backend for dense attention")
    parser.add_argument("--backend", default="auto", help="of JengaConfig; with one that cannot run here it ends")
    parser.add_argument("--without-dense", action="store_true", help="carved rows alone, which take a fraction of it")
    options = parser.parse_args()

    backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "cpu:gloo"
    dist.init_process_group(backends, timeout=timedelta(minutes=5))
    compare(options)
    dist.barrier()  # a rank that leaves while another one still writes would end that one
    dist.destroy_process_group()
    # The meshes hold the groups, whose threads abort the process if they let go of the last collective's tensor while
    # the interpreter ends (https://github.com/pytorch/pytorch/issues/190489). With the groups the threads end.
    gc.collect()


if __name__ == "__main__":
    main()
