"""report.png: what ran, how fast, how close to dense, what was kept, and frames of both clips."""

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from demo.variants import ADDED
from jenga.report import compare


def draw(summary: dict, dense: torch.Tensor, jenga: torch.Tensor) -> Figure:
    """A figure of three rows: table and kept-share map, metrics over frames, film strips of both clips.

    summary: demo.summary.summarise's; dense, jenga: clips [F, H, W, 3] in 0..1.
    """
    figure = Figure(figsize=(13, 13), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    settings = summary["settings"]
    figure.suptitle(
        f"Jenga against dense, same noise: {summary['speed_up']['total']:.2f}× faster\n"
        f"preset {settings['preset']}, {settings['steps']} steps, {settings['dtype']}, {settings['device']}",
        fontsize=14,
    )
    table_row, metric_row, strip_rows = figure.subfigures(3, 1, height_ratios=[1.0, 0.9, 1.6])
    left, right = table_row.subplots(1, 2, width_ratios=[1.15, 1])
    _table(left, summary)
    _kept_share(right, summary["reports"]["jenga"])
    for axes, name in zip(metric_row.subplots(1, 2), ("carving", "jenga"), strict=True):
        quality = summary["quality"][name]
        compare.draw_metrics(axes, compare.Comparison(quality["psnr_per_frame"], quality["ssim_per_frame"]))
        axes.set_title(f"{name} against dense: {quality['psnr']:.2f} dB, SSIM {quality['ssim']:.4f}", fontsize=11)
    _strips(strip_rows, dense, jenga)
    return figure


def _table(axes, summary: dict) -> None:
    axes.axis("off")
    cells = []
    for name, seconds in summary["seconds"].items():
        report, quality = summary["reports"].get(name), summary["quality"].get(name)
        cells.append(
            [
                name,
                f"{seconds:.1f}",
                f"{summary['seconds']['dense'] / seconds:.2f}×",
                f"{report['kept_share']:.1%}" if report else "–",
                f"{quality['psnr']:.2f}" if quality else "–",
                f"{quality['ssim']:.4f}" if quality else "–",
            ]
        )
    drawn = axes.table(cells, colLabels=["run", "seconds", "speed-up", "kept", "PSNR, dB", "SSIM"], loc="upper center")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(10)
    drawn.scale(1, 1.6)
    parts = split(summary["speed_up"], " · ")
    axes.text(0.5, 0.12, parts, ha="center", transform=axes.transAxes, fontsize=11)


def split(speed_up: dict[str, float], separator: str) -> str:
    """The speed-up by its parts, in words."""
    return separator.join(
        f"{part.replace('_', ' ')} {speed_up[part]:.2f}×" for part in ADDED.values() if part in speed_up
    )


def _kept_share(axes, report: dict) -> None:
    """Layer × step map of the share of key tokens kept; a step that computed nothing stays white."""
    kept = np.array(report["kept_share_map"], dtype=float)
    image = axes.imshow(kept * 100, aspect="auto", origin="lower", vmin=0, cmap="viridis", interpolation="nearest")
    axes.set_xlabel("step")
    axes.set_ylabel("layer")
    axes.set_title("share of keys kept, % (white: step reused)", fontsize=11)
    axes.figure.colorbar(image, ax=axes)


def _strips(figure, dense: torch.Tensor, jenga: torch.Tensor) -> None:
    frames = (0, dense.shape[0] // 2, dense.shape[0] - 1)
    for row, (name, clip) in zip(figure.subplots(2, 3), (("dense", dense), ("Jenga", jenga)), strict=True):
        for axes, frame in zip(row, frames, strict=True):
            axes.imshow(clip[frame].numpy())
            axes.set_title(f"{name}, frame {frame}", fontsize=10)
            axes.axis("off")
