"""What the benchmarks share: shapes, inputs with structure, block lists, timing, the dense rivals, exact answers.

Times are medians of repeats after a warm-up, by torch.utils.benchmark; everything that stands in one ratio takes turns
in one process. Kept work counts 4 · D floating-point operations for every query-key pair that is really computed.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.benchmark import Timer
from torch.utils.benchmark.utils.timer import timer as default_clock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "python"))
import cases
import oracles

Q_BLOCK = 128
CPU_CASES = (
    cases.Case("4 × 8,192 × 128", grid=(8, 32, 32), heads=4, head_dim=128),
    cases.Case("4 × 8,192 × 64", grid=(8, 32, 32), heads=4, head_dim=64),
    cases.Case("demo, 2 × 8,320 × 128", grid=(13, 20, 32), heads=2, head_dim=128),
)
CUDA_CASES = (
    cases.Case("HunyuanVideo 720p, 24 × 115,456", grid=(32, 45, 80), heads=24, head_dim=128, before=256),
    cases.Case("Wan 14B 720p, 40 × 75,600", grid=(21, 45, 80), heads=40, head_dim=128),
    cases.Case("Wan 1.3B 480p, 12 × 32,760", grid=(21, 30, 52), heads=12, head_dim=128),
    cases.Case("head dim 64, 24 × 32,760", grid=(21, 30, 52), heads=24, head_dim=64),
)
KEPT_SHARES = (0.05, 0.1, 0.2, 0.3, 1.0)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class Unavailable(Exception):
    """A row that cannot run here; the text says why."""


def parser(description: str) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--dtype", action="append", choices=list(DTYPES), help="may repeat; CPU: bf16 and fp32, CUDA: bf16")
    p.add_argument("--case", type=int, action="append", help="run only this case, by index (may repeat)")
    p.add_argument("--kept", type=float, action="append", help="run only this share (may repeat)")
    p.add_argument("--refcheck", action="store_true", help="also print the error against fp64")
    p.add_argument("--seconds", type=float, default=1.0, help="least time spent on one figure")
    return p


def add_settled(parser: argparse.ArgumentParser) -> None:
    """The option by which `timing` chooses."""
    parser.add_argument("--settled", action="store_true", help="--seconds of the same before each figure, and no turns")


def timing(arguments) -> Callable[[dict[str, Callable]], dict[str, float]]:
    """Median seconds of statements by name: in turns, or with --settled each by itself."""
    return partial(settled_seconds if arguments.settled else median_seconds, seconds=arguments.seconds)


def selected(arguments) -> Iterator[tuple[cases.Case, str]]:
    """Every case with every dtype, by name, that the options ask for."""
    on_gpu = arguments.device.startswith("cuda")
    listed = CUDA_CASES if on_gpu else CPU_CASES
    for i in arguments.case or range(len(listed)):
        for dtype in arguments.dtype or (["bf16"] if on_gpu else ["bf16", "fp32"]):
            yield listed[i], dtype


def structured_qkv(case: cases.Case, dtype: str, device: str, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """q, k, v [1, H, S, D] (memory [1, S, H, D]) whose attention is local in the grid, as a trained model's is.

    q and k share random Fourier features of the position, each head with its own bandwidth, plus noise; context
    tokens are noise alone. Speed may be judged on them, quality may not: that takes trained activations.
    """
    generator = torch.Generator(device).manual_seed(seed)
    axes = [torch.linspace(0, n / max(case.grid), n, device=device) for n in case.grid]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
    shape = (case.tokens, case.heads, case.head_dim)
    q, k, v = (torch.randn(shape, device=device, generator=generator) for _ in range(3))
    for head in range(case.heads):
        bandwidth = 4.0 + 12.0 * head / case.heads
        frequency = torch.randn(3, case.head_dim, device=device, generator=generator) * bandwidth
        phase = torch.rand(case.head_dim, device=device, generator=generator) * (2 * math.pi)
        features = torch.cos(position @ frequency + phase) * 1.6
        q[case.num_context :, head] += features
        k[case.num_context :, head] += features
    return tuple(x.to(DTYPES[dtype]).unsqueeze(0).transpose(1, 2) for x in (q, k, v))


def random_lists(case: cases.Case, kept: float, kv_block_size: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Ascending random block lists of one length: kv_block_index [1, H, nq, n], kv_block_count [1, H, nq]."""
    nq, nkv = case.blocks(Q_BLOCK), case.blocks(kv_block_size)
    count = kept_blocks(kept, nkv)
    scores = torch.rand(1, case.heads, nq, nkv, device=device)
    index = scores.topk(count, dim=-1).indices.sort(dim=-1).values.int()
    return index, torch.full((1, case.heads, nq), count, dtype=torch.int32, device=device)


def kept_blocks(kept: float, num_blocks: int) -> int:
    return max(1, math.ceil(kept * num_blocks))


