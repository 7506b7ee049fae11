"""What the checks of the tree share: which files are ours, and their command line."""

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path

CXX_SUFFIXES = {".h", ".hpp", ".cuh", ".cpp", ".cc", ".cu"}
NOT_OURS = {"build", "dist", "__pycache__", "node_modules"}


def within(path: str, *folders: str) -> bool:
    return any(path.startswith(folder + "/") for folder in folders)


def files(root: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(
            s
            for s in subfolders
            if not s.startswith(".") and s not in NOT_OURS and not (Path(folder) / s / "pyvenv.cfg").exists()
        )
        yield from (Path(folder) / name for name in sorted(names))


def main(doc: str, violations: Callable[[Path], list[str]], self_test: Callable[[], None], fine: str) -> int:
    """The exit status of a check that is called with ROOT or --self-test. doc: its module's. fine: printed where there
    is no violation.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, help="the project")
    parser.add_argument("--self-test", action="store_true", help="check the checker")
    args = parser.parse_args()
    if args.self_test:
        self_test()
        return 0
    if args.root is None or not (args.root / "csrc").is_dir():
        parser.error(f"ROOT must be the project (the folder that holds csrc), got {args.root}")
    found = violations(args.root)
    print("\n".join(found) or fine)
    return 1 if found else 0
