"""`python -m benchmarks`: every benchmark once, machine and versions first. Options are passed on to each."""

import torch

from benchmarks import bench_block_sparse_attention, bench_carved_attention, bench_select_blocks, common
from jenga.carving import ops

print(f"{common.processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
print(f"CPU tier {ops.cpu_isa()}" if ops.native_status().cpu else ops.native_status().reason)
if torch.cuda.is_available():
    print(torch.cuda.get_device_name())
with torch.inference_mode():
    for benchmark in (bench_select_blocks, bench_block_sparse_attention, bench_carved_attention):
        print(f"\n## {benchmark.__name__.removeprefix('benchmarks.')}\n", flush=True)
        benchmark.main()
