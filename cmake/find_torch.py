"""Print the folder of an installed torch that the libraries can be built against; exit with 1 where there is none."""

import importlib.util
import re
import site
import sys
import sysconfig
from pathlib import Path

OLDEST = (2, 10)


def candidates() -> list[Path]:
    """What `import torch` finds, then the site-packages of the environment around an isolated build."""
    spec = importlib.util.find_spec("torch")
    found = [Path(spec.origin).parent] if spec and spec.origin else []
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()}
    return found + [Path(folder, "torch") for folder in sorted(folders)]


def version(folder: Path) -> tuple[int, int]:
    """Read, not imported: the build may run under another Python than the one that torch is for. (0, 0): no torch."""
    file = folder / "version.py"
    match = re.search(r"__version__ = '(\d+)\.(\d+)", file.read_text()) if file.is_file() else None
    return (int(match[1]), int(match[2])) if match else (0, 0)


def main() -> int:
    for folder in candidates():
        if version(folder) >= OLDEST:
            print(folder)
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
