"""Checks the machine code of attention kernels: check_sass.py INSTRUCTION FATBIN...

Every function whose name contains `_attention_` must use INSTRUCTION (HGMMA on sm_90a, HMMA on sm_80) and must
neither spill nor keep anything in local memory: no stack, no LDL, no STL. Exits with 77 (ctest: skipped) without
cuobjdump.
"""

import re
import sys

from cuobjdump import dump, find_cuobjdump, resource_usage


def functions_of(listing: str) -> dict[str, str]:
    """Machine code by function name."""
    parts = re.split(r"^\s*Function : (\S+)$", listing, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def main(instruction: str, fatbins: list[str]) -> int:
    cuobjdump = find_cuobjdump()
    if cuobjdump is None:
        print("skipped: cuobjdump is neither on PATH nor in a Triton package")
        return 77

    code_of = functions_of(dump(cuobjdump, "-sass", *fatbins))
    kernels = {name: code for name, code in code_of.items() if "_attention_" in name}
    problems = [] if kernels else [f"no attention kernel in {' '.join(fatbins)}"]
    for name, code in kernels.items():
        if not re.search(rf"\b{instruction}\b", code):
            problems.append(f"{name}: no {instruction}")
        if local := re.findall(r"\b(?:LDL|STL)\b.*", code):
            problems.append(f"{name}: {len(local)} local-memory accesses, first: {local[0].strip()}")
    for _, name, usage in resource_usage(dump(cuobjdump, "-res-usage", *fatbins)):
        if "_attention_" not in name:
            continue
        if int(re.search(r"STACK:(\d+)", usage)[1]) or int(re.search(r"LOCAL:(\d+)", usage)[1]):
            problems.append(f"{name}: registers spill or arrays sit in local memory ({usage})")
    for problem in problems:
        print(problem)
    print(f"{len(kernels)} kernels, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
