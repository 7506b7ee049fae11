"""What a demo found: report.json's figures, the table on the screen, the files in the output folder."""

import json
import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from demo import clips, figure, variants
from jenga.report import compare

FRAMES_PER_SECOND = 16
COMPARED = ("carving", "jenga")  # with dense


@dataclass
class Run:
    """One variant. seconds: in its sampler node. latent: file. report: Jenga's, None for dense.

    frames: [F, H, W, 3] in 0..1 once they are decoded.
    """

    seconds: float
    latent: Path
    report: dict | None
    frames: torch.Tensor | None = None


def summarise(runs: dict[str, Run], settings: dict) -> dict:
    """Settings, seconds, speed-ups and their split, kept share, quality against dense: of the runs that there are."""
    seconds = {name: run.seconds for name, run in runs.items()}
    quality = {}
    for name in COMPARED:
        if all(n in runs and runs[n].frames is not None for n in ("dense", name)):
            comparison = compare.compare(runs["dense"].frames, runs[name].frames)
            quality[name] = {
                "psnr": comparison.mean_psnr,
                "ssim": comparison.mean_ssim,
                "psnr_per_frame": comparison.psnr,
                "ssim_per_frame": comparison.ssim,
            }
    ran = [name for name in variants.VARIANTS if name in runs]
    speed_up = {variants.ADDED[name]: seconds[before] / seconds[name] for before, name in pairwise(ran)}
    if "jenga" in runs:
        speed_up["total"] = seconds["dense"] / seconds["jenga"]
    reports = {name: run.report for name, run in runs.items() if run.report}
    return {"settings": settings, "seconds": seconds, "speed_up": speed_up, "quality": quality, "reports": reports}


def print_table(summary: dict) -> None:
    seconds, speed, quality = summary["seconds"], summary["speed_up"], summary["quality"]
    print(f"\n{'run':<28}{'seconds':>9}{'speed-up':>10}{'kept':>8}{'PSNR':>9}{'SSIM':>8}")
    for name in filter(seconds.get, variants.VARIANTS):
        row = f"{name:<28}{seconds[name]:>9.1f}{seconds['dense'] / seconds[name]:>9.2f}×"
        report = summary["reports"].get(name)
        row += f"{report['kept_share']:>8.1%}" if report else f"{'–':>8}"
        if name in quality:
            row += f"{quality[name]['psnr']:>8.2f}{quality[name]['ssim']:>9.4f}"
        print(row)
    if "total" in speed:
        print(f"\nJenga is {speed['total']:.2f}× faster than dense: {figure.split(speed, ', ')}.")
        if "resolution" not in seconds:
            print(f"No run with resolution alone: preset {summary['settings']['preset']} has one size.")


def write(folder: Path, runs: dict[str, Run], summary: dict) -> None:
    """Latents and report.json of what ran; once the clips are decoded, videos and report.png too."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, run in runs.items():
        shutil.copyfile(run.latent, folder / f"{name}.latent")
    (folder / "report.json").write_text(json.dumps(summary, indent=1) + "\n")
    written = [*(f"{name}.latent" for name in runs), "report.json"]
    if len(summary["quality"]) == len(COMPARED):
        written += _write_pictures(folder, runs, summary)
    print(f"\n{folder}: {', '.join(written)}")


def _write_pictures(folder: Path, runs: dict[str, Run], summary: dict) -> list[str]:
    dense, jenga = runs["dense"].frames, runs["jenga"].frames
    labels = (f"dense {summary['seconds']['dense']:.1f} s", f"Jenga {summary['seconds']['jenga']:.1f} s")
    videos = {
        "dense.mp4": dense,
        "jenga.mp4": jenga,
        "side_by_side.mp4": compare.compose(dense, jenga, "side by side", *labels),
    }
    for name, clip in videos.items():
        clips.write_video(clip, folder / name, FRAMES_PER_SECOND)
    figure.draw(summary, dense, jenga).savefig(folder / "report.png")
    return [*videos, "report.png"]
