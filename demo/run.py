"""`make demo`: the demo workflow in a real, headless ComfyUI, dense and with Jenga on the same noise.

Starts ComfyUI, queues workflows/demo_ab.json once for each variant (demo/variants.py) after a discarded warm-up of
each, times the sampler nodes from the outside, and writes videos, report.png and report.json to demo/output.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import torch
from comfy_cli.workflow_to_api import convert_ui_to_api
from tqdm import tqdm

from demo import clips, comfyui, figure, variants
from demo.server import ROOT, Server, ServerError
from jenga.report import compare
from jenga.sampling.presets import DEFAULT, PRESETS

WORKFLOW = ROOT / "workflows" / "demo_ab.json"
WEIGHTS = ROOT / "demo" / "weights"
BASE = ROOT / ".cache" / "demo"
FRAMES_PER_SECOND = 16
WARM_UP_STEPS = 2


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", help="words of the demo's vocabulary (default: the workflow's own prompt)")
    parser.add_argument("--preset", default=DEFAULT, choices=PRESETS)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--comfyui", help="folder of an installed ComfyUI (default: fetch one into .cache)")
    parser.add_argument("--output", type=Path, default=ROOT / "demo" / "output")
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU where there is a GPU")
    return parser.parse_args()


def faster_dtype() -> str:
    """bf16 where this CPU multiplies it faster than fp32, else fp32: both runs use it."""
    seconds = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        x = torch.randn(1024, 1024).to(dtype)
        x @ x
        start = time.perf_counter()
        for _ in range(5):
            x @ x
        seconds[name] = time.perf_counter() - start
    return min(seconds, key=seconds.get)


class Progress:
    """Times one node and shows its progress events as a bar."""

    def __init__(self, node: str, title: str):
        self.node, self.title = node, title
        self.seconds = 0.0
        self._start: float | None = None
        self._bar: tqdm | None = None

    def __call__(self, kind: str, data: dict) -> None:
        now = time.perf_counter()
        if kind == "executing":
            if self._start is not None:
                self.seconds += now - self._start
                self._start = None
            if data.get("node") == self.node:
                self._start = now
        elif kind == "progress" and data.get("node") == self.node:
            if self._bar is None:
                self._bar = tqdm(total=data["max"], desc=f"{self.title:>10}", unit="step", file=sys.stdout)
            self._bar.update(data["value"] - self._bar.n)
        elif kind in ("execution_success", "execution_error") and self._bar is not None:
            self._bar.close()


def run_variant(server: Server, prompt: dict, name: str, title: str) -> dict:
    """Queue one variant: its seconds in the sampler node, its frames, its report (None for dense)."""
    prefix = f"{name}/frame"
    shutil.rmtree(server.base / "output" / name, ignore_errors=True)
    edited, sampler = variants.variant(prompt, name, prefix)
    progress = Progress(sampler, title)
    outputs = server.run(edited, progress)
    folder = server.base / "output"
    images = [folder / image["subfolder"] / image["filename"] for image in outputs["frames"]["images"]]
    report = None
    if name != "dense":
        report = outputs[variants.find(edited, variants.REPORT)]["jenga_report"][0]
    return {"seconds": progress.seconds, "frames": images, "report": report}


def measure(server: Server, prompt: dict, settings: dict) -> dict[str, dict]:
    """Every variant once, after one short run of dense and Jenga that is thrown away."""
    warm_up = variants.configure(prompt, **{**settings, "steps": WARM_UP_STEPS, "seed": settings["seed"] + 1})
    for name in ("dense", "jenga"):
        edited, sampler = variants.warm_up(warm_up, name)
        server.run(edited, Progress(sampler, "warm-up"))
    configured = variants.configure(prompt, **settings)
    runs = {name: run_variant(server, configured, name, name) for name in variants.VARIANTS}
    for run in runs.values():
        run["frames"] = clips.read_frames(run["frames"])
    return runs


def summarise(runs: dict[str, dict], settings: dict) -> dict:
    """What report.json holds: settings, seconds, speed-ups and their split, kept share, quality against dense."""
    seconds = {name: run["seconds"] for name, run in runs.items()}
    quality = {}
    for name in ("carving", "jenga"):
        comparison = compare.compare(runs["dense"]["frames"], runs[name]["frames"])
        quality[name] = {
            "psnr": comparison.mean_psnr,
            "ssim": comparison.mean_ssim,
            "psnr_per_frame": comparison.psnr,
            "ssim_per_frame": comparison.ssim,
        }
    return {
        "settings": settings,
        "seconds": seconds,
        "speed_up": {
            "total": seconds["dense"] / seconds["jenga"],
            "carving": seconds["dense"] / seconds["carving"],
            "resolution": seconds["carving"] / seconds["resolution"],
            "step_reuse": seconds["resolution"] / seconds["jenga"],
        },
        "quality": quality,
        "reports": {name: run["report"] for name, run in runs.items() if run["report"]},
    }


def print_table(summary: dict) -> None:
    seconds, speed, quality = summary["seconds"], summary["speed_up"], summary["quality"]
    kept = {name: report["kept_share"] for name, report in summary["reports"].items()}
    print(f"\n{'run':<28}{'seconds':>9}{'speed-up':>10}{'kept':>8}{'PSNR':>9}{'SSIM':>8}")
    for name in variants.VARIANTS:
        row = f"{name:<28}{seconds[name]:>9.1f}{seconds['dense'] / seconds[name]:>9.2f}×"
        row += f"{kept[name]:>8.1%}" if name in kept else f"{'–':>8}"
        if name in quality:
            row += f"{quality[name]['psnr']:>8.2f}{quality[name]['ssim']:>9.4f}"
        print(row)
    parts = ", ".join(
        f"{part.replace('_', ' ')} {speed[part]:.2f}×" for part in ("carving", "resolution", "step_reuse")
    )
    print(f"\nJenga is {speed['total']:.2f}× faster than dense: {parts}.")


def write_outputs(folder: Path, runs: dict[str, dict], summary: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    dense, jenga = runs["dense"]["frames"], runs["jenga"]["frames"]
    labels = (f"dense {summary['seconds']['dense']:.1f} s", f"Jenga {summary['seconds']['jenga']:.1f} s")
    for name, clip in (
        ("dense", dense),
        ("jenga", jenga),
        ("side_by_side", compare.compose(dense, jenga, "side by side", *labels)),
    ):
        clips.write_video(clip, folder / f"{name}.mp4", FRAMES_PER_SECOND)
    (folder / "report.json").write_text(json.dumps(summary, indent=1) + "\n")
    figure.draw(summary, dense, jenga).savefig(folder / "report.png")
    print(f"\n{folder}: dense.mp4, jenga.mp4, side_by_side.mp4, report.png, report.json")


def main() -> int:
    arguments = parse_arguments()
    on_gpu = torch.cuda.is_available() and not arguments.cpu
    settings = {
        "text": arguments.prompt,
        "preset": arguments.preset,
        "seed": arguments.seed,
        "steps": arguments.steps,
        "dtype": "default" if on_gpu else faster_dtype(),
    }
    try:
        with Server(comfyui.ensure(arguments.comfyui), BASE, cpu=not on_gpu, models=WEIGHTS) as server:
            prompt = convert_ui_to_api(json.loads(WORKFLOW.read_text()), server.get("object_info"))
            device = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
            print(f"ComfyUI on {device}, {settings['dtype']}, preset {settings['preset']}, {settings['steps']} steps")
            runs = measure(server, prompt, settings)
    except (ServerError, FileNotFoundError, RuntimeError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    summary = summarise(runs, {**settings, "device": device})
    write_outputs(arguments.output, runs, summary)
    print_table(summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
