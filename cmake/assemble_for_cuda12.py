"""Machine code that drivers for CUDA 12 take too, with a newer nvcc.

`assemble_for_cuda12.py NVCC PTXAS SOURCE FATBIN ARCHS FLAG...`: NVCC compiles to PTX, whose version is set back to 8.3
(CUDA 12.3; no kernel uses what came later, or PTXAS refuses it), and PTXAS of CUDA 12 makes code of that. ARCHS:
as in jenga_cuda_folder, with commas; `80-ptx` keeps the PTX itself, `100-of-80` makes code for 100 of the PTX for 80.
The code is not compressed: older drivers know older compression, and a wheel is compressed anyway.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

PTX_VERSION = "8.3"


def ptx(nvcc: str, source: str, arch: str, flags: list[str], target: Path) -> None:
    subprocess.run([nvcc, "-ptx", f"-arch=compute_{arch}", *flags, source, "-o", target], check=True)
    text, changed = re.subn(r"(?m)^\.version \d+\.\d+$", f".version {PTX_VERSION}", target.read_text(), count=1)
    if not changed:
        raise RuntimeError(f"assemble_for_cuda12: the PTX of {source} must say its version, got none")
    target.write_text(text)


def assemble(nvcc: str, ptxas: str, source: str, fatbin: str, archs: list[str], flags: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="jenga-ptx-") as folder:
        images = []
        for arch in archs:
            number, _, virtual = arch.removesuffix("-ptx").partition("-of-")
            text = Path(folder, f"{virtual or number}.ptx")
            if not text.exists():
                ptx(nvcc, source, virtual or number, flags, text)
            kind, file = ("ptx", text) if arch.endswith("-ptx") else ("elf", Path(folder, f"{number}.cubin"))
            if kind == "elf":
                subprocess.run([ptxas, f"-arch=sm_{number}", "-O3", "-lineinfo", text, "-o", file], check=True)
            images.append(f"--image3=kind={kind},sm={number},file={file}")
        fatbinary = Path(nvcc).resolve().with_name("fatbinary")
        subprocess.run([fatbinary, "-64", "--compress=false", *images, f"--create={fatbin}"], check=True)


if __name__ == "__main__":
    assemble(*sys.argv[1:5], sys.argv[5].split(","), sys.argv[6:])
