"""The quality dial in words, made from its rows: tooltip of the nodes, table of the help page."""

from .anchors import relative_cost
from .qualities import QUALITIES, Quality

STEPS, LAYERS = 30, 40  # of the run whose work is told
TAIL = 1 / 64  # work of the means that stand for what is dropped, against dense


def tooltip(custom: str) -> str:
    """A line for each quality, and one for the choice that is none, by its name `custom`."""
    return "\n".join(
        [
            f"Attention work in a run of {STEPS} steps, against dense.",
            *(f"{name}: {_percent(_work(quality))}. Keeps {_keeps(quality)}." for name, quality in QUALITIES.items()),
            f"{custom}: density and anchor_distance.",
            "Anchors need memory in proportion to tokens and width: 0.18 GB per layer and conditioning for a 720p "
            "HunyuanVideo clip. With anchors a sampler preset's kept shares do not count.",
        ]
    )


def table() -> str:
    """Markdown: a row for each quality."""
    head = ("quality", f"attention work in {STEPS} steps, against dense", "keeps")
    rows = [(name, f"{_percent(_work(quality))}", _keeps(quality)) for name, quality in QUALITIES.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows))


def _work(quality: Quality) -> float:
    if not quality.anchors:
        return quality.density + TAIL
    long = quality.anchors[0]
    return relative_cost(STEPS, LAYERS, long.distance, long.density + TAIL)


def _keeps(quality: Quality) -> str:
    alone = _percent(quality.density)
    if not quality.anchors:
        return f"{alone} of the blocks; no anchors"
    long, few = quality.anchors
    return (
        f"{_percent(long.density)}, and each layer is dense on every {long.distance}th step, in turns; below "
        f"{long.min_steps} steps at one size on the first alone, keeping {_percent(few.density)}; below "
        f"{few.min_steps} on none, keeping {alone}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"  # no line ends between the two
