"""`python -m jenga`: what is installed here and which backends can run, each with the reason where it cannot."""

import platform
import sys

import torch

from . import __version__, backends


def main() -> None:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    print(f"jenga {__version__}, Python {sys.version.split()[0]} on {platform.system()} {platform.machine()}")
    print(f"torch {torch.__version__}, {device}")
    for backend in backends():
        print(f"  {backend}")


if __name__ == "__main__":
    main()
