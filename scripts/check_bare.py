"""The wheel on a machine without a compiler: `python -m scripts.check_bare dist/comfyui_jenga-*.whl`.

An environment of its own gets the wheel; torch and ComfyUI's requirements are those of this Python. Neither a C++
compiler nor nvcc is on the path, and no variable tells where one is. There the demo's graph runs in ComfyUI, short, and
must have run on our kernels.
"""

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHORT = ("--cpu", "--frames", "17", "--steps", "4")


def environment(folder: Path, tools: Path) -> dict[str, str]:
    """Nothing of this shell's but the home of caches, and no path but that of `tools`."""
    kept = {name: os.environ[name] for name in ("HOME", "OMP_NUM_THREADS") if name in os.environ}
    return {**kept, "PATH": str(tools), "TMPDIR": str(folder)}


def install(wheel: Path, folder: Path) -> Path:
    """An environment with the wheel before everything that this Python has; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", str(packages), str(wheel)], check=True)
    theirs = [path for path in sys.path if path.endswith("site-packages")] or [sysconfig.get_path("purelib")]
    (packages / "zz_theirs.pth").write_text("\n".join(theirs) + "\n")  # after the wheel's own
    return folder / "bin" / "python"


def ran_by(report: dict) -> list[str]:
    """The backends of a report's attention calls, without those that are dense by choice, as anchors are."""
    chosen = sum(report["dense_by_choice"].values())
    return sorted(name for name, calls in report["backends"].items() if calls > (chosen if name == "dense" else 0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel.resolve()
    with tempfile.TemporaryDirectory(prefix="jenga-bare-") as name:
        folder = Path(name)
        python, tools, output = install(wheel, folder / "venv"), folder / "tools", folder / "output"
        tools.mkdir()
        (tools / "python").symlink_to(python)
        bare = environment(folder, tools)
        subprocess.run([python, "-m", "jenga"], check=True, cwd=folder, env=bare)
        subprocess.run([python, "-m", "demo.run", *SHORT, "--output", str(output)], check=True, cwd=ROOT, env=bare)
        reports = json.loads((output / "report.json").read_text())["reports"]
    backends = {name: ran_by(report) for name, report in reports.items()}
    if any(ran != ["native_cpu"] for ran in backends.values()):
        raise RuntimeError(f"check_bare: every run must be on native_cpu, got {backends}")
    print(f"check_bare: {wheel.name} ran the demo's graph without a compiler, on native_cpu: {', '.join(backends)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
