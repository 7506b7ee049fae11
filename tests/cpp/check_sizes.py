"""Files and functions of what ships stay small: one idea each.

check_sizes.py ROOT prints every file over 300 lines and every Python function over 60, but for those that EXEMPT names
with the reason why they are one idea, and every exemption that is not needed any more; it exits with 1 if there is one.
--self-test tries that in a temporary tree.
"""

import ast
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from checks import CXX_SUFFIXES, files, main, within

MAX_FILE, MAX_FUNCTION = 300, 60
FOLDERS = ("csrc", "kernels", "python/jenga", "nodes", "benchmarks", "demo", "scripts")

# Paths, of functions with their names behind a colon, and why they are one idea.
EXEMPT: dict[str, str] = {}


def too_long(path: str, text: str) -> Iterator[tuple[str, str]]:
    """What of a file is over a limit: a key of EXEMPT, and words."""
    lines = len(text.splitlines())
    if lines > MAX_FILE:
        yield path, f"{lines} lines, a file has at most {MAX_FILE}"
    if not path.endswith(".py"):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if lines > MAX_FUNCTION:
                yield f"{path}:{node.name}", f"{lines} lines, a function has at most {MAX_FUNCTION}"


def violations(root: Path, exempt: dict[str, str] = EXEMPT) -> list[str]:
    found, used = [], set()
    for file in files(root):
        path = file.relative_to(root).as_posix()
        if within(path, *FOLDERS) and file.suffix in {".py", *CXX_SUFFIXES}:
            for name, words in too_long(path, file.read_text(encoding="utf-8")):
                used.add(name)
                found += [] if name in exempt else [f"{name}: {words}"]
    return found + [f"{name}: exempt without need" for name in exempt if name not in used]


def self_test() -> None:
    lines = {
        "nodes/long.py": MAX_FILE + 1,
        "nodes/exempt.py": MAX_FILE + 1,
        "nodes/short.py": MAX_FILE,
        "kernels/long.h": MAX_FILE + 1,
        "tests/long.py": MAX_FILE + 1,
    }
    texts = {path: "\n" * count for path, count in lines.items()}
    texts["demo/functions.py"] = "".join(
        f"def {name}():\n" + "    pass\n" * (count - 1)
        for name, count in {"long": MAX_FUNCTION + 1, "exempt": MAX_FUNCTION + 1, "short": MAX_FUNCTION}.items()
    )
    with tempfile.TemporaryDirectory() as folder:
        for path, text in texts.items():
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_text(text, encoding="utf-8")
        exempt = dict.fromkeys(("nodes/exempt.py", "demo/functions.py:exempt", "nodes/short.py"), "a reason")
        found = violations(Path(folder), exempt)
    expected = {"nodes/long.py", "kernels/long.h", "demo/functions.py:long", "nodes/short.py"}
    names = {line.partition(": ")[0] for line in found}
    assert names == expected and len(found) == len(expected), f"expected {sorted(expected)}, got {found}"
    print(f"{len(found)} violations found as expected")


if __name__ == "__main__":
    sys.exit(main(__doc__, violations, self_test, "sizes hold"))
