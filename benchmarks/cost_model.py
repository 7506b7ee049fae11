"""Seconds of a whole run on a large model, from the rows that benchmarks.full_model prints of single evaluations.

    cost = fit(tables(text)["HunyuanVideo 13B"])  # text: full_model's output
    cost.seconds(work)  # work: StageWork of every size of a run

An evaluation is its linear layers and all else outside attention, in proportion to tokens, and attention. A dense call
goes by tokens²; a carved one has a part for its pre-pass, selection and cross-attention, by tokens, and a part for what
it keeps, by tokens² · kept share; an anchor is a dense call, by the fastest exact attention that was measured, and a
carved one. A reused step costs nothing. What an anchor packs and unpacks, and what a change of size costs, is not in
it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch

DENSE = "dense, stock"
HEADING = re.compile(r"^## (?P<title>.+?), \d+ × \d+ × \d+(, (?P<steps>\d+) steps)?$")


@dataclass(frozen=True)
class StageWork:
    """What a run does at one size. scale: of height and width. computed: evaluations, the mean over prompts. dense and
    anchors: shares of their attention calls; kept: mean share that the carved calls keep, anchors among them.
    """

    scale: float
    computed: float
    dense: float
    anchors: float
    kept: float


def mean_work(runs: list[list[StageWork]]) -> list[StageWork]:
    """Of the runs of several prompts, by scale. Shares are means over computed evaluations."""
    merged = []
    for scale in sorted({stage.scale for work in runs for stage in work}):
        stages = [stage for work in runs for stage in work if stage.scale == scale]
        computed = sum(stage.computed for stage in stages)
        shares = (
            sum(stage.computed * getattr(stage, name) for stage in stages) / (computed or 1)
            for name in ("dense", "anchors", "kept")
        )
        merged.append(StageWork(scale, computed / len(runs), *shares))
    return merged


@dataclass(frozen=True)
class StepCost:
    """Seconds of one evaluation at full size, by part. rest: outside attention. dense: attention of the host, nothing
    carved. anchor: the same where Jenga asks for it. carved: attention at a kept share of 0; share: what a kept share
    of 1 adds to it.
    """

    rest: float
    dense: float
    anchor: float
    carved: float
    share: float

    def evaluation(self, stage: StageWork) -> float:
        """Seconds of one evaluation of a stage."""
        tokens = stage.scale**2
        carved = self.carved * tokens + self.share * stage.kept * tokens**2
        exact = (stage.dense * self.dense + stage.anchors * self.anchor) * tokens**2
        return self.rest * tokens + (1 - stage.dense) * carved + exact

    def seconds(self, work: Iterable[StageWork]) -> float:
        """Of a whole run."""
        return sum(stage.computed * self.evaluation(stage) for stage in work)


def fit(rows: dict[str, dict[str, float]]) -> StepCost:
    """Rows of one model's table: name -> column -> number. The host's attention is that of DENSE; anchors take the
    fastest of all that keep everything: our own kernel has that rate where it is used for them (HOPPER.md).

    Carved rows are those that keep less than all; there must be two of different shares. Least squares over more;
    rest is the mean over all rows. Raises ValueError otherwise.
    """
    if DENSE not in rows:
        raise ValueError(f"fit: rows must have {DENSE!r}, got {', '.join(rows) or 'none'}; run benchmarks.full_model")
    carved = [row for row in rows.values() if row["kept share"] < 1]
    anchor = min(row["attention s"] for row in rows.values() if row["kept share"] == 1)
    shares = torch.tensor([row["kept share"] for row in carved], dtype=torch.float64)
    if len(shares.unique()) < 2:
        raise ValueError(f"fit: rows must have two carved runs of different kept shares, got {shares.tolist()}")
    attention = torch.tensor([row["attention s"] for row in carved], dtype=torch.float64)
    terms = torch.stack([torch.ones_like(shares), shares], 1)
    base, slope = torch.linalg.lstsq(terms, attention[:, None]).solution[:, 0].tolist()
    rest = sum(row["rest s"] for row in rows.values()) / len(rows)
    return StepCost(rest, rows[DENSE]["attention s"], anchor, base, slope)


def tables(text: str, steps: int | None = None) -> dict[str, dict[str, dict[str, float]]]:
    """Output of benchmarks.full_model -> title -> run -> column -> number; cells that are none are left out. Of its
    tables those of single evaluations, or those of whole runs of so many steps.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    rows, columns = None, []
    for line in text.splitlines():
        if line.startswith("## "):
            heading, columns = HEADING.match(line), []
            of_steps = heading and (int(heading["steps"]) if heading["steps"] else None)
            rows = found.setdefault(heading["title"], {}) if heading and of_steps == steps else None
        elif rows is not None and line.startswith("|"):
            name, *cells = (cell.strip() for cell in line.strip().strip("|").split("|"))
            if not columns:
                columns = cells
            elif not set(name) <= {"-"}:
                rows[name] = {
                    key: float(cell) for key, cell in zip(columns, cells, strict=True) if re.fullmatch(r"[\d.]+", cell)
                }
    return found
