"""The clips of one run, one for each prompt, as what was measured of them; a file each, so that runs can be compared
later and a benchmark that was cut short goes on.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks import clip_metrics, frame_quality
from benchmarks.cost_model import StageWork, mean_work
from demo.probe import Probe, prepare

COMPARED = ("psnr", "ssim")  # with the dense run of the same noise


@dataclass(frozen=True)
class ClipSet:
    """One row a prompt, fp64 on the CPU but for logits [N, words] and features [N, D], fp32. psnr and ssim: NaN where
    there is nothing to compare with. seconds: of sampling; calls: computed model calls; cost: attention work of these
    relative to dense, NaN without a report. work: what a run does, the mean over prompts; empty where it is not known.
    notes: fallbacks of the run.
    """

    logits: torch.Tensor
    features: torch.Tensor
    smoothness: torch.Tensor
    sharpness: torch.Tensor
    psnr: torch.Tensor
    ssim: torch.Tensor
    seconds: torch.Tensor
    calls: torch.Tensor
    cost: torch.Tensor
    work: tuple[StageWork, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.logits)

    def save(self, path: Path) -> None:
        work = json.dumps([asdict(stage) for stage in self.work])
        tensors = {name: getattr(self, name) for name in COLUMNS}
        save_file(tensors, path, metadata={"work": work, "notes": json.dumps(self.notes)})

    @staticmethod
    def load(path: Path) -> "ClipSet":
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in COLUMNS}
            work = tuple(StageWork(**stage) for stage in json.loads(file.metadata()["work"]))
            return ClipSet(**tensors, work=work, notes=tuple(json.loads(file.metadata()["notes"])))


COLUMNS = tuple(field.name for field in fields(ClipSet) if field.type is torch.Tensor)


class Examiner:
    """Measures clips one by one and hands out the set."""

    def __init__(self, probe: Probe):
        self._probe = probe
        self._rows: dict[str, list] = {name: [] for name in COLUMNS}
        self._work: list[list[StageWork]] = []

    @torch.inference_mode()
    def add(
        self,
        frames: torch.Tensor,
        expected: torch.Tensor | None = None,
        *,
        seconds: float = 0.0,
        calls: float = 0.0,
        cost: float = float("nan"),
        work: list[StageWork] | None = None,
    ) -> None:
        """A clip [F, H, W, 3] in 0..1 on the probe's device; expected: that of dense sampling on the same noise."""
        if work is not None:
            self._work.append(work)
        logits, features = self._probe(prepare(frames.movedim(-1, 0)[None]))
        compare = {name: float("nan") for name in COMPARED}
        if expected is not None:
            compare = {name: getattr(frame_quality, name)(frames, expected) for name in COMPARED}
        measured = {
            "logits": logits[0],
            "features": features[0],
            "smoothness": clip_metrics.motion_smoothness(frames),
            "sharpness": clip_metrics.sharpness(frames),
            **compare,
            "seconds": seconds,
            "calls": calls,
            "cost": cost,
        }
        for name, value in measured.items():
            self._rows[name].append(value)

    def finish(self, notes: tuple[str, ...] = ()) -> ClipSet:
        columns = {
            name: torch.stack(values).cpu() if torch.is_tensor(values[0]) else torch.tensor(values, dtype=torch.float64)
            for name, values in self._rows.items()
        }
        return ClipSet(**columns, work=tuple(mean_work(self._work)), notes=notes)
