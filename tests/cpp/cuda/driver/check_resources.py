"""Every compiled kernel fits its GPUs: check_resources.py [--table] LIST_LAUNCHES FATBIN..., or --self-test.

LIST_LAUNCHES prints what is launched on a card of every generation: architecture, kernel, threads, dynamic shared
memory. Out of the machine code's resource usage: no kernel spills, none needs more shared memory than its architecture
gives a thread block, and on cards with 100 KB a multiprocessor two thread blocks of every attention kernel are resident
(the tile table: kernels/cuda/sm86/shape.h). --table prints the attention kernels of those cards as Markdown. Exits with
77 (ctest: skipped) without cuobjdump.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from cuobjdump import dump, find_cuobjdump, resource_usage  # noqa: E402


class Card(NamedTuple):
    """Limits of an architecture (CUDA programming guide, technical specifications per compute capability)."""

    block_bytes: int  # of shared memory
    processor_bytes: int
    warps: int  # of a multiprocessor
    blocks: int


CARDS = {
    "sm_80": Card(166912, 167936, 64, 32),
    "sm_86": Card(101376, 102400, 48, 16),
    "sm_89": Card(101376, 102400, 48, 24),
    "sm_90": Card(232448, 233472, 64, 32),
    "sm_100": Card(232448, 233472, 64, 32),
    "sm_120": Card(101376, 102400, 48, 24),
}
SMALL = [arch for arch, card in CARDS.items() if card.processor_bytes == 102400]
RESERVED_BYTES = 1024  # of shared memory, by the system, for every thread block
REGISTERS, REGISTER_UNIT, SHARED_UNIT = 65536, 256, 128  # of a multiprocessor; what a warp and a thread block take


class Usage(NamedTuple):
    """What the machine code of a kernel takes; shared_bytes without what the system reserves."""

    registers: int
    stack_bytes: int
    shared_bytes: int


class Launch(NamedTuple):
    """What the host asks for."""

    threads: int
    dynamic_bytes: int


Compiled = dict[tuple[str, str], Usage]  # by architecture and kernel
Launches = dict[tuple[str, str], Launch]


def compiled(listing: str) -> Compiled:
    """What `cuobjdump -res-usage` says. From 9.0 on it counts the reserved bytes in where a kernel has any."""
    kernels: Compiled = {}
    for arch, name, usage in resource_usage(listing):
        found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", usage)
        registers, stack, shared, local = map(int, found.groups())
        reserved = RESERVED_BYTES if number_of(arch) >= 90 else 0
        kernels[arch, name] = Usage(registers, stack + local, max(shared - reserved, 0))
    return kernels


def number_of(arch: str) -> int:
    return int(re.sub(r"\D", "", arch))


def code_for(kernels: Compiled, arch: str, name: str) -> str | None:
    """The architecture whose code that card runs: of its generation, the newest that is no newer; None: PTX."""
    if (f"{arch}a", name) in kernels:
        return f"{arch}a"
    card = number_of(arch)
    fitting = [
        number_of(other)
        for other, kernel in kernels
        if kernel == name and not other.endswith("a") and number_of(other) // 10 == card // 10
    ]
    fitting = [number for number in fitting if number <= card]
    return f"sm_{max(fitting)}" if fitting else None


def resident_blocks(card: Card, usage: Usage, launch: Launch) -> int:
    """Thread blocks of one kernel that a multiprocessor holds at a time."""
    warps = -(-launch.threads // 32)
    warp_registers = -(-usage.registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    shared = -(-(usage.shared_bytes + launch.dynamic_bytes + RESERVED_BYTES) // SHARED_UNIT) * SHARED_UNIT
    return min(card.blocks, card.warps // warps, REGISTERS // warp_registers // warps, card.processor_bytes // shared)


def problems(kernels: Compiled, launches: Launches) -> list[str]:
    wrong = []
    for (arch, name), usage in sorted(kernels.items()):
        if usage.stack_bytes > 0:
            wrong.append(f"{name} on {arch}: registers spill or arrays sit in local memory, {usage.stack_bytes} bytes")
    for (arch, name), launch in sorted(launches.items()):
        code = code_for(kernels, arch, name)
        if code is None:
            continue
        usage, card = kernels[code, name], CARDS[arch]
        needed = usage.shared_bytes + launch.dynamic_bytes
        if needed > card.block_bytes:
            wrong.append(
                f"{name} on {arch}: a thread block has {card.block_bytes} bytes of shared memory, not {needed}"
            )
        blocks = resident_blocks(card, usage, launch)
        if arch in SMALL and "_attention_" in name and blocks < 2:
            wrong.append(f"{name} on {arch}: two thread blocks must be resident, got {blocks}")
    return wrong


def table(kernels: Compiled, launches: Launches) -> str:
    """Attention kernels of cards with 100 KB; the numbers of their architectures in one row where they are equal."""
    rows: dict[str, list[str]] = {}
    for (arch, name), launch in sorted(launches.items(), key=lambda item: number_of(item[0][0])):
        code = code_for(kernels, arch, name)
        if arch not in SMALL or "_attention_" not in name or not name.endswith("_bf16") or code is None:
            continue
        usage = kernels[code, name]
        blocks = resident_blocks(CARDS[arch], usage, launch)
        shared = usage.shared_bytes + launch.dynamic_bytes
        figures = (usage.registers, usage.stack_bytes, shared, blocks, blocks * launch.threads // 32)
        key = " | ".join(map(str, (name.removeprefix("jenga_").removesuffix("_bf16"), *figures)))
        rows.setdefault(key, []).append(arch.removeprefix("sm_") + ("" if code == arch else f" (code for {code[3:]})"))
    head = (
        "| kernel | on | registers | spilled | shared, bytes | thread blocks | warps |\n|---|---|---|---|---|---|---|"
    )
    cells = ((*key.split(" | ", 1), ", ".join(archs)) for key, archs in sorted(rows.items()))
    return "\n".join([head, *(f"| {kernel} | {archs} | {figures} |" for kernel, figures, archs in cells)])


def self_test() -> None:
    """What is wrong is found, and what is right is not."""
    listing = "arch = sm_{}\n Function {}:\n  REG:{} STACK:{} SHARED:{} LOCAL:0 CONSTANT[0]:844\n"
    name = "jenga_sm86_attention_128_bf16"
    fine = compiled(listing.format(86, name, 244, 0, 0))
    launched = {("sm_86", name): Launch(128, 49700), ("sm_89", name): Launch(128, 49700)}
    assert problems(fine, launched) == [] and code_for(fine, "sm_89", name) == "sm_86"
    assert code_for(fine, "sm_120", name) is None and code_for(fine, "sm_80", name) is None
    for shared in (0, 1024):
        assert compiled(listing.format(120, name, 244, 0, shared))["sm_120", name].shared_bytes == 0
    for wrong, bytes_asked, words in (
        (compiled(listing.format(86, name, 255, 8, 0)), 49700, "registers spill"),
        (fine, 101377, "has 101376 bytes of shared memory, not 101377"),
        (fine, 66000, "two thread blocks must be resident, got 1"),
    ):
        found = problems(wrong, {("sm_86", name): Launch(128, bytes_asked)})
        assert any(words in problem for problem in found), (words, found)
    assert resident_blocks(CARDS["sm_86"], Usage(168, 0, 0), Launch(128, 20000)) == 3


def main(arguments: list[str]) -> int:
    if arguments == ["--self-test"]:
        self_test()
        return 0
    cuobjdump = find_cuobjdump()
    if cuobjdump is None:
        print("skipped: cuobjdump is neither on PATH nor in a Triton package")
        return 77
    program, *fatbins = [x for x in arguments if x != "--table"]
    said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    launches: Launches = {}
    for arch, name, threads, dynamic in map(str.split, said.splitlines()):
        before = launches.get((arch, name), Launch(0, 0))
        launches[arch, name] = max(before, Launch(int(threads), int(dynamic)))
    kernels = compiled(dump(cuobjdump, "-res-usage", *fatbins))
    if "--table" in arguments:
        print(table(kernels, launches))
    wrong = problems(kernels, launches)
    translated = sum(code_for(kernels, *launch) is None for launch in launches)
    print(
        "\n".join(wrong + [f"{len(kernels)} pieces of machine code, {len(wrong)} problems"]),
        f"{len(launches)} launches, {translated} of PTX, whose code the driver makes",
        sep="; ",
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