def median_seconds(statements: dict[str, Callable], seconds: float) -> dict[str, float]:
    """Median wall time of each statement, device work included. They take turns: a disturbance meets them all.

    With one thread on a CPU (OMP_NUM_THREADS=1) it is processor time, which other programs do not change.
    """
    threads = torch.get_num_threads()
    clock = time.process_time if threads == 1 and not torch.cuda.is_available() else default_clock
    timers, repeats, runs = {}, {}, {name: [] for name in statements}
    for name, statement in statements.items():
        # A Timer runs on one thread unless told otherwise.
        timers[name] = Timer("statement()", globals={"statement": statement}, num_threads=threads, timer=clock)
        repeats[name] = max(1, min(100, int(0.02 / timers[name].timeit(1).mean)))  # and the warm-up
    while timers:
        for name in list(timers):
            runs[name].append(timers[name].timeit(repeats[name]).mean)
            if len(runs[name]) >= 3 and sum(runs[name]) * repeats[name] >= seconds:
                del timers[name]
    return {name: float(torch.tensor(times).median()) for name, times in runs.items()}


def settled_seconds(statements: dict[str, Callable], seconds: float) -> dict[str, float]:
    """Median wall time of each statement on a GPU after so many seconds of nothing else, over as many.

    A GPU at its power limit has another clock for each statement, and takes its time to change it: in turns all of them
    run at one between theirs.
    """
    medians = {}
    for name, statement in statements.items():
        timer = Timer("statement()", globals={"statement": statement}, timer=default_clock)
        repeats = max(1, int(0.02 / timer.timeit(1).mean))
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            timer.timeit(repeats)
        times, start = [], time.perf_counter()
        while len(times) < 3 or time.perf_counter() - start < seconds:
            times.append(timer.timeit(repeats).mean)
        medians[name] = float(torch.tensor(times).median())
    return medians


def dense_calls(q, k, v) -> dict[str, Callable]:
    """The dense SDPA backends that run here, by name; the fastest is the baseline."""
    backends = {"SDPA": [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]}
    if q.is_cuda:
        backends = {"cuDNN": [SDPBackend.CUDNN_ATTENTION], "FLASH": [SDPBackend.FLASH_ATTENTION]}
    calls = {}
    for name, kinds in backends.items():

        def call(kinds=kinds):
            with sdpa_kernel(kinds):
                return torch.nn.functional.scaled_dot_product_attention(q, k, v)

        try:
            call()
        except RuntimeError as refusal:
            print(f"{name} does not run here: {str(refusal).splitlines()[0]}")
        else:
            calls[name] = call
    return calls


def dense_rate(case: cases.Case, seconds: float) -> float:
    """TFLOP/s of a dense call that takes so long."""
    return 4.0 * case.heads * case.tokens**2 * case.head_dim / seconds / 1e12


def dense_rates(case: cases.Case, names: Iterable[str], seconds: dict[str, float]) -> str:
    """Milliseconds and TFLOP/s of the dense backends, as text."""
    return ", ".join(f"{n} {seconds[n] * 1e3:.2f} ms, {dense_rate(case, seconds[n]):.3f} TFLOP/s" for n in names)


def print_row(*cells) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def print_head(*names: str) -> None:
    print_row(*names)
    print("|" + "---|" * len(names))


def relative_error(out: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2 error in fp64."""
    return float((out.double() - expected).norm() / expected.norm())


def dense_fp64(q, k, v, rows: torch.Tensor) -> torch.Tensor:
    """Dense attention of the queries `rows` [R] in fp64: [1, H, R, D]."""
    q, k, v = (x.double() for x in (q[:, :, rows], k, v))
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, dim=-1) @ v


def carved_fp64(case: cases.Case, q, blocks, lists, rows: torch.Tensor, kv_block_size: int, tail_block_size: int):
    """block_sparse_attention of the last query rows in carved order, `rows` [R] in raster order, in fp64: [1, H, R, D].

    blocks: what `prepare_blocks` returned; lists: kv_block_index, kv_block_count; tail_block_size 0: drop only.
    """
    listed = oracles.lists_to_mask(*(x.cpu() for x in lists), case.blocks(kv_block_size)).to(q.device)
    q_block = torch.arange(case.num_video - len(rows), case.num_video, device=q.device) // Q_BLOCK
    kept = listed[:, :, q_block]
    video = torch.arange(case.num_video, device=q.device)
    padding = torch.arange(case.padded_context, device=q.device) >= case.num_context
    terms = [padding.expand(*kept.shape[:3], -1), ~kept[..., video // kv_block_size]]
    terms = [torch.zeros(x.shape, device=q.device, dtype=torch.float64).masked_fill_(x, -math.inf) for x in terms]
    keys, values = [blocks.k_carved], [blocks.v_carved]
    if tail_block_size:
        first = torch.arange(0, case.num_video, tail_block_size, device=q.device)
        population = (case.num_video - first).clamp(max=tail_block_size).double().log()
        terms.append(torch.where(kept[..., first // kv_block_size], -math.inf, population))
        keys.append(blocks.k_tail)
        values.append(blocks.v_tail)
    logits = q[:, :, rows].double() @ torch.cat(keys, 2).double().mT * case.head_dim**-0.5
    return torch.softmax(logits + torch.cat(terms, -1), dim=-1) @ torch.cat(values, 2).double()
