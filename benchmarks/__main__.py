"""`python -m benchmarks`: every benchmark once, machine and versions first. Options are passed on to each."""

import platform
from pathlib import Path

import torch

from benchmarks import bench_block_sparse_attention, bench_carved_attention, bench_select_blocks
from jenga import ops


def processor() -> str:
    """The name of the CPU; Linux alone tells it, elsewhere its architecture."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
print(f"CPU tier {ops.cpu_isa()}" if ops.native_status().cpu else ops.native_status().reason)
if torch.cuda.is_available():
    print(torch.cuda.get_device_name())
with torch.inference_mode():
    for benchmark in (bench_select_blocks, bench_block_sparse_attention, bench_carved_attention):
        print(f"\n## {benchmark.__name__.removeprefix('benchmarks.')}\n", flush=True)
        benchmark.main()
