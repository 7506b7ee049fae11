"""A run's summary (jenga.report.report.Report.summary) as Markdown and as a picture."""

import torch

from .picture import figure_image, new_figure


def text(summary: dict) -> str:
    """Figures, stages, fallbacks and remarks, then every evaluation."""
    if not summary["evaluations"]:
        return "\n".join(["No run yet.", *(f"- {note}" for note in summary["notes"])])
    evaluations = summary["evaluations"]
    backends = ", ".join(f"{name}: {count}" for name, count in summary["backends"].items())
    lines = [
        "| figure | value |",
        "|---|---|",
        f"| seconds | {summary['seconds']:.2f} |",
        f"| seconds per evaluation | {summary['seconds'] / len(evaluations):.3f} ({len(evaluations)}) |",
        f"| model calls computed / reused | {summary['model_calls_computed']} / {summary['model_calls_reused']} |",
        f"| kept share of video keys | {_percent(summary['kept_share'])} |",
        f"| attention calls | {backends or 'none seen'} |",
    ]
    if summary["anchors"]:
        lines.append(f"| anchors | {summary['anchors']} of the dense attention calls |")
    peaks = [summary["peak_memory"], *summary["other_peaks"]]
    lines += [f"| peak memory | {_memory(peak)} |" for peak in peaks]
    speed, remarks = _speed(summary["speed_estimate"])
    lines.append(f"| speed from, **an estimate** | {speed} |")
    lines += ["", "| stage | scale | latent | steps | seconds |", "|---|---|---|---|---|"]
    lines += [
        f"| {index} | {stage['scale']:g} | {'×'.join(map(str, stage['latent_shape'][2:]))} | {stage['steps']} "
        f"| {stage['seconds']:.2f} |"
        for index, stage in enumerate(summary["stages"])
    ]
    remarks += [f"fallback: {reason} ({count}×)" for reason, count in summary["fallbacks"].items()]
    remarks += [f"dense by choice: {reason} ({count}×)" for reason, count in summary["dense_by_choice"].items()]
    remarks += summary["notes"]
    lines += ["", *(f"- {remark}" for remark in remarks)] if remarks else []
    lines += ["", "| evaluation | stage | seconds | computed / reused | kept | anchors |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {index} | {one['stage']} | {one['seconds']:.3f} | {one['computed']} / {one['reused']} "
        f"| {_percent(one['kept_share'])} | {one['anchors']} |"
        for index, one in enumerate(evaluations)
    ]
    return "\n".join(lines)


def picture(summary: dict, scale: int = 12) -> tuple[torch.Tensor, str]:
    """Seconds of every evaluation over the layer x evaluation map of kept shares, and why it is plain ("": it is not).

    The image is float [1, H, W, 3] in 0..1. Without matplotlib: the map alone, grey cells of `scale` pixels, layer 0 at
    the bottom, white where nothing ran.
    """
    shares = summary["kept_share_map"]
    if not summary["evaluations"]:
        return torch.zeros(1, 64, 64, 3), "nothing to draw: no run yet"
    remark = "" if shares else "no kept shares to draw: no attention call was seen"
    try:
        return _draw(summary), remark
    except ImportError:
        grid = torch.tensor([[1.0 if share is None else share for share in row] for row in shares or [[None]]])
        grid = grid.flip(0).repeat_interleave(scale, 0).repeat_interleave(scale, 1)
        return grid[None, :, :, None].repeat(1, 1, 1, 3), "matplotlib is not installed: the map has no axes"


def _draw(summary: dict) -> torch.Tensor:
    import numpy as np

    evaluations, shares = summary["evaluations"], summary["kept_share_map"]
    figure = new_figure(8, 5.5 if shares else 2.5)
    axes = figure.subplots(1 + bool(shares), 1, sharex=True, squeeze=False, height_ratios=[1, 2] if shares else [1])
    bars = axes[0, 0]
    for index in sorted({one["stage"] for one in evaluations}):
        chosen = [number for number, one in enumerate(evaluations) if one["stage"] == index]
        seconds = [evaluations[number]["seconds"] for number in chosen]
        bars.bar(chosen, seconds, width=0.9, color=f"C{index}", label=f"stage {index}")
    bars.set_ylabel("seconds")
    bars.legend(fontsize=8)
    axes[-1, 0].set_xlabel("evaluation")
    axes[-1, 0].xaxis.get_major_locator().set_params(integer=True)
    if shares:
        cells = np.array(shares, dtype=float) * 100
        image = axes[1, 0].imshow(cells, aspect="auto", origin="lower", vmin=0, interpolation="nearest")
        axes[1, 0].set_ylabel("layer")
        axes[1, 0].yaxis.get_major_locator().set_params(integer=True)
        axes[1, 0].set_title("video keys kept, % (100: dense or anchor, white: reused)", fontsize=10)
        figure.colorbar(image, ax=axes[1, 0])
    return figure_image(figure)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _memory(peak: dict | None) -> str:
    if peak is None:
        return "not measured on this device"
    growth = "" if peak["growth"] is None else f", {peak['growth'] / 2**30:.2f} GiB more than its peak before the run"
    return f"{peak['bytes'] / 2**30:.2f} GiB {peak['of']}{growth}"


def _speed(estimate: dict | None) -> tuple[str, list[str]]:
    """The factors in one line, and what to know about them."""
    if estimate is None:
        return "no model call was computed", []
    factors = [(name, estimate[name]) for name in ("carving", "resolution", "reuse")]
    known = " · ".join(f"{name} {factor:.2f}×" for name, factor in factors if factor is not None)
    unknown = ", ".join(name for name, factor in factors if factor is None)
    remarks = [f"speed estimate: {estimate['basis']}"] if estimate["basis"] else []
    remarks += [f"speed estimate: the run's timings say nothing about {unknown}"] if unknown else []
    return f"{known}; together {estimate['total']:.2f}×", remarks
