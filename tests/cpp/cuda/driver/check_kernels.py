"""The kernels that the host names are those that the machine code has: check_kernels.py LIST_KERNELS FATBIN...

LIST_KERNELS prints one a line: the code it is in (the stem of a FATBIN), its name, the bytes of its argument. Every one
must be in that code, its argument of that size, and the code must have no other. Exits with 77 (ctest: skipped) without
cuobjdump.
"""

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from check_sass import find_cuobjdump  # noqa: E402

# Where the argument of a kernel begins in constant bank 0.
FIRST_BYTE = {"sm_80": 0x160, "sm_86": 0x160, "sm_89": 0x160, "sm_90a": 0x210}


def listed(program: str) -> dict[tuple[str, str], int]:
    lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    return {(code, name): int(size) for code, name, size in (line.split() for line in lines)}


def found(cuobjdump: str, fatbin: Path) -> dict[tuple[str, str], set[int]]:
    """Every kernel of a fatbin, with the sizes of its argument for the architectures of FIRST_BYTE."""
    said = subprocess.run([cuobjdump, "-res-usage", fatbin], check=True, capture_output=True, text=True).stdout
    kernels: dict[tuple[str, str], set[int]] = {}
    arch = ""
    for line in said.splitlines():
        if match := re.search(r"^arch = (sm_\w+)", line):
            arch = match[1]
        elif match := re.search(r"Function (\S+):", line):
            sizes = kernels.setdefault((fatbin.stem, match[1]), set())
        elif (match := re.search(r"CONSTANT\[0\]:(\d+)", line)) and arch in FIRST_BYTE:
            sizes.add(int(match[1]) - FIRST_BYTE[arch])
    return kernels


def problems(named: dict[tuple[str, str], int], compiled: dict[tuple[str, str], set[int]]) -> list[str]:
    wrong = [f"{name} is named by the host and not in {code}" for code, name in sorted(named.keys() - compiled.keys())]
    wrong += [f"{name} of {code} is named by no host code" for code, name in sorted(compiled.keys() - named.keys())]
    for key in sorted(named.keys() & compiled.keys()):
        if compiled[key] != {named[key]}:
            wrong.append(f"{key[1]}: the host gives {named[key]} bytes, the code takes {sorted(compiled[key])}")
    return wrong


def main(program: str, fatbins: list[str]) -> int:
    cuobjdump = find_cuobjdump()
    if cuobjdump is None:
        print("skipped: cuobjdump is neither on PATH nor in a Triton package")
        return 77
    compiled: dict[tuple[str, str], set[int]] = {}
    for fatbin in fatbins:
        compiled |= found(cuobjdump, Path(fatbin))
    named = listed(program)
    wrong = problems(named, compiled)
    print("\n".join([*wrong, f"{len(named)} kernels in {len(fatbins)} files, {len(wrong)} problems"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
