"""ISA objects must export no weak symbol: the linker may keep theirs for everyone and crash an older machine."""

import subprocess
import sys


def main() -> int:
    weak = []
    for path in sys.argv[1:]:
        lines = subprocess.run(["nm", "-C", path], check=True, capture_output=True, text=True).stdout.splitlines()
        weak += [f"{path}: {line.strip()}" for line in lines if len(line) > 17 and line[17] in "wWvVu"]
    print("\n".join(weak) or f"no weak symbols in {len(sys.argv) - 1} objects")
    return bool(weak)


if __name__ == "__main__":
    sys.exit(main())
