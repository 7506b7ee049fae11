"""`python -m benchmarks`: every benchmark once, machine and versions first. Options are passed on to each."""

import platform

import torch

from benchmarks import bench_block_sparse_attention, bench_carved_attention, bench_select_blocks

print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
if torch.cuda.is_available():
    print(torch.cuda.get_device_name())
for benchmark in (bench_select_blocks, bench_block_sparse_attention, bench_carved_attention):
    print(f"\n## {benchmark.__name__.removeprefix('benchmarks.')}\n")
    benchmark.main()
