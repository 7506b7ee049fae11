"""What a release needs beside the wheels and the node pack: requirements.txt, checksums and notes.

    python -m scripts.release requirements URL   # the wheels' lines in requirements.txt; URL: the folder of the release
    python -m scripts.release notes dist         # SHA256SUMS and NOTES.md of what is in dist

The version stands in pyproject.toml. `jenga.__version__` and the newest heading of CHANGELOG.md must agree with it.
"""

import argparse
import hashlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Tag of a wheel -> the machines that take it.
PLATFORMS = {
    "manylinux_2_34_x86_64": 'sys_platform == "linux" and platform_machine == "x86_64"',
    "win_amd64": 'sys_platform == "win32" and platform_machine == "AMD64"',
}
REFERENCE = "comfyui-jenga @ "


def version() -> str:
    """The version of pyproject.toml. Raises RuntimeError where another file says another one."""
    found = {
        "pyproject.toml": _find("pyproject.toml", r'^version = "(.+)"'),
        "python/jenga/__init__.py": _find("python/jenga/__init__.py", r'^__version__ = "(.+)"'),
        "CHANGELOG.md": _find("CHANGELOG.md", r"^## (\S+)"),
    }
    if len(set(found.values())) > 1:
        raise RuntimeError(f"release: every file must name one version, got {found}")
    return found["pyproject.toml"]


def wheel_name(platform: str) -> str:
    return f"comfyui_jenga-{version()}-py3-none-{platform}.whl"


def with_references(requirements: str, url: str) -> str:
    """requirements.txt with one direct reference for each platform, in the place of those that were there."""
    kept = [line for line in requirements.splitlines() if not line.startswith(REFERENCE)]
    new = [f"{REFERENCE}{url.rstrip('/')}/{wheel_name(tag)} ; {marker}" for tag, marker in PLATFORMS.items()]
    return "\n".join([*kept, *new]) + "\n"


def changes(text: str, of: str) -> str:
    """The part of CHANGELOG.md under the heading of one version."""
    match = re.search(rf"^## {re.escape(of)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if not match:
        raise RuntimeError(f"release: CHANGELOG.md must have a heading '## {of}', got none")
    return match[1].strip()


def write_notes(folder: Path) -> None:
    """Writes SHA256SUMS and NOTES.md. Raises RuntimeError where a wheel or the node pack is missing."""
    names = [*map(wheel_name, PLATFORMS), f"comfyui-jenga-{version()}.zip"]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise RuntimeError(f"release: {folder} must hold both wheels and the node pack, got no {', '.join(missing)}")
    sums = "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (folder / "SHA256SUMS").write_text(sums)
    notes = changes((ROOT / "CHANGELOG.md").read_text(), version())
    (folder / "NOTES.md").write_text(
        f"# Jenga for ComfyUI {version()}\n\n{notes}\n\n"
        "Unpack the zip into `ComfyUI/custom_nodes`, then install the wheel of your system with ComfyUI's Python; the "
        f"README has the commands.\n\n```\n{sums}```\n"
    )


def _find(path: str, pattern: str) -> str:
    match = re.search(pattern, (ROOT / path).read_text(), re.MULTILINE)
    return match[1] if match else "none"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=["version", "requirements", "notes"])
    parser.add_argument("where", nargs="?", help="the release's URL, or the folder of its files")
    arguments = parser.parse_args()
    if arguments.step == "version":
        print(version())
    elif arguments.step == "requirements":
        file = ROOT / "requirements.txt"
        file.write_text(with_references(file.read_text(), arguments.where))
    else:
        write_notes(Path(arguments.where))
    return 0


if __name__ == "__main__":
    sys.exit(main())
