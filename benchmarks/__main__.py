"""`python -m benchmarks`: every benchmark once, machine and versions first. Options are passed on to each."""

import torch

from benchmarks import bench_block_sparse_attention, bench_carved_attention, bench_select_blocks
from demo import machine

print(machine.measure(cpu=True))
print(f"torch {torch.__version__}" + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""))
with torch.inference_mode():
    for benchmark in (bench_select_blocks, bench_block_sparse_attention, bench_carved_attention):
        print(f"\n## {benchmark.__name__.removeprefix('benchmarks.')}\n", flush=True)
        benchmark.main()
