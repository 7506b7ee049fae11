"""The kernels that the host names are those that the machine code has: check_kernels.py LIST_KERNELS FATBIN...

LIST_KERNELS prints one a line: the code it is in (the stem of a FATBIN), its name, the bytes and the alignment of its
argument. Every one must be in that code, its argument must end where the host's does, and the code must have no other.
Exits with 77 (ctest: skipped) without cuobjdump.
"""

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from cuobjdump import dump, find_cuobjdump, resource_usage  # noqa: E402

# Where arguments begin in constant bank 0; one of a larger alignment begins later.
FIRST_BYTE = {
    **dict.fromkeys(("sm_80", "sm_86", "sm_89"), 0x160),
    **dict.fromkeys(("sm_90", "sm_90a"), 0x210),
    **dict.fromkeys(("sm_100", "sm_120"), 0x380),
}

Kernels = dict[tuple[str, str], set[tuple[str, int]]]  # code and name -> the last byte of bank 0 by architecture


def last_byte(arch: str, size: int, alignment: int) -> int:
    return (FIRST_BYTE[arch] + alignment - 1) // alignment * alignment + size


def found(cuobjdump: str, fatbin: Path) -> Kernels:
    """Every kernel of a fatbin, for the architectures of FIRST_BYTE."""
    kernels: Kernels = {}
    for arch, name, usage in resource_usage(dump(cuobjdump, "-res-usage", fatbin)):
        ends = kernels.setdefault((fatbin.stem, name), set())
        if arch in FIRST_BYTE and (match := re.search(r"CONSTANT\[0\]:(\d+)", usage)):
            ends.add((arch, int(match[1])))
    return kernels


def problems(named: dict[tuple[str, str], tuple[int, int]], compiled: Kernels) -> list[str]:
    wrong = [f"{name} is named by the host and not in {code}" for code, name in sorted(named.keys() - compiled.keys())]
    wrong += [f"{name} of {code} is named by no host code" for code, name in sorted(compiled.keys() - named.keys())]
    for key in sorted(named.keys() & compiled.keys()):
        if not compiled[key]:
            wrong.append(f"{key[1]}: no code for {' or '.join(FIRST_BYTE)}")
        for arch, last in sorted(compiled[key]):
            if last != last_byte(arch, *named[key]):
                wrong.append(
                    f"{key[1]}: the argument must end at byte {last_byte(arch, *named[key])} on {arch}, got {last}"
                )
    return wrong


def main(program: str, fatbins: list[str]) -> int:
    cuobjdump = find_cuobjdump()
    if cuobjdump is None:
        print("skipped: cuobjdump is neither on PATH nor in a Triton package")
        return 77
    compiled: Kernels = {}
    for fatbin in fatbins:
        compiled |= found(cuobjdump, Path(fatbin))
    lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    named = {(code, name): (int(size), int(alignment)) for code, name, size, alignment in map(str.split, lines)}
    wrong = problems(named, compiled)
    print("\n".join([*wrong, f"{len(named)} kernels in {len(fatbins)} files, {len(wrong)} problems"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
